"""The deployments of the executions, which are limited, renamed and deleted while these run."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_executions.prefect.errors import prefect_errors

_COPIED = (
    "flow_id",
    "description",
    "tags",
    "path",
    "entrypoint",
    "pull_steps",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "work_pool_name",
    "job_variables",
)


class Deployments:
    """The deployments that executions are made of, by number.

    A number has another deployment after each change, and always the same flow.

    Args:
        prefect: The client.
        names: The names, as `flow/deployment`.
        limit: How many runs each may have at once; None for any number.
    """

    def __init__(
        self, prefect: SyncPrefectClient, names: list[str], *, limit: int | None = None
    ) -> None:
        self._prefect = prefect
        self.names = names
        self.limit = limit
        self._numbers: dict[UUID, int] = {}  # of all that there were
        self._ids: list[UUID] = []
        for number, name in enumerate(names):
            found = prefect.read_deployment_by_name(name)
            prefect.update_deployment(found.id, DeploymentUpdate(concurrency_limit=limit))
            self._ids.append(found.id)
            self._numbers[found.id] = number
        self._changes = 0

    def number_of(self, run: FlowRun) -> int:
        """The number of a run's deployment, be it gone or not."""
        assert run.deployment_id is not None
        return self._numbers[run.deployment_id]

    def has_lost(self, run: FlowRun) -> bool:
        """Whether the deployment of a run is gone."""
        return run.deployment_id not in self._ids

    @property
    def were_changed(self) -> bool:
        """Whether a deployment is gone."""
        return self._changes > 0

    def rename(self, number: int) -> str:
        """Deploy under another name and delete the old one, as Prefect has it; returns the name."""
        with prefect_errors():
            old = self._prefect.read_deployment(self._ids[number])
            flow, _, _ = self.names[number].partition("/")
            new = f"renamed-{self._changes + 1}"
            self._deploy(old, new, number)
            self.names[number] = f"{flow}/{new}"
            self._delete(old)
        return self.names[number]

    def replace(self, number: int) -> str:
        """Delete a deployment, and make one of the same name; returns the name."""
        with prefect_errors():
            old = self._prefect.read_deployment(self._ids[number])
            self._delete(old)
            self._deploy(old, old.name, number)
        return self.names[number]

    def taking_slots(self) -> list[FlowRun]:
        """The runs that count for a limit, in one look; none where there is no limit."""
        if self.limit is None:
            return []
        types = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
        found = self._prefect.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=types),
                tags=FlowRunFilterTags(all_=["execution"]),
            ),
            limit=200,
        )
        return [run for run in found if not self.has_lost(run)]

    def slots_taken(self) -> Iterator[str]:
        """The deployments with slots that Prefect counts as taken."""
        for id_ in self._ids:
            limit = self._prefect.read_deployment(id_).global_concurrency_limit
            if limit is not None and limit.active_slots:
                yield f"{limit.active_slots} slots of {limit.name} are taken"

    def _deploy(self, old: DeploymentResponse, name: str, number: int) -> None:
        copied: dict[str, Any] = {field: getattr(old, field) for field in _COPIED}
        id_ = self._prefect.create_deployment(name=name, concurrency_limit=self.limit, **copied)
        self._ids[number] = id_
        self._numbers[id_] = number

    def _delete(self, old: DeploymentResponse) -> None:
        self._changes += 1
        try:
            self._prefect.delete_deployment(old.id)
        except ObjectNotFound:
            return  # this request was repeated
