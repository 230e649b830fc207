"""Executions as Prefect's flow runs: finding, creating, deleting them, and changing their states.

One execution is one flow run: its id follows from the flow run's, and Prefect alone knows its
status.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from time import sleep
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Running, Scheduled

from prefect_executions import serialization
from prefect_executions.errors import (
    ExecutionConflict,
    ParametersError,
)
from prefect_executions.ids import execution_id
from prefect_executions.prefect import suspension, transitions
from prefect_executions.prefect.deployments import (
    OUTSIDE_DEPLOYMENT,
    ensure_outside_deployment,
    find_deployment,
    full_name,
    is_deployed,
    is_id,
    require_execution,
    require_parameters,
)
from prefect_executions.prefect.errors import detail_of, prefect_errors
from prefect_executions.prefect.listing import in_states, pages_of
from prefect_executions.prefect.pauses import Form
from prefect_executions.prefect.reads import FlowRunReads
from prefect_executions.prefect.states import CREATING, creating, is_created, status_of
from prefect_executions.prefect.tags import (
    DELETING,
    OUTSIDE,
    add_tags,
    deployment_of,
    deployment_tag,
    tags_of,
)


class FlowRuns:
    """The flow runs of the executions in one store, on a Prefect server.

    Args:
        client: Prefect's client.
        store: The name of the Execution Store block that they are kept in.
        wait: Sleeps for so many seconds.

    Every method raises `PrefectUnavailable` when the server does not answer, and
    `ExecutionNotFound` when it does not know the run.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        *,
        store: str = "default",
        wait: Callable[[float], None] = sleep,
    ) -> None:
        self.client = client
        self.store = store
        self.tags = tags_of(store)
        self._wait = wait
        self._reads = FlowRunReads(client)
        self._names: dict[UUID, str] = {}  # of deployments

    # ------------------------------------------------------------------ finding

    def read(self, run_id: UUID) -> FlowRun:
        """Read a run from Prefect; those that several threads wait for come in one request."""
        return self._reads.read(run_id)

    def find(self, run_id: UUID) -> FlowRun | None:
        """Read a run from Prefect. Returns None when it has been deleted."""
        return transitions.find_run(self.client, run_id)

    def settled(self, run: FlowRun) -> FlowRun:
        """The run, once a process that starts has left it; see `transitions.settled`."""
        return transitions.settled(self.client, run, self._wait)

    def is_still(self, run: FlowRun) -> bool:
        """Whether a run is in the very state in which it was read."""
        return transitions.is_still(self.client, run)

    def states(self, run: FlowRun) -> list[State[Any]]:
        """The states that a run has had, oldest first."""
        return transitions.read_states(self.client, run.id)

    def has_deployment(self, run: FlowRun) -> bool:
        """Whether the deployment of a run is still there; True for a run that never had one."""
        return run.deployment_id is None or is_deployed(self.client, run.deployment_id)

    def being_deleted(self) -> list[FlowRun]:
        """The runs in this store that are marked to be deleted."""
        pages = pages_of(self.client, in_states([*self.tags, DELETING]))
        return [run for page in pages for run in page]

    def being_created(self) -> list[FlowRun]:
        """The runs in this store whose creation has begun and not ended."""
        filter_ = FlowRunFilter(
            tags=FlowRunFilterTags(all_=self.tags),
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[CREATING])),
        )
        pages = pages_of(self.client, filter_)
        return [run for page in pages for run in page if DELETING not in run.tags]

    def in_state(self, *types: StateType, ended_after: datetime | None = None) -> list[FlowRun]:
        """The runs in this store with a state of one of these types.

        Those that are being created or deleted are left out. A run that changes meanwhile may be
        left out, too.

        Args:
            types: The types.
            ended_after: Only runs that ended after this time.
        """
        filter_ = in_states(self.tags, *types, ended_after=ended_after)
        return [run for page in pages_of(self.client, filter_) for run in page if is_whole(run)]

    # ------------------------------------------------------------------ creating and deleting

    def create(
        self,
        deployment: str | None,
        *,
        name: str,
        parameters: dict[str, Any],
        tags: list[str],
        key: str | None = None,
        permit: Callable[[str], None] = lambda _: None,
    ) -> FlowRun:
        """Create a run in a state that no worker takes; `schedule` or `start` releases it.

        Args:
            deployment: The deployment that runs it, or None for an agent outside Prefect.
            name: The run's name.
            parameters: Parameters of the deployment's flow.
            tags: Tags of this run, besides those that all runs have.
            key: The idempotency key of the request. A run that was created with it is returned.
            permit: Called with the name of the deployment, `flow/deployment`; raises an error when
                the caller may not start it.

        Raises:
            DeploymentNotFound: There is no such deployment.
            UnsuitableDeployment: Its flow is not known as an execution.
            ParametersError: The deployment's flow does not take these parameters.
        """
        # Without a key, too: the client repeats a request whose answer was lost.
        given = uuid4() if key is None else serialization.digest(*self.tags, key)
        idempotency_key = f"execution-{given}"
        tags = [*self.tags, *([] if deployment else [OUTSIDE]), *tags]
        with prefect_errors():
            if key is not None and (known := _created_with(self.client, idempotency_key)):
                permit(deployment_of(known) or f"{known.deployment_id}")
                return known
            if deployment:
                found, its_name = self._find(deployment, permit)
                require_execution(found)
                require_parameters(found, parameters)
            else:
                its_name = OUTSIDE_DEPLOYMENT
                permit(its_name)
                found = ensure_outside_deployment(self.client)
            tags += [deployment_tag(its_name)]
            try:
                # Of simultaneous requests with one key Prefect creates one run per deployment: a
                # caller that uses one key for several deployments gets several runs.
                return self.client.create_flow_run_from_deployment(
                    found.id,
                    name=name,
                    parameters=parameters,
                    tags=tags,
                    state=creating(),
                    idempotency_key=idempotency_key,
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (409, 422):
                    raise ParametersError(detail_of(error.response)) from error
                raise

    def _find(
        self, deployment: str, permit: Callable[[str], None]
    ) -> tuple[DeploymentResponse, str]:
        """A deployment that the caller may start, and its name."""
        if not is_id(deployment):
            permit(deployment)  # first, so that a refusal does not say whether it is there
        found = find_deployment(self.client, deployment)
        name = self._names.get(found.id) or full_name(self.client, found)
        self._names[found.id] = name
        permit(name)
        return found, name

    def mark_deleting(self, run: FlowRun) -> None:
        """Tag a run as being deleted, so that any process can finish the deletion."""
        add_tags(self.client, run, DELETING)

    def delete(self, run_id: UUID) -> None:
        """Delete a run and its artifacts; this does not stop its process."""
        self.read(run_id)
        self.delete_artifacts(run_id)
        with prefect_errors(run_id):
            self.client.delete_flow_run(run_id)

    def delete_artifacts(self, run_id: UUID) -> None:
        """Delete the artifacts of a run, which Prefect keeps when the run is deleted."""
        with prefect_errors(run_id):
            filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            while artifacts := self.client.read_artifacts(artifact_filter=filter_, limit=200):
                for artifact in artifacts:
                    with suppress(ObjectNotFound):  # another process deletes the run, too
                        self.client.delete_artifact(artifact.id)

    # ------------------------------------------------------------------ changing states

    def schedule(self, run: FlowRun) -> FlowRun:
        """Let a worker take a run that was just created, unless that has been done already."""
        run = self.read(run.id)
        if is_created(run):
            return run
        return transitions.set_state(self.client, run.id, Scheduled(), "start", known=run)

    def start(self, run: FlowRun) -> FlowRun:
        """Set Running on a run that an agent outside Prefect runs.

        Raises:
            ExecutionConflict: The run was paused or ended meanwhile.
        """
        operation = "begin an attempt of"
        running = transitions.follow_up(self.client, run, Running(), operation)
        if running is not None:
            return running
        status = status_of(self.read(run.id))
        raise ExecutionConflict(execution_id(run.id), operation, status, "That came just now.")

    def complete(self, run: FlowRun) -> FlowRun:
        """Set Completed on a run whose result is in its log."""
        state: State[Any] = Completed(message="Its result is recorded")
        return transitions.set_state(self.client, run.id, state, "complete")

    def suspend(self, run_id: UUID, *, key: str, reason: str | None, form: Form) -> FlowRun:
        """Suspend a run; see `suspension.suspend`."""
        return suspension.suspend(
            self.client, run_id, key=key, reason=reason, form=form, wait=self._wait
        )

    def resume(
        self, run_id: UUID, *, answer: dict[str, Any] | None = None, asked_anew: bool = False
    ) -> FlowRun:
        """Let a worker continue a run; see `suspension.resume`."""
        return suspension.resume(
            self.client, run_id, answer=answer, asked_anew=asked_anew, wait=self._wait
        )

    def cancel(self, run_id: UUID) -> FlowRun:
        """Ask for a run's process to be stopped; see `transitions.cancel`."""
        return transitions.cancel(self.client, run_id)

    def end_cancelling(self, run: FlowRun) -> FlowRun:
        """Set Cancelled on a run whose cancellation hangs; see `transitions.end_cancelling`."""
        return transitions.end_cancelling(self.client, run)

    def fail(self, run: FlowRun, message: str) -> FlowRun:
        """Fail a run if it is still as it was read, and return the run."""
        return transitions.fail(self.client, run, message) or self.read(run.id)

    def retry(self, run: FlowRun, *, at: datetime, message: str) -> bool:
        """Let a worker continue a run at a time; see `transitions.retry`."""
        return transitions.retry(self.client, run, at=at, message=message)


def _created_with(client: SyncPrefectClient, idempotency_key: str) -> FlowRun | None:
    """The run that was created with a key, whatever its deployment."""
    filter_ = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[idempotency_key]))
    return next(iter(client.read_flow_runs(flow_run_filter=filter_, limit=1)), None)


def is_whole(run: FlowRun) -> bool:
    """Whether a run is neither being created nor being deleted."""
    return DELETING not in run.tags and is_created(run)
