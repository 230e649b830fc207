"""Settings of an installation: `PREFECT_INTEGRATIONS_EXECUTIONS_*`, or `prefect.toml`."""

from typing import Annotated

from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import AfterValidator, Field, SecretStr


def _require_name(deployment: str) -> str:
    if [bool(part) for part in deployment.split("/")] != [True, True]:
        raise ValueError("give a deployment's full name: `flow-name/deployment-name`")
    return deployment


DeploymentName = Annotated[str, AfterValidator(_require_name)]


class ExecutionsSettings(PrefectBaseSettings):
    """Settings of prefect-executions, which Prefect reads like its own."""

    model_config = build_settings_config(("integrations", "executions"))

    store: str = Field(
        default="default",
        description="Name of the Execution Store block that executions are kept in.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description=(
            "A key to the REST service that may do everything, beside those in blocks of type "
            "Execution Key. Without any key the service only listens on loopback."
        ),
    )
    max_body_bytes: int = Field(
        default=16 << 20,
        gt=0,
        description="The largest request body that the REST service takes, in bytes.",
    )
    rate_limit: str = Field(
        default="6000/minute",
        description="How many requests each key may send to the REST service, as in 100/minute.",
    )
    failure_limit: str = Field(
        default="300/minute",
        description="How many wrong keys each address may send to the REST service.",
    )
    rate_limit_storage: str = Field(
        default="memory://",
        description=(
            "Where requests are counted: memory:// counts in each replica, redis://… for all of "
            "them together."
        ),
    )
    stream_limit: int = Field(
        default=100,
        ge=1,
        description="How many streams of events each key may have open in one process.",
    )
    cache_bytes: int = Field(
        default=64 << 20,
        ge=0,
        description="How much of what was read from the store the REST service keeps in memory.",
    )
    away_seconds: float = Field(
        default=5,
        ge=1,
        description=(
            "Within how many seconds the REST service answers 503 when it gets no answer from the "
            "store or from Prefect. Longer than the largest state takes to the store and back."
        ),
    )
    public_docs: bool = Field(
        default=False, description="Whether /docs and /openapi.json want no key."
    )
    public_metrics: bool = Field(default=False, description="Whether /metrics wants no key.")
    cors_origins: list[str] = Field(
        default=[],
        description="Origins of web pages that may call the REST service from a browser, as JSON.",
    )
    heartbeat_seconds: float = Field(
        default=10,
        ge=1,
        description="How often a running execution says that it is alive, in seconds.",
    )
    silence_seconds: float = Field(
        default=35,
        ge=10,
        description=(
            "After how many seconds without a heartbeat an execution counts as crashed. Prefect "
            "keeps events up to five seconds late: give it three heartbeats and five seconds."
        ),
    )
    agent_silence_seconds: float = Field(
        default=900,
        ge=10,
        description=(
            "After how many seconds without a report an agent outside Prefect counts as crashed, "
            "if its execution has no checkpoint_interval_seconds: three of these otherwise."
        ),
    )
    service_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description=(
            "Where people reach the REST service, for the links on the pages of flow runs, as in "
            "https://executions.example.com."
        ),
    )
    deployments: dict[str, str] = Field(
        default={},
        description=(
            "What runs the executions of a task type that are created without a deployment, as "
            'JSON: {"research": "research/default"}. Others are run by agents outside Prefect.'
        ),
    )
    allowed_deployments: list[DeploymentName] | None = Field(
        default=None,
        description=(
            "The only deployments that executions may be created of over REST, whatever the key, "
            'as JSON: ["research/default"]; agent/outside-prefect is that of agents outside '
            "Prefect. By default all."
        ),
    )
    retention_seconds: float = Field(
        default=1,
        ge=0.1,
        description=(
            "For how many seconds of each look, every heartbeat_seconds / 2, a supervisor removes "
            "what need not be kept. With more of them a crash is noticed so much later."
        ),
    )
    pending_seconds: float = Field(
        default=600,
        ge=10,
        description=(
            "After how many seconds in Pending a run is scheduled again: its worker has died "
            "before it began. Longer than your infrastructure takes to start a process."
        ),
    )
