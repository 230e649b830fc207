"""Changes of executions, read from Prefect's events."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State, StateType
from prefect.events import Event
from pydantic import BaseModel, Field

from prefect_executions.config import Status
from prefect_executions.errors import CheckpointNotFound
from prefect_executions.ids import checkpoint_id, checkpoint_seq, execution_id
from prefect_executions.log.entry import Entry
from prefect_executions.prefect.events import CHECKPOINT_SAVED, DELETED, FLOW_RUN, run_id_of
from prefect_executions.prefect.states import CREATING, status_in


class StatusEvent(BaseModel):
    """The status of an execution has changed."""

    execution_id: str = Field(description="The execution.")
    status: Status = Field(description="Where it stands.")
    state_name: str = Field(description="Prefect's name of its state.")
    at: datetime = Field(description="Since when.")
    message: str | None = Field(description="What its state says: why it failed, or was paused.")


class CheckpointEvent(BaseModel):
    """A checkpoint was saved; of many within a second, the last."""

    execution_id: str = Field(description="The execution.")
    checkpoint_id: str = Field(description="The checkpoint.")
    label: str | None = Field(description="The label given when it was saved.")
    attempt: int = Field(description="The attempt it was saved in.")
    size: int = Field(description="Bytes of the state as JSON.")
    at: datetime = Field(description="When it was saved.")


class DeletedEvent(BaseModel):
    """The execution was deleted: the last event."""

    execution_id: str = Field(description="The execution.")
    at: datetime = Field(description="When.")


@dataclass(frozen=True)
class StatusChanged:
    """A flow run has a new state, whose id is the id of Prefect's event."""

    state_id: UUID
    type: StateType
    data: StatusEvent

    @classmethod
    def of(cls, execution_id: str, state: State[Any]) -> "StatusChanged":
        """The change of a flow run to a state."""
        data = StatusEvent(
            execution_id=execution_id,
            status=status_in(state.type, state.message),
            state_name=state.name or state.type.value,
            at=state.timestamp,
            message=state.message or None,
        )
        return cls(state.id, state.type, data)


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint was saved in the log."""

    seq: int
    data: CheckpointEvent

    @classmethod
    def of(cls, execution_id: str, entry: Entry) -> "CheckpointSaved":
        """The change that an entry of the log is."""
        data = CheckpointEvent(
            execution_id=execution_id,
            checkpoint_id=checkpoint_id(entry.seq),
            label=entry.label,
            attempt=entry.attempt,
            size=entry.size,
            at=entry.at,
        )
        return cls(entry.seq, data)


@dataclass(frozen=True)
class Deleted:
    """An execution was deleted."""

    data: DeletedEvent

    @classmethod
    def of(cls, execution_id: str, at: datetime | None = None) -> "Deleted":
        """The deletion of an execution, now by default."""
        return cls(DeletedEvent(execution_id=execution_id, at=at or datetime.now(UTC)))


Change = StatusChanged | CheckpointSaved | Deleted


def change_of(event: Event) -> tuple[UUID, Change] | None:
    """The flow run that an event is about, and its change. Returns None for other events."""
    if (run_id := run_id_of(event.resource.id)) is None:
        return None
    try:
        change = _change(event, execution_id(run_id))
    except (ValueError, KeyError, CheckpointNotFound):  # any client may send events
        return None
    return None if change is None else (run_id, change)


def _change(event: Event, id_: str) -> Change | None:
    if event.event == CHECKPOINT_SAVED:
        data = CheckpointEvent(**{**event.payload, "execution_id": id_, "at": event.occurred})
        return CheckpointSaved(checkpoint_seq(id_, data.checkpoint_id), data)
    if event.event == DELETED:
        return Deleted.of(id_, event.occurred)
    if not event.event.startswith(FLOW_RUN) or "prefect.state-type" not in event.resource:
        return None
    if event.resource["prefect.state-name"] == CREATING:
        return None
    state_type = StateType(event.resource["prefect.state-type"])
    status = StatusEvent(
        execution_id=id_,
        status=status_in(state_type, event.resource.get("prefect.state-message")),
        state_name=event.resource["prefect.state-name"] or state_type.value,
        at=event.occurred,
        message=event.resource.get("prefect.state-message") or None,
    )
    return StatusChanged(event.id, state_type, status)
