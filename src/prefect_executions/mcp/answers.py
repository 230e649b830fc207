"""What the tools answer: executions and checkpoints without their states, and parts of a state."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from prefect_executions import serialization
from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.models import (
    Checkpoint,
    Execution,
    ForkOrigin,
    PrefectRun,
    Question,
    StepBehind,
)

RESULT_BYTES = 4_000  # of a result as JSON that comes along with its execution

JsonKind = Literal["object", "array", "string", "number", "boolean", "null"]


class CheckpointLine(BaseModel):
    """A checkpoint, without its state."""

    id: str = Field(description="For get_state, diff_checkpoints, fork and roll back.")
    label: str | None = Field(description="The label given when it was saved.")
    timestamp: datetime = Field(description="When it was saved.")
    attempt: int = Field(description="The attempt that it was saved in.")
    size: int = Field(description="Bytes of its state as JSON.")
    saved_by: str | None = Field(description="Who saved it by hand: the name of their key.")

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """A checkpoint without its state."""
        return cls.model_validate(checkpoint, from_attributes=True)


class CheckpointLines(BaseModel):
    """A part of an execution's checkpoints."""

    items: list[CheckpointLine] = Field(description="The checkpoints, newest first.")
    next_cursor: str | None = Field(description="For the next page; null: none follows.")


class ExecutionReport(BaseModel):
    """An execution, without its state: get_state reads that, by path."""

    id: str = Field(description="Its id, which is also that of its task.")
    name: str = Field(description="What it is called.")
    description: str | None = Field(description="What it is for.")
    agent_id: str | None = Field(description="The agent that it belongs to.")
    task_type: str | None = Field(description="The kind of task.")
    status: Status = Field(description="Where it stands.")
    prefect: PrefectRun = Field(
        description="What Prefect knows of it; `message` says why it failed or was paused."
    )
    question: Question | None = Field(
        description="What it asks while it is paused; answer_question answers it."
    )
    checkpoints: list[CheckpointLine] = Field(description="Its newest checkpoints, newest first.")
    config: ExecutionConfig = Field(description="How it is run.")
    elapsed_seconds: int = Field(description="Active time in seconds: pauses do not count.")
    created_at: datetime = Field(description="When it was created.")
    started_at: datetime | None = Field(description="When it first ran.")
    completed_at: datetime | None = Field(description="When it ended.")
    updated_at: datetime = Field(description="When its status or state last changed.")
    result: Any = Field(description="What it has come to; null until it has completed.")
    result_left_out: bool = Field(
        description="Whether the result is too large to come along; get_state with "
        "`of` = `result` reads it."
    )
    forked_from: ForkOrigin | None = Field(description="The checkpoint that it was forked from.")
    steps_behind: list[StepBehind] = Field(
        description="The steps that a roll-back has forgotten: their effects have happened."
    )

    @classmethod
    def of(cls, execution: Execution, question: Question | None = None) -> Self:
        """An execution without its state.

        Args:
            execution: The execution; a `Resumed` has the steps behind a roll-back.
            question: What it asks now.
        """
        too_large = len(serialization.dump(execution.result)) > RESULT_BYTES
        kept = {name: getattr(execution, name) for name in Execution.model_fields}
        kept = {name: value for name, value in kept.items() if name in cls.model_fields}
        return cls.model_validate(
            {
                **kept,
                "checkpoints": [CheckpointLine.of(each) for each in execution.checkpoints],
                "result": None if too_large else execution.result,
                "result_left_out": too_large,
                "question": question,
                "steps_behind": getattr(execution, "steps_behind", []),
            }
        )


class JsonPart(BaseModel):
    """A part of a JSON value."""

    path: str = Field(description="Its JSON Pointer, for get_state; empty for the whole.")
    kind: JsonKind = Field(description="What it is.")
    size: int = Field(description="Its bytes as JSON.")
    value: Any = Field(None, description="The value itself, or null where it was left out.")
    left_out: bool = Field(False, description="Whether the value was left out: it is too large.")


class StatePart(JsonPart):
    """A part of a state or result: itself, or what it consists of."""

    parts: list[JsonPart] | None = Field(
        None, description="Of an object or array that is too large: its members, in part."
    )
    next_offset: int | None = Field(
        None, description="`offset` of the rest of the members or of the text; null: that is all."
    )


class ChangeLine(BaseModel):
    """An operation of a JSON Patch (RFC 6902)."""

    op: str = Field(description="add, remove, replace, move or copy.")
    path: str = Field(description="What it changes.")
    from_: str | None = Field(None, alias="from", description="Where move and copy take it from.")
    value: Any = Field(None, description="The new value, or null where it was left out.")
    left_out: bool = Field(False, description="Whether the value was left out: it is too large.")


class ChangeLines(BaseModel):
    """What has changed between the states of two checkpoints."""

    changes: list[ChangeLine] = Field(description="A JSON Patch, in part.")
    total: int = Field(description="How many operations there are.")
    next_offset: int | None = Field(description="`offset` of the rest; null: that is all.")


class DeletionReport(BaseModel):
    """What deleting an execution answers."""

    id: str = Field(description="The execution, which can't be read any more.")
    finished: bool = Field(
        description="Whether all of it is gone; otherwise the rest goes when its process has ended."
    )
