"""Signs of life: events in Prefect, of which one request tells the newest of every run."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events import emit_event

from prefect_executions.prefect_errors import prefect_errors

EVENT = "prefect-executions.heartbeat"
_FLOW_RUN = "prefect.flow-run."


def beat_of_run(run_id: UUID, name: str) -> None:
    """Say that the process of a flow run is alive; neither waits nor fails."""
    _beat(f"{_FLOW_RUN}{run_id}", name)


def beat_of_supervisor(supervisor_id: str) -> None:
    """Say that a supervisor is alive; neither waits nor fails."""
    _beat(f"prefect-executions.supervisor.{supervisor_id}", "supervisor")


def _beat(resource_id: str, name: str) -> None:
    emit_event(EVENT, resource={"prefect.resource.id": resource_id, "prefect.resource.name": name})


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
        filter_: dict[str, Any] = {
            "occurred": {"since": since.isoformat()},
            "event": {"name": [EVENT]},
        }
        if run_id is not None:
            filter_["resource"] = {"id": [f"{_FLOW_RUN}{run_id}"]}
        with prefect_errors():
            answer = client.request(
                "POST",
                "/events/count-by/{countable}",
                path_params={"countable": "resource"},
                json={"filter": filter_},
            )
            answer.raise_for_status()
        newest = {
            group["value"]: datetime.fromisoformat(group["end_time"]) for group in answer.json()
        }
        runs = {
            UUID(name.removeprefix(_FLOW_RUN)): at
            for name, at in newest.items()
            if name.startswith(_FLOW_RUN)
        }
        others = {
            name.rpartition(".")[2]: at
            for name, at in newest.items()
            if not name.startswith(_FLOW_RUN)
        }
        return cls(runs, others)
