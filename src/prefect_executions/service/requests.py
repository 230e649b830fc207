"""The bodies of requests, validated before a route runs."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from prefect_executions.config import (
    Description,
    Effects,
    ExecutionConfig,
    Name,
    NoWord,
    OnTimeout,
    Time,
)
from prefect_executions.executions.plans import EMPTY
from prefect_executions.ids import canonical
from prefect_executions.labels import Label
from prefect_executions.models import ExecutionFilter

MAX_LIMIT = 200  # items of a page
MAX_FORKS = 100  # that one request makes
MAX_ATTEMPT = 999_999_999  # the highest number in the log

_Id = Annotated[str, AfterValidator(canonical)]
Reason = Annotated[Description, Field(min_length=1, max_length=1_000)]
Attempt = Annotated[int, Field(ge=0, le=MAX_ATTEMPT), NoWord]


def _empty() -> Any:
    return EMPTY


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _example(**example: Any) -> ConfigDict:
    """A model's configuration, with an example for the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [example]})


class NewExecution(_Body):
    """What create takes."""

    model_config = _example(
        name="Survey of the spring",
        description="What was published on checkpoints?",
        agent_id="agent-7",
        task_type="research",
        state={"done": []},
        config={"checkpoint_interval_seconds": 60, "max_retries": 3},
    )

    name: Name = Field(description="What it is called.")
    deployment: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="`flow-name/deployment-name`, or a deployment's id: what runs it. By default "
        "what the service's settings name for its task type, or an agent outside Prefect.",
    )
    parameters: dict[str, Any] = Field({}, description="The parameters of the deployment's flow.")
    description: Description | None = Field(None, description="What it is for.")
    agent_id: Name | None = Field(None, description="The agent that it belongs to.")
    task_type: Name | None = Field(None, description="The kind of task.")
    state: Any = Field(
        default_factory=_empty, description="The first state, any JSON; by default `{}`."
    )
    from_checkpoint: str | None = Field(
        None,
        pattern=r"^exec_[0-9a-f]{32}/ckpt_[0-9]{6,9}$",
        description="Take the first state from this checkpoint: `exec_…/ckpt_…`.",
    )
    config: ExecutionConfig | None = Field(None, description="How it is run.")


class NewCheckpoint(_Body):
    """What saving a checkpoint takes."""

    model_config = _example(state={"done": ["one", "two"]}, label="two", attempt=1)

    state: Any = Field(description="The state to save, any JSON.")
    label: Label | None = Field(
        None,
        description="What people see in the list of checkpoints: a single line, without control "
        "characters.",
    )
    attempt: Attempt | None = Field(
        None, description="Save it only as this attempt, if it is the newest."
    )
    reason: Reason | None = Field(
        None, description="Why it is saved; it is shown with the checkpoint."
    )
    after: str | None = Field(
        None,
        pattern=r"^ckpt_[0-9]{6,9}$",
        description="The checkpoint that was corrected, `continues_from` of the execution: nothing "
        "is saved (409) when the execution continues from another one by now.",
    )


class Pause(_Body):
    """What pause takes."""

    model_config = _example(
        reason="Let me look at that.", until="2026-11-24T18:00:00Z", on_timeout="resume"
    )

    reason: Description | None = Field(None, description="Why; the Prefect UI shows it.")
    until: Time | None = Field(
        None, description="When the pause ends by itself, within a minute; by default never."
    )
    on_timeout: OnTimeout = Field(
        OnTimeout.RESUME, description="What becomes of the execution then."
    )


def _not_elsewhere(deployment: Any) -> None:
    """Refuse another deployment: Prefect has no request that gives a flow run one."""
    if deployment is not None:
        raise PydanticCustomError(
            "not_elsewhere",
            "an execution stays with its deployment. To go on in another one, with the recorded "
            'steps, fork it: POST …/fork with {"deployment": "flow-name/deployment-name"}, and '
            "the same checkpoint_id if there is one",
        )


def _of_roll_back(reason: str | None, info: ValidationInfo) -> str | None:
    """Refuse a reason that nothing would keep."""
    if reason is not None and info.data.get("checkpoint_id") is None:
        raise PydanticCustomError(
            "not_kept", "a reason is kept with a roll-back: give checkpoint_id, too"
        )
    return reason


class Resume(_Body):
    """What resume takes."""

    model_config = _example(checkpoint_id="ckpt_000042")

    checkpoint_id: str | None = Field(
        None,
        max_length=100,
        description="Roll back to this checkpoint; `ckpt_000000` starts over. By default the "
        "newest.",
    )
    input: dict[str, Any] | None = Field(
        None, description="The answer to what the flow has asked with `run.ask`."
    )
    force: bool = Field(
        False,
        description="With `checkpoint_id`: go back also if it is running; it is paused first.",
    )
    reason: Annotated[Reason | None, AfterValidator(_of_roll_back)] = Field(
        None, description="With `checkpoint_id`: why it is rolled back; it is kept with that."
    )
    deployment: Annotated[None, BeforeValidator(_not_elsewhere), SkipJsonSchema()] = None


class Heartbeat(_Body):
    """What a heartbeat takes."""

    model_config = _example(attempt=1)

    attempt: Attempt = Field(description="The attempt that is alive.")


class Complete(_Body):
    """What complete takes."""

    model_config = _example(state={"done": ["one", "two"]}, result={"found": 2}, attempt=1)

    state: Any = Field(
        default_factory=_empty, description="The last state; by default the newest that was saved."
    )
    result: Any = Field(None, description="What it has come to, any JSON up to 256 KiB.")
    attempt: Attempt | None = Field(
        None, description="Complete it only as this attempt, if it is the newest."
    )


class Fail(_Body):
    """What fail takes."""

    model_config = _example(error="The disk is full.", attempt=1)

    error: Annotated[Description, Field(min_length=1)] = Field(description="What happened.")
    state: Any = Field(
        default_factory=_empty, description="The last state; by default the newest that was saved."
    )
    attempt: Attempt | None = Field(
        None, description="Fail it only as this attempt, if it is the newest."
    )


class Fork(_Body):
    """What fork takes."""

    model_config = _example(checkpoint_id="ckpt_000042", name="Survey, another way")

    checkpoint_id: str | None = Field(
        None, max_length=100, description="The checkpoint to start from; by default the newest."
    )
    name: Name | None = Field(
        None, description="What the new one is called; by default as the old one, with `(fork)`."
    )
    deployment: str | None = Field(
        None,
        max_length=500,
        description="The deployment that runs it, by name or id; by default that of the old one.",
    )
    state: Any = Field(
        default_factory=_empty,
        description="The first state, any JSON; by default that of the checkpoint.",
    )
    patch: list[dict[str, Any]] | None = Field(
        None,
        max_length=10_000,
        description="A JSON Patch (RFC 6902) to the state of the checkpoint, in place of `state`.",
    )
    parameters: dict[str, Any] | None = Field(
        None, description="Parameters of the flow, over those of the old one."
    )
    config: ExecutionConfig | None = Field(
        None, description="How it is run, over the config of the old one."
    )
    effects: Effects = Field(
        Effects.RECORD,
        description="`record`: steps that were recorded by the checkpoint answer, and others run; "
        "`replay`: all steps that the old one has ever recorded answer, and others run; `refuse`: "
        "they answer, and any other step fails the fork before it runs.",
    )
    count: Annotated[int, Field(ge=1, le=MAX_FORKS), NoWord] = Field(
        1, description="How many of them, numbered in their names."
    )


class Action(StrEnum):
    """What is done to many executions."""

    PAUSE = "pause"
    RESUME = "resume"
    DELETE = "delete"


_NULL: Any = {"type": "null"}


class Bulk(_Body):
    """What bulk takes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"action": "pause", "filter": {"agent_id": "agent-7"}}],
            "oneOf": [
                {
                    "required": ["ids"],
                    "properties": {"ids": {"type": "array"}, "filter": _NULL, "cursor": _NULL},
                },
                {
                    "required": ["filter"],
                    "properties": {"filter": {"type": "object"}, "ids": _NULL},
                },
            ],
        }
    )

    action: Action = Field(description="What is done to each.")
    ids: Annotated[list[_Id], Field(min_length=1, max_length=MAX_LIMIT)] | None = Field(
        None, description="The executions; or give `filter`."
    )
    filter: ExecutionFilter | None = Field(None, description="Which; or give `ids`.")
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT), NoWord] = Field(
        50, description="How many at once, of a filter."
    )
    cursor: str | None = Field(
        None, max_length=10_000, description="`next_cursor` of the same request before."
    )
    reason: Description | None = Field(None, description="Why they are paused.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.ids is None) is (self.filter is None):
            raise ValueError("give one of the two: ids, or filter (an empty one means all)")
        if self.ids is not None and self.cursor is not None:
            raise ValueError("cursor goes with filter, not with ids")
        return self
