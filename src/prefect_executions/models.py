"""What an execution is: its values, its ids, and which changes of status are allowed."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from prefect_executions.errors import CheckpointNotFound, ExecutionConflict, ExecutionNotFound

NAME_LENGTH = 200
DESCRIPTION_LENGTH = 10_000
LABEL_LENGTH = 200

# PostgreSQL, which may stand behind Prefect, holds no NUL in a text.
_TEXT = r"^[^\x00]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LENGTH, pattern=_TEXT)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=LABEL_LENGTH, pattern=_TEXT)]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_LENGTH, pattern=_TEXT)]


class Status(StrEnum):
    """Where an execution stands; Prefect's state of its flow run, in five words."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    TERMINATED = "terminated"

    @property
    def ended(self) -> bool:
        """Whether nothing happens any more unless it is resumed."""
        return self in (Status.COMPLETED, Status.FAILED, Status.TERMINATED)


class OnTimeout(StrEnum):
    """What becomes of an execution when the time until which it was paused has come."""

    RESUME = "resume"
    FAIL = "fail"
    TERMINATE = "terminate"


def require_label(label: str) -> None:
    """Check a checkpoint's label.

    Raises:
        ValueError: it is empty, or longer than `LABEL_LENGTH`.
    """
    if not 1 <= len(label) <= LABEL_LENGTH:
        raise ValueError(f"label: has {len(label)} characters; give 1 to {LABEL_LENGTH}.")


def require_pausable(execution_id: str, status: Status) -> None:
    """Check that an execution can be paused: running, or paused already.

    Raises:
        ExecutionConflict: it has ended.
    """
    if status.ended:
        raise ExecutionConflict(execution_id, "pause", status, "Only a running one can be paused.")


def require_open(execution_id: str, status: Status) -> None:
    """Check that a checkpoint can be saved by hand: the execution has not ended.

    Raises:
        ExecutionConflict: it has.
    """
    if status.ended:
        hint = "Its history is closed." if status is Status.COMPLETED else "Resume it first."
        raise ExecutionConflict(execution_id, "checkpoint", status, hint)


def require_resumable(execution_id: str, status: Status) -> None:
    """Check that an execution can be resumed: paused, failed or terminated.

    Raises:
        ExecutionConflict: it runs, or has completed.
    """
    if status in (Status.RUNNING, Status.COMPLETED):
        hint = (
            "Pause it first."
            if status is Status.RUNNING
            else "Paused, failed and terminated ones can be resumed."
        )
        raise ExecutionConflict(execution_id, "resume", status, hint)


class ExecutionConfig(BaseModel):
    """How an execution is run. A field that is null is left to the flow's own setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_duration_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Longest active time, in seconds."
    )
    checkpoint_interval_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds between automatic checkpoints."
    )
    max_retries: int | None = Field(
        None, ge=0, le=1_000, description="How often a failed attempt is tried again."
    )
    retry_delay_seconds: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Seconds between a failure and the next try."
    )

    def over(self, default: "ExecutionConfig") -> "ExecutionConfig":
        """These settings, and where a field is null, those of `default`."""
        return default.model_copy(update=self.model_dump(exclude_none=True))


class Checkpoint(BaseModel):
    """A saved state of an execution."""

    id: str = Field(description="`ckpt_` and the number of its log entry.")
    label: str | None = Field(description="The label given when it was saved.")
    state: Any = Field(None, description="The state; null when states were not asked for.")
    timestamp: datetime = Field(description="When it was saved.")
    attempt: int = Field(description="The attempt it was saved in, from 1; 0: before the first.")
    size: int = Field(description="Bytes of the state as JSON.")


class PrefectRun(BaseModel):
    """What Prefect knows of an execution."""

    flow_run_id: UUID = Field(description="The flow run that the execution is.")
    state_name: str = Field(description="Prefect's name of its state.")
    deployment: UUID | None = Field(description="The id of the deployment that runs it.")
    attempt: int = Field(description="How many processes have begun to run it.")
    url: str | None = Field(description="Its page in the Prefect UI.")


class Execution(BaseModel):
    """A durable execution."""

    id: str = Field(description="`exec_` and the 32 hex digits of the flow run's id.")
    name: str = Field(description="What it is called.")
    description: str | None = Field(description="What it is for.")
    agent_id: str | None = Field(description="The agent that it belongs to.")
    task_type: str | None = Field(description="The kind of task.")
    status: Status = Field(description="Where it stands.")
    state: Any = Field(description="The newest durable state.")
    checkpoints: list[Checkpoint] = Field(description="Its checkpoints, newest first.")
    config: ExecutionConfig = Field(description="How it is run.")
    elapsed_seconds: float = Field(description="Active time, in seconds: pauses do not count.")
    started_at: datetime | None = Field(description="When it first ran.")
    completed_at: datetime | None = Field(description="When it ended.")
    updated_at: datetime = Field(description="When its status or state last changed.")
    prefect: PrefectRun = Field(description="What Prefect knows of it.")


class StepBehind(BaseModel):
    """A step that was done, and that a roll-back has forgotten: its effects have happened."""

    step: str = Field(description="Its name.")
    recorded_at: datetime = Field(description="When it was done.")
    undo: bool = Field(description="Whether it is undone before the execution goes on.")


class Resumed(Execution):
    """What a resume answers."""

    steps_behind: list[StepBehind] = Field(
        [], description="The steps that the roll-back has forgotten, newest first."
    )


_EXECUTION_ID = re.compile(r"exec_([0-9a-f]{32})")
_CHECKPOINT_ID = re.compile(r"ckpt_([0-9]{6}|[1-9][0-9]{6,8})")


def execution_id(flow_run_id: UUID) -> str:
    """The id of the execution that a flow run is."""
    return f"exec_{flow_run_id.hex}"


def flow_run_id(execution_id: str) -> UUID:
    """The id of the flow run that an execution is.

    Raises:
        ExecutionNotFound: this is no execution's id.
    """
    if not (match := _EXECUTION_ID.fullmatch(execution_id)):
        raise ExecutionNotFound(execution_id)
    return UUID(match[1])


def checkpoint_id(seq: int) -> str:
    """The id of the checkpoint in log entry `seq`."""
    return f"ckpt_{seq:06d}"


def checkpoint_seq(execution_id: str, checkpoint_id: str) -> int:
    """The number of the log entry that a checkpoint is.

    Raises:
        CheckpointNotFound: this is no checkpoint's id.
    """
    if not (match := _CHECKPOINT_ID.fullmatch(checkpoint_id)):
        raise CheckpointNotFound(execution_id, checkpoint_id)
    return int(match[1])
