"""Our events in Prefect, on the flow run that an execution is: names, sending, and reading them.

Sending puts an event into a queue, which a thread of Prefect's empties: it takes 0.1 ms, and
neither waits nor fails.
"""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State, StateType
from prefect.events import Event, emit_event
from pydantic import BaseModel, Field

from prefect_executions.entry import Entry
from prefect_executions.errors import CheckpointNotFound
from prefect_executions.models import Status, checkpoint_id, checkpoint_seq, execution_id
from prefect_executions.run_states import STATUS_OF_TYPE
from prefect_executions.throttle import Throttle

HEARTBEAT = "prefect-executions.heartbeat"
CHECKPOINT_SAVED = "prefect-executions.checkpoint.saved"
ATTEMPT_ENDED = "prefect-executions.attempt.ended"
DELETED = "prefect-executions.deleted"
STREAM_OPENED = "prefect-executions.stream.opened"

FLOW_RUN = "prefect.flow-run."  # of resources and of names
PREFECT_HEARTBEAT = f"{FLOW_RUN}heartbeat"
STREAM = "prefect-executions.stream."  # of resources

NEWS_SECONDS = 1.0  # how often Prefect is told of an execution's checkpoints, at most


# ------------------------------------------------------------------ sending


def checkpoint_saved(run_id: UUID, name: str, entry: Entry) -> None:
    """Say that a checkpoint was saved; `CheckpointNews` says it not too often.

    Args:
        run_id: The flow run.
        name: Its name.
        entry: The log's entry.
    """
    payload = {
        "checkpoint_id": checkpoint_id(entry.seq),
        "label": entry.label,
        "attempt": entry.attempt,
        "size": entry.size,
    }
    _send(CHECKPOINT_SAVED, run_id, name, payload, occurred=entry.at)


def attempt_ended(run_id: UUID, name: str, attempt: int) -> None:
    """Say that the process of an attempt leaves the execution."""
    _send(ATTEMPT_ENDED, run_id, name, {"attempt": attempt})


def deleted(run_id: UUID, name: str) -> None:
    """Say that an execution was deleted: Prefect itself is silent about that."""
    _send(DELETED, run_id, name, {})


def stream_opened(stream_id: UUID) -> None:
    """Say that somebody listens to Prefect's events: who hears it knows that it does."""
    emit_event(STREAM_OPENED, resource={"prefect.resource.id": f"{STREAM}{stream_id}"})


def _send(event: str, run_id: UUID, name: str, payload: dict[str, Any], **fields: Any) -> None:
    emit_event(
        event,
        resource={"prefect.resource.id": f"{FLOW_RUN}{run_id}", "prefect.resource.name": name},
        payload={"execution_id": execution_id(run_id), **payload},
        **fields,
    )


class CheckpointNews:
    """Says that checkpoints were saved, once a second and execution at most, and always the newest.

    Threads may share it: all is told in the context in which this was made, as to a thread that a
    flow has started Prefect's settings may be others. What it keeps is bounded by what is saved
    within a second.

    Args:
        later: Calls a function after so many seconds: `Pacer.after`.
        tell: Says it.
        clock: Seconds that go on.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], None],
        *,
        tell: Callable[[UUID, str, Entry], None] = checkpoint_saved,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._tell = tell
        self._context = copy_context()
        self._lock = Lock()
        self._newest: dict[UUID, tuple[str, Entry]] = {}  # that is yet to be told
        self._throttle: Throttle[UUID] = Throttle(later, self._say, every=NEWS_SECONDS, clock=clock)

    def saved(self, run_id: UUID, name: str, entry: Entry) -> None:
        """A checkpoint was saved; see `checkpoint_saved`."""
        with self._lock:
            known = self._newest.get(run_id)
            if known is not None and known[1].seq > entry.seq:
                return
            self._newest[run_id] = name, entry
        self._throttle.changed(run_id)

    def close(self) -> None:
        """Say what waits; from now on nothing does."""
        self._throttle.close()

    def _say(self, run_id: UUID) -> None:
        with self._lock:
            if (news := self._newest.pop(run_id, None)) is not None:
                self._context.copy().run(self._tell, run_id, *news)


# ------------------------------------------------------------------ reading


class StatusEvent(BaseModel):
    """The status of an execution has changed."""

    execution_id: str = Field(description="The execution.")
    status: Status = Field(description="Where it stands.")
    state_name: str = Field(description="Prefect's name of its state.")
    at: datetime = Field(description="Since when.")
    message: str | None = Field(description="What its state says: why it failed, or was paused.")


class CheckpointEvent(BaseModel):
    """A checkpoint was saved; of many within a second the last one is told."""

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
    """A flow run has got a state; Prefect's event of it has the id of the state."""

    state_id: UUID
    type: StateType
    data: StatusEvent

    @classmethod
    def of(cls, execution_id: str, state: State[Any]) -> "StatusChanged":
        """The change to a state."""
        data = StatusEvent(
            execution_id=execution_id,
            status=STATUS_OF_TYPE[state.type],
            state_name=state.name or state.type.value,
            at=state.timestamp,
            message=state.message or None,
        )
        return cls(state.id, state.type, data)


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is in the log."""

    seq: int
    data: CheckpointEvent

    @classmethod
    def of(cls, execution_id: str, entry: Entry) -> "CheckpointSaved":
        """The checkpoint of an entry."""
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
        """The end of an execution."""
        return cls(DeletedEvent(execution_id=execution_id, at=at or datetime.now(UTC)))


Change = StatusChanged | CheckpointSaved | Deleted


def run_id_of(resource_id: str) -> UUID | None:
    """The flow run that a resource of events is; None: it is something else. Anybody may send."""
    kind, _, id_ = resource_id.rpartition(".")
    try:
        return UUID(id_) if f"{kind}." == FLOW_RUN else None
    except ValueError:
        return None


def change_of(event: Event) -> tuple[UUID, Change] | None:
    """The flow run that an event is about, and what has happened; None: nothing that we tell."""
    try:
        run_id = run_id_of(event.resource.id)
        change = None if run_id is None else _change(event, execution_id(run_id))
    except (ValueError, KeyError, CheckpointNotFound):  # anybody may send events
        return None
    return None if run_id is None or change is None else (run_id, change)


def _change(event: Event, id_: str) -> Change | None:
    if event.event == CHECKPOINT_SAVED:
        data = CheckpointEvent(**{**event.payload, "execution_id": id_, "at": event.occurred})
        return CheckpointSaved(checkpoint_seq(id_, data.checkpoint_id), data)
    if event.event == DELETED:
        return Deleted.of(id_, event.occurred)
    if not event.event.startswith(FLOW_RUN) or "prefect.state-type" not in event.resource:
        return None
    state_type = StateType(event.resource["prefect.state-type"])
    status = StatusEvent(
        execution_id=id_,
        status=STATUS_OF_TYPE[state_type],
        state_name=event.resource["prefect.state-name"] or state_type.value,
        at=event.occurred,
        message=event.resource.get("prefect.state-message") or None,
    )
    return StatusChanged(event.id, state_type, status)
