"""Our events in Prefect, on the flow run that an execution is: their names, and sending them.

Sending puts an event into a queue, which a thread of Prefect's empties: it takes 0.1 ms, and
neither waits nor fails.
"""

from collections.abc import Callable
from contextvars import copy_context
from threading import Lock
from time import monotonic
from typing import Any
from uuid import UUID

from prefect.events import emit_event

from prefect_executions.background import Throttle
from prefect_executions.entry import Entry
from prefect_executions.ids import checkpoint_id, execution_id

HEARTBEAT = "prefect-executions.heartbeat"
CHECKPOINT_SAVED = "prefect-executions.checkpoint.saved"
ATTEMPT_ENDED = "prefect-executions.attempt.ended"
DELETED = "prefect-executions.deleted"
STREAM_OPENED = "prefect-executions.stream.opened"

FLOW_RUN = "prefect.flow-run."  # of resources and of names
PREFECT_HEARTBEAT = f"{FLOW_RUN}heartbeat"
STREAM = "prefect-executions.stream."  # of resources

NEWS_SECONDS = 1.0  # how often Prefect is told of an execution's checkpoints, at most


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


def run_id_of(resource_id: str) -> UUID | None:
    """The flow run that a resource of events is; None: it is something else. Anybody may send."""
    kind, _, id_ = resource_id.rpartition(".")
    try:
        return UUID(id_) if f"{kind}." == FLOW_RUN else None
    except ValueError:
        return None
