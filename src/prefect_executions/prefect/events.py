"""The events of this package in Prefect: sending them, and reading the newest ones.

Sending puts an event into a queue that a thread of Prefect's empties. It takes 0.1 ms, and neither
blocks nor fails.
"""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
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

DOCTOR_ASKED = "prefect-executions.doctor.asked"

FLOW_RUN = "prefect.flow-run."  # prefix of resources and of Prefect's own events
PREFECT_HEARTBEAT = f"{FLOW_RUN}heartbeat"
STREAM = "prefect-executions.stream."  # prefix of resources
_SUPERVISOR = "prefect-executions.supervisor."  # prefix of resources
_DOCTOR = "prefect-executions.doctor."  # prefix of resources

NEWS_SECONDS = 1.0  # seconds between two checkpoint events of an execution, at least


def send_checkpoint_saved(run_id: UUID, name: str, entry: Entry) -> None:
    """Send the event that a checkpoint was saved; `CheckpointNews` limits how often.

    Args:
        run_id: The flow run.
        name: The name of the flow run.
        entry: The checkpoint's entry in the log.
    """
    payload = {
        "checkpoint_id": checkpoint_id(entry.seq),
        "label": entry.label,
        "attempt": entry.attempt,
        "size": entry.size,
    }
    _send(CHECKPOINT_SAVED, run_id, name, payload, occurred=entry.at)


def send_attempt_ended(run_id: UUID, name: str, attempt: int | None) -> None:
    """Send the event that a process leaves the execution.

    Args:
        run_id: The flow run.
        name: The name of the flow run.
        attempt: Its attempt; None when it leaves before that began.
    """
    _send(ATTEMPT_ENDED, run_id, name, {"attempt": attempt})


def send_deleted(run_id: UUID, name: str) -> None:
    """Send the event that an execution was deleted; Prefect itself sends none."""
    _send(DELETED, run_id, name, {})


def send_stream_opened(stream_id: UUID) -> None:
    """Send an event that shows a subscriber of Prefect's events that its subscription works."""
    emit_event(STREAM_OPENED, resource={"prefect.resource.id": f"{STREAM}{stream_id}"})


def send_doctor_asked() -> UUID:
    """Send an event that shows whether Prefect keeps events; returns its id."""
    asked = uuid4()
    emit_event(DOCTOR_ASKED, resource={"prefect.resource.id": f"{_DOCTOR}{asked}"})
    return asked


def was_doctor_heard(client: SyncPrefectClient, asked: UUID) -> bool:
    """Whether Prefect has kept an event of `send_doctor_asked`, by any clock of the last day.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    since = datetime.now(UTC) - timedelta(days=1)
    return bool(_newest(client, DOCTOR_ASKED, since, f"{_DOCTOR}{asked}"))


def _send(event: str, run_id: UUID, name: str, payload: dict[str, Any], **fields: Any) -> None:
    emit_event(
        event,
        resource={"prefect.resource.id": f"{FLOW_RUN}{run_id}", "prefect.resource.name": name},
        payload={"execution_id": execution_id(run_id), **payload},
        **fields,
    )


class CheckpointNews:
    """Sends checkpoint events: one per second and execution at most, and always for the newest.

    Threads may share it. Events are sent in the context in which it was created, because a thread
    that a flow has started may see other settings of Prefect. It keeps no more than the checkpoints
    of one second.

    Args:
        later: Calls a function after so many seconds, as `Scheduler.after` does.
        tell: Sends an event.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], None],
        *,
        tell: Callable[[UUID, str, Entry], None] = send_checkpoint_saved,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._tell = tell
        self._context = copy_context()
        self._lock = Lock()
        self._newest: dict[UUID, tuple[str, Entry]] = {}  # yet to be sent
        self._throttle: Throttle[UUID] = Throttle(later, self._say, every=NEWS_SECONDS, clock=clock)

    def saved(self, run_id: UUID, name: str, entry: Entry) -> None:
        """Send the event of a checkpoint now or soon; see `send_checkpoint_saved`."""
        with self._lock:
            known = self._newest.get(run_id)
            if known is not None and known[1].seq > entry.seq:
                return
            self._newest[run_id] = name, entry
        self._throttle.changed(run_id)

    def close(self) -> None:
        """Send the events that still wait."""
        self._throttle.close()

    def _say(self, run_id: UUID) -> None:
        with self._lock:
            if (news := self._newest.pop(run_id, None)) is not None:
                self._context.copy().run(self._tell, run_id, *news)


def run_id_of(resource_id: str) -> UUID | None:
    """The id of a flow run from the resource of an event. Returns None for other resources."""
    kind, _, id_ = resource_id.rpartition(".")
    try:
        return UUID(id_) if f"{kind}." == FLOW_RUN else None
    except ValueError:
        return None


def beat_of_run(run_id: UUID, name: str) -> None:
    """Send a heartbeat of the process of a flow run."""
    _beat(f"{FLOW_RUN}{run_id}", name)


def beat_of_supervisor(supervisor_id: str) -> None:
    """Send a heartbeat of a supervisor."""
    _beat(f"{_SUPERVISOR}{supervisor_id}", "supervisor")


def _beat(resource_id: str, name: str) -> None:
    emit_event(
        HEARTBEAT, resource={"prefect.resource.id": resource_id, "prefect.resource.name": name}
    )


@dataclass(frozen=True)
class Heartbeats:
    """The newest heartbeats in Prefect, which stores events in batches, a few seconds late.

    Args:
        runs: Those of the processes of flow runs.
        supervisors: Those of supervisors, by the ids that they have given themselves.
    """

    runs: dict[UUID, datetime]
    supervisors: dict[str, datetime]

    @classmethod
    def since(
        cls, client: SyncPrefectClient, since: datetime, *, run_id: UUID | None = None
    ) -> "Heartbeats":
        """Read the newest heartbeat of each run and supervisor, if it came after a time.

        Args:
            client: Prefect's client.
            since: The time.
            run_id: Read those of this run alone.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        resource = None if run_id is None else f"{FLOW_RUN}{run_id}"
        newest = _newest(client, HEARTBEAT, since, resource)
        runs = {known: at for name, at in newest.items() if (known := run_id_of(name))}
        others = {
            name.removeprefix(_SUPERVISOR): at
            for name, at in newest.items()
            if name.startswith(_SUPERVISOR)
        }
        return cls(runs, others)


def last_sign(client: SyncPrefectClient, run_id: UUID, since: datetime) -> datetime:
    """The time of the newest heartbeat of a run, or `since` when there was none after it.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    return max(since, Heartbeats.since(client, since, run_id=run_id).runs.get(run_id, since))


def last_beat_of_prefect(client: SyncPrefectClient, run_id: UUID, since: datetime) -> datetime:
    """The time of the newest heartbeat that Prefect sent for a run, or `since`.

    It sends one every 180 s by default, for any flow (`PREFECT_FLOWS_HEARTBEAT_FREQUENCY`).

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    resource = f"{FLOW_RUN}{run_id}"
    return _newest(client, PREFECT_HEARTBEAT, since, resource).get(resource, since)


def is_kept(client: SyncPrefectClient, supervisor_id: str, beat: datetime) -> bool:
    """Whether Prefect still has a heartbeat of a supervisor that it had before.

    If not, its database was replaced, or restored to an earlier time.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    instant = timedelta(milliseconds=1)
    resource = f"{_SUPERVISOR}{supervisor_id}"
    return bool(_newest(client, HEARTBEAT, beat - instant, resource, until=beat + instant))


def has_ended(client: SyncPrefectClient, run_id: UUID, since: datetime) -> bool:
    """Whether a process of a run has left after a time, by its event.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    return bool(_newest(client, ATTEMPT_ENDED, since, f"{FLOW_RUN}{run_id}"))


def was_deleted(client: SyncPrefectClient, run_id: UUID, since: datetime) -> bool:
    """Whether an execution was deleted after a time, by its event.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    return bool(_newest(client, DELETED, since, f"{FLOW_RUN}{run_id}"))


def changed_to(
    client: SyncPrefectClient, type_: StateType, since: datetime, *, tag: str
) -> set[UUID]:
    """The runs with a tag that came into a state of a type after a time, by Prefect's events.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    filter_ = {
        "occurred": {"since": since.isoformat()},
        "event": {"prefix": [FLOW_RUN]},
        "resource": {"labels": {"prefect.state-type": [type_.value]}},
        "related": {"id": [f"prefect.tag.{tag}"], "role": ["tag"]},
    }
    return {known for name in _count(client, filter_) if (known := run_id_of(name))}


def _newest(
    client: SyncPrefectClient,
    event: str,
    since: datetime,
    resource: str | None,
    *,
    until: datetime | None = None,
) -> dict[str, datetime]:
    """The time of the newest event of each resource, by one request."""
    occurred = {"since": since.isoformat(), **({"until": until.isoformat()} if until else {})}
    filter_: dict[str, Any] = {"occurred": occurred, "event": {"name": [event]}}
    if resource is not None:
        filter_["resource"] = {"id": [resource]}
    return _count(client, filter_)


def _count(client: SyncPrefectClient, filter_: dict[str, Any]) -> dict[str, datetime]:
    """The resources of the events that a filter finds, each with the time of its newest one."""
    with prefect_errors():
        answer = client.request(
            "POST",
            "/events/count-by/{countable}",
            path_params={"countable": "resource"},
            json={"filter": filter_},
        )
        answer.raise_for_status()
    return {group["value"]: datetime.fromisoformat(group["end_time"]) for group in answer.json()}
