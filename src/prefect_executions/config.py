"""How an execution is run, and the words for it: its config, status, time-outs, forks, limits."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

NAME_LENGTH = 200
DESCRIPTION_LENGTH = 10_000
MAX_SECONDS = 1e9  # thirty years

# PostgreSQL, which Prefect may use, can't store a NUL in a text.
_TEXT = r"^[^\x00]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LENGTH, pattern=_TEXT)]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_LENGTH, pattern=_TEXT)]


def _no_number(value: Any) -> Any:
    """Refuse a number, which pydantic would read as seconds since 1970."""
    if isinstance(value, int | float) or (
        isinstance(value, str) and re.fullmatch(r"\s*[-+]?[0-9.]+\s*", value)
    ):
        raise ValueError("give a time as in 2026-11-24T10:00:00Z")
    return value


def _no_word(value: Any) -> Any:
    """Refuse what pydantic would read as a number: true, and "1"."""
    if isinstance(value, bool | str):
        raise ValueError("give a number")
    return value


# Comes after the limits of a number, so that they are in the JSON schema.
NoWord = BeforeValidator(_no_word)
Time = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class Status(StrEnum):
    """Where an execution stands; Prefect's state of its flow run, in five words."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    TERMINATED = "terminated"

    @property
    def ended(self) -> bool:
        """Whether the execution has ended: nothing more happens unless it is resumed."""
        return self in (Status.COMPLETED, Status.FAILED, Status.TERMINATED)


class OnTimeout(StrEnum):
    """What becomes of an execution when the time until which it was paused has come."""

    RESUME = "resume"
    FAIL = "fail"
    TERMINATE = "terminate"


class Effects(StrEnum):
    """What a fork does about steps."""

    RECORD = "record"  # what was recorded by its checkpoint answers; other steps run
    REPLAY = "replay"  # all that the origin has ever recorded answers; other steps run
    REFUSE = "refuse"  # all that the origin has ever recorded answers; another step fails the fork


_OverZero = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False), NoWord]
_FromZero = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False), NoWord]


class ExecutionConfig(BaseModel):
    """How an execution is run. A field that is null is left to the flow's own setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_duration_seconds: _OverZero | None = Field(
        None, description="Longest active time, in seconds, over all attempts; then it fails."
    )
    checkpoint_interval_seconds: _OverZero | None = Field(
        None,
        description="How often the state that a flow has published last is saved, in seconds. Of "
        "an agent outside Prefect: how often it reports; silence for three of these is a crash.",
    )
    max_retries: Annotated[int, Field(ge=0, le=1_000), NoWord] | None = Field(
        None, description="How often a failed attempt is tried again."
    )
    retry_delay_seconds: _FromZero | None = Field(
        None, description="Seconds between a failure and the next try."
    )
    keep_checkpoints: Annotated[int, Field(ge=1, le=1_000_000), NoWord] | None = Field(
        None, description="How many of the newest checkpoints stay; older ones are removed."
    )
    keep_labelled: bool | None = Field(
        None, description="Whether checkpoints with a label stay, however old they are."
    )
    delete_after_seconds: _FromZero | None = Field(
        None, description="Seconds after its end when the execution is deleted."
    )

    @property
    def removes(self) -> bool:
        """Whether the retention of this config removes anything."""
        return self.keep_checkpoints is not None or self.delete_after_seconds is not None

    def over(self, default: "ExecutionConfig") -> "ExecutionConfig":
        """These settings, with those of `default` where a field is null."""
        return default.model_copy(update=self.model_dump(exclude_none=True))
