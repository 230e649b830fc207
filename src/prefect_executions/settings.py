"""What an installation sets once: `PREFECT_INTEGRATIONS_EXECUTIONS_*`, or `prefect.toml`."""

from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import Field, SecretStr


class ExecutionsSettings(PrefectBaseSettings):
    """Settings of prefect-executions, read where Prefect reads its own."""

    model_config = build_settings_config(("integrations", "executions"))

    store: str = Field(
        default="default",
        description="Name of the Execution Store block that executions are kept in.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description=(
            "The key that callers of the REST service send as a bearer token. Without one the "
            "service only listens on loopback."
        ),
    )
    max_body_bytes: int = Field(
        default=16 << 20,
        gt=0,
        description="The largest request body that the REST service takes, in bytes.",
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
    pending_seconds: float = Field(
        default=600,
        ge=10,
        description=(
            "After how many seconds in Pending a run is scheduled again: its worker has died "
            "before it began. Longer than your infrastructure takes to start a process."
        ),
    )
