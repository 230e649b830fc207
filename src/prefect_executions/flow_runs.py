"""Executions as Prefect's flow runs: the only module that knows Prefect's states and their traps.

One execution is one flow run, so nothing maps one to the other but their ids, and Prefect is the
only truth about status.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any, NoReturn
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, Pause
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Pending, Scheduled, Suspended

from prefect_executions.errors import (
    DeploymentNotFound,
    ExecutionConflict,
    ExecutionNotFound,
    NotAnExecution,
    ParametersError,
    PrefectUnavailable,
)
from prefect_executions.models import Status, execution_id

CREATING = "Creating"

# The process worker reports a crash a second time, 3 to 6 s after the first; a run that was
# scheduled in between would take that for a crash of its new attempt.
CRASH_SETTLES = timedelta(seconds=10)

# Prefect kills a cancelled process after 30 s. A run that is Cancelling for longer has lost its
# worker, and nobody will ever make it Cancelled.
CANCEL_ENDS = timedelta(seconds=60)

_STATUS = {
    StateType.SCHEDULED: Status.RUNNING,
    StateType.PENDING: Status.RUNNING,
    StateType.RUNNING: Status.RUNNING,
    StateType.PAUSED: Status.PAUSED,
    StateType.COMPLETED: Status.COMPLETED,
    StateType.FAILED: Status.FAILED,
    StateType.CRASHED: Status.FAILED,
    StateType.CANCELLING: Status.TERMINATED,
    StateType.CANCELLED: Status.TERMINATED,
}


def state_of(run: FlowRun) -> State[Any]:
    """The state of a flow run; Prefect's type allows for none, its server does not."""
    assert run.state is not None
    return run.state


def status_of(run: FlowRun) -> Status:
    """The status of the execution that a flow run is."""
    return _STATUS[state_of(run).type]


def require_restartable(run: FlowRun) -> None:
    """Check that another process may be started for a run.

    Raises:
        ExecutionConflict: it runs, has completed, or its process is just being ended.
    """
    state = state_of(run)
    if not (state.is_paused() or state.is_failed() or state.is_crashed() or state.is_cancelled()):
        hint = "Try again when its process has ended." if state.is_cancelling() else ""
        raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)


def is_created(run: FlowRun) -> bool:
    """Whether the run has left the state in which its log is written."""
    return not (state_of(run).is_pending() and state_of(run).name == CREATING)


def active_time(run: FlowRun, now: datetime) -> timedelta:
    """How long the run has been in a Running state, over all its attempts."""
    state = state_of(run)
    current = now - state.timestamp if state.is_running() else timedelta(0)
    return run.total_run_time + max(current, timedelta(0))


class FlowRuns:
    """The flow runs that executions are, on a Prefect server.

    Every method raises `PrefectUnavailable` when the server does not answer, and
    `ExecutionNotFound` when it does not know the run.
    """

    def __init__(self, client: SyncPrefectClient, *, wait: Callable[[float], None] = sleep) -> None:
        self._client = client
        self._wait = wait

    def read(self, run_id: UUID) -> FlowRun:
        """Ask Prefect for a run."""
        with _prefect_errors(run_id):
            return self._client.read_flow_run(run_id)

    def create(
        self, deployment: str, *, name: str, parameters: dict[str, Any], tags: list[str]
    ) -> FlowRun:
        """Create a run of a deployment in a state that no worker takes; `schedule` releases it.

        Raises:
            DeploymentNotFound: there is no such deployment.
            ParametersError: the deployment's flow does not take these parameters.
        """
        with _prefect_errors():
            try:
                try:
                    found = self._client.read_deployment(UUID(deployment))
                except ValueError:
                    found = self._client.read_deployment_by_name(deployment)
            except (ObjectNotFound, ValueError, httpx.InvalidURL):
                raise DeploymentNotFound(deployment) from None
            try:
                return self._client.create_flow_run_from_deployment(
                    found.id,
                    name=name,
                    parameters=parameters,
                    tags=tags,
                    state=Pending(name=CREATING),
                    # The client repeats a request whose answer was lost.
                    idempotency_key=f"execution-{uuid4()}",
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (409, 422):
                    raise ParametersError(_detail(error.response)) from error
                raise

    def schedule(self, run_id: UUID) -> FlowRun:
        """Let a worker take a run that was just created."""
        return self._set(run_id, Scheduled(), "start")

    def suspend(self, run_id: UUID, *, reason: str | None = None) -> FlowRun:
        """Suspend a run: its process leaves at its next checkpoint, and no time-out ends the pause.

        Raises:
            ExecutionConflict: Prefect does not allow it: the run ended meanwhile.
        """
        run = self.read(run_id)
        if state_of(run).is_paused():
            return run
        # Prefect lets only a Running run be suspended. One that no process has taken yet is
        # suspended by force; if a process takes it at that very moment, it finds at its start that
        # it was suspended and leaves (see `Ownership`).
        force = not state_of(run).is_running()
        return self._set(run_id, Suspended(message=reason), "pause", force=force)

    def resume(self, run_id: UUID) -> FlowRun:
        """Let a worker continue a run that is suspended or has ended.

        A crash that was reported less than 10 s ago is waited for to settle.

        Raises:
            ExecutionConflict: Prefect does not allow it.
        """
        run = self.read(run_id)
        state = state_of(run)
        if state.is_paused() and not _lost_its_process(state):
            with _prefect_errors(run_id):
                answer = self._client.resume_flow_run(run_id)
            run = self.read(run_id)
            if answer.status is SetStateStatus.ACCEPT:
                return run
            # A pause whose time-out has passed is failed by Prefect only now, when it is resumed.
            if not state_of(run).is_failed():
                raise _refusal(run_id, "resume", run, answer.details)
            state = state_of(run)
        if state.is_crashed():
            settled = state.timestamp + CRASH_SETTLES
            left = settled - datetime.now(UTC)
            self._wait(min(max(left, timedelta(0)), CRASH_SETTLES).total_seconds())
        require_restartable(run)
        return self._set(run_id, AwaitingRetry(message="Resumed"), "resume")

    def cancel(self, run_id: UUID) -> FlowRun:
        """Ask for the process to be stopped: SIGTERM, and SIGKILL after 30 s."""
        run = self.read(run_id)
        if status_of(run).ended:
            return run
        if state_of(run).is_running():
            return self._set(run_id, Cancelling(), "terminate", force=True)
        # Nobody would ever turn Cancelling into Cancelled where no process runs.
        return self._set(run_id, Cancelled(), "terminate", force=True)

    def end_cancelling(self, run: FlowRun) -> FlowRun:
        """Make a run Cancelled that is Cancelling for so long that nobody else will."""
        state = state_of(run)
        if not state.is_cancelling() or datetime.now(UTC) - state.timestamp < CANCEL_ENDS:
            return run
        return self._set(run.id, Cancelled(message=state.message), "terminate", force=True)

    def delete(self, run_id: UUID) -> None:
        """Remove a run and its artifacts; it stops no process."""
        with _prefect_errors(run_id):
            self._client.read_flow_run(run_id)
            filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            while artifacts := self._client.read_artifacts(artifact_filter=filter_, limit=200):
                for artifact in artifacts:
                    with suppress(ObjectNotFound):  # somebody else deletes the run, too
                        self._client.delete_artifact(artifact.id)
            self._client.delete_flow_run(run_id)

    def _set(
        self, run_id: UUID, state: State[Any], operation: str, *, force: bool = False
    ) -> FlowRun:
        return _set_state(self._client, run_id, state, operation, force=force)


class Ownership:
    """Whether this process still runs its flow run, or somebody paused, ended or restarted it.

    A process owns its run as long as the run is in the very Running state that the process set
    when it started: that state's id is the attempt's identity. A process that has lost its run
    leaves as Prefect's own tasks do, by raising `Pause`: the process ends with exit code 0 and the
    run stays in whatever state it has.
    """

    def __init__(self, context: FlowRunContext, client: SyncPrefectClient) -> None:
        run = context.flow_run
        if run is None or run.state is None:
            raise NotAnExecution("an execution needs a flow run; put `@flow` above `@execution`")
        self.run = run
        self._context = context
        self._client = client
        self._state_id = run.state.id

    @classmethod
    def here(cls, client: SyncPrefectClient) -> "Ownership":
        """The ownership of the flow run that this code runs in.

        Raises:
            NotAnExecution: it runs in none.
        """
        context = FlowRunContext.get()
        if context is None:
            raise NotAnExecution("no flow run here; put `@flow` above `@execution`")
        return cls(context, client)

    def check_signal(self) -> None:
        """Leave if Prefect has told this process that its run was suspended; asks nobody."""
        self._context.flow_run_suspension_request.raise_if_requested()

    def check_start(self) -> None:
        """Leave if the run was suspended while this process was being started, or is not its own.

        Prefect lets a starting process put Running over a Suspended that came too late to stop it.
        Such a run is suspended again.
        """
        self.check()
        with _prefect_errors(self.run.id):
            states = self._client.read_flow_run_states(self.run.id)
        before = [state for state in states if state.id != self._state_id]
        last = max(before, key=lambda state: state.timestamp, default=None)
        if last is not None and last.is_paused() and last.state_details.pause_reschedule:
            _set_state(self._client, self.run.id, Suspended(message=last.message), "pause")
            self.leave()

    def check(self) -> None:
        """Ask Prefect whether the run is still this process's, and leave if not.

        Raises:
            Pause: it is not.
            PrefectUnavailable: Prefect did not answer, so nothing is known.
        """
        state = self._read_state()
        if state is None or (state.id != self._state_id and not self._woke_up(state)):
            raise Pause(state=state)

    def leave(self) -> NoReturn:
        """Leave the process; the run keeps the state that it has."""
        raise Pause(state=self._read_state())

    def _read_state(self) -> State[Any] | None:
        try:
            with _prefect_errors(self.run.id):
                return self._client.read_flow_run(self.run.id).state
        except ExecutionNotFound:
            return None

    def is_gone(self) -> bool:
        """Whether Prefect has no such run any more; not if it does not answer."""
        try:
            return self._read_state() is None
        except PrefectUnavailable:
            return False

    def yield_run(self) -> NoReturn:
        """Leave a run whose log has a roll-back or another attempt after this process's.

        If Prefect thinks all the same that this process runs it, which is so when a roll-back came
        just as the process started, the run is scheduled for another attempt: it would have no
        process at all otherwise.

        Raises:
            ExecutionConflict: it can't be scheduled, for want of a deployment.
        """
        state = self._read_state()
        if state is not None and state.id == self._state_id:
            again: State[Any] = AwaitingRetry(message="Superseded in the log")
            _set_state(self._client, self.run.id, again, "continue")
        self.leave()

    def _woke_up(self, state: State[Any]) -> bool:
        """Whether `state` is this process's own after a `pause_flow_run` that kept the process.

        Any other process must have gone through Pending to be running now.
        """
        if not state.is_running():
            return False
        with _prefect_errors(self.run.id):
            states = self._client.read_flow_run_states(self.run.id)
        own = [known.timestamp for known in states if known.id == self._state_id]
        if not own or any(known.is_pending() and known.timestamp > own[0] for known in states):
            return False
        self._state_id = state.id
        return True


def _set_state(
    client: SyncPrefectClient,
    run_id: UUID,
    state: State[Any],
    operation: str,
    *,
    force: bool = False,
) -> FlowRun:
    """Set a run's state, and return the run.

    Raises:
        ExecutionConflict: Prefect refuses to.
    """
    with _prefect_errors(run_id):
        answer = client.set_flow_run_state(run_id, state, force=force)
        run = client.read_flow_run(run_id)
    if answer.status is not SetStateStatus.ACCEPT:
        raise _refusal(run_id, operation, run, answer.details)
    return run


def _lost_its_process(state: State[Any]) -> bool:
    """Whether resuming would give a Running state that no process belongs to."""
    return state.name == "Suspended" and not state.state_details.pause_reschedule


@contextmanager
def _prefect_errors(run_id: UUID | None = None) -> Iterator[None]:
    """Translate what Prefect's client raises."""
    try:
        yield
    except ObjectNotFound as error:
        if run_id is None:
            raise PrefectUnavailable(f"{error}") from error
        raise ExecutionNotFound(execution_id(run_id)) from error
    except httpx.HTTPStatusError as error:
        raise PrefectUnavailable(
            f"{error.response.status_code}: {_detail(error.response)}"
        ) from error
    except httpx.TransportError as error:
        raise PrefectUnavailable(f"{type(error).__name__}: {error}") from error


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text


def _refusal(run_id: UUID, operation: str, run: FlowRun, details: Any) -> ExecutionConflict:
    reason = getattr(details, "reason", None) or "Prefect did not accept the new state."
    return ExecutionConflict(execution_id(run_id), operation, status_of(run), reason)
