"""Signs of life: events in Prefect, of which one request tells the newest of every run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events import emit_event

from prefect_executions.events import ATTEMPT_ENDED, FLOW_RUN, HEARTBEAT, run_id_of
from prefect_executions.prefect_errors import prefect_errors

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
