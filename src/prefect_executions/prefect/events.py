"""Our events in Prefect, on the flow run that an execution is: their names, and sending them.

Sending puts an event into a queue, which a thread of Prefect's empties: it takes 0.1 ms, and
neither waits nor fails.
"""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events import emit_event

from prefect_executions.background import Throttle
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.log.entry import Entry
from prefect_executions.prefect.errors import prefect_errors

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
        later: Calls a function after so many seconds: `Scheduler.after`.
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


_SUPERVISOR = "prefect-executions.supervisor."


def beat_of_run(run_id: UUID, name: str) -> None:
    """Say that the process of a flow run is alive; neither waits nor fails."""
    _beat(f"{FLOW_RUN}{run_id}", name)


def beat_of_supervisor(supervisor_id: str) -> None:
    """Say that a supervisor is alive; neither waits nor fails."""
    _beat(f"{_SUPERVISOR}{supervisor_id}", "supervisor")


def _beat(resource_id: str, name: str) -> None:
    emit_event(
        HEARTBEAT, resource={"prefect.resource.id": resource_id, "prefect.resource.name": name}
    )


@dataclass(frozen=True)
class Heartbeats:
    """The heartbeats that Prefect has kept: a few seconds late, as it writes events in batches."""

    runs: dict[UUID, datetime]
    supervisors: dict[str, datetime]

    @classmethod
    def since(
        cls, client: SyncPrefectClient, since: datetime, *, run_id: UUID | None = None
    ) -> "Heartbeats":
        """The newest heartbeat of each run and supervisor, if it came after `since`.

        Args:
            client: Prefect's.
            since: The time.
            run_id: Ask for this run alone.

        Raises:
            PrefectUnavailable: Prefect did not answer.
        """
        resource = None if run_id is None else f"{FLOW_RUN}{run_id}"
        newest = _newest(client, HEARTBEAT, since, resource)
        runs = {known: at for name, at in newest.items() if (known := run_id_of(name))}
        others = {
            name.rpartition(".")[2]: at
            for name, at in newest.items()
            if not name.startswith(FLOW_RUN)
        }
        return cls(runs, others)


def last_sign(client: SyncPrefectClient, run_id: UUID, since: datetime) -> datetime:
    """The newest heartbeat of a run; if there was none since a time, that time.

    Raises:
        PrefectUnavailable: Prefect did not answer.
    """
    return max(since, Heartbeats.since(client, since, run_id=run_id).runs.get(run_id, since))


def is_kept(client: SyncPrefectClient, supervisor_id: str, beat: datetime) -> bool:
    """Whether Prefect still has a heartbeat of a supervisor that it had before.

    If not, its database is another one, or as it was at an earlier time.

    Raises:
        PrefectUnavailable: Prefect did not answer.
    """
    instant = timedelta(milliseconds=1)
    resource = f"{_SUPERVISOR}{supervisor_id}"
    return bool(_newest(client, HEARTBEAT, beat - instant, resource, until=beat + instant))


def has_ended(client: SyncPrefectClient, run_id: UUID, since: datetime) -> bool:
    """Whether the process of an attempt has said that it leaves, after a time.

    Raises:
        PrefectUnavailable: Prefect did not answer.
    """
    return bool(_newest(client, ATTEMPT_ENDED, since, f"{FLOW_RUN}{run_id}"))


def _newest(
    client: SyncPrefectClient,
    event: str,
    since: datetime,
    resource: str | None,
    *,
    until: datetime | None = None,
) -> dict[str, datetime]:
    """When an event was last sent of each resource, by one request."""
    occurred = {"since": since.isoformat(), **({"until": until.isoformat()} if until else {})}
    filter_: dict[str, Any] = {"occurred": occurred, "event": {"name": [event]}}
    if resource is not None:
        filter_["resource"] = {"id": [resource]}
    with prefect_errors():
        answer = client.request(
            "POST",
            "/events/count-by/{countable}",
            path_params={"countable": "resource"},
            json={"filter": filter_},
        )
        answer.raise_for_status()
    return {group["value"]: datetime.fromisoformat(group["end_time"]) for group in answer.json()}
