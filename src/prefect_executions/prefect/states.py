"""The states of a flow run in Prefect, and what they mean for its execution.

Everything here only reads values; `transitions` reads and sets the states of runs in Prefect.
"""

from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Cancelled, Paused, Suspended

from prefect_executions.config import Status
from prefect_executions.errors import ExecutionConflict
from prefect_executions.ids import execution_id

CREATING = "Creating"

# What `flow.serve()` says when it is stopped of the runs that it stops, and sets Cancelled.
_SHUTDOWN = "Runner is shutting down."

STATUS_OF_TYPE = {
    StateType.SCHEDULED: Status.RUNNING,
    StateType.PENDING: Status.RUNNING,
    StateType.RUNNING: Status.RUNNING,
    StateType.PAUSED: Status.PAUSED,
    StateType.COMPLETED: Status.COMPLETED,
    StateType.FAILED: Status.FAILED,
    StateType.CRASHED: Status.RUNNING,  # until a supervisor retries it, or sets Failed
    StateType.CANCELLING: Status.TERMINATED,
    StateType.CANCELLED: Status.TERMINATED,
}


def types_of(status: Status) -> list[StateType]:
    """The types of Prefect's states that have this status."""
    return [type_ for type_, known in STATUS_OF_TYPE.items() if known is status]


def state_of(run: FlowRun) -> State[Any]:
    """The state of a flow run. Prefect's type allows None, but its server always sends one."""
    assert run.state is not None
    return run.state


def created_at(run: FlowRun) -> datetime:
    """When a run was created; of one that Prefect scheduled, when it was to start."""
    time = run.expected_start_time or run.created
    assert time is not None
    return time


def status_of(run: FlowRun) -> Status:
    """The status of the execution that a flow run is."""
    return status_in(state_of(run).type, state_of(run).message)


def status_in(type_: StateType, message: str | None) -> Status:
    """The status of an execution whose flow run is in a state of this type, with this message.

    A run that was cancelled by the end of the process that served it is no more ended than one
    whose process was killed.
    """
    if type_ is StateType.CANCELLED and message == _SHUTDOWN:
        return STATUS_OF_TYPE[StateType.CRASHED]
    return STATUS_OF_TYPE[type_]


def is_shutdown(state: State[Any]) -> bool:
    """Whether a run was cancelled because the process that served its deployment was stopped."""
    return state.type is StateType.CANCELLED and state.message == _SHUTDOWN


def worker_of(run: FlowRun) -> str | None:
    """The worker that has started the newest process of a run, and that process.

    A worker leaves its name and type as labels of the run; a process that serves flows leaves none.
    """
    name, kind = (run.labels.get(f"prefect.worker.{label}") for label in ("name", "type"))
    if name is None:
        return None
    return f"{name} ({kind} {run.infrastructure_pid})" if run.infrastructure_pid else f"{name}"


def creating() -> State[Any]:
    """The state in which a run's log is written: no worker takes it, and no process waits.

    It is a kind of Paused: Prefect gives a run that leaves Pending its deployment's concurrency
    slot back, even if it never had one.
    """
    return Paused(name=CREATING, reschedule=False)


def is_created(run: FlowRun) -> bool:
    """Whether the run has left the state in which its log is written."""
    return state_of(run).name != CREATING


def require_restartable(run: FlowRun) -> None:
    """Check that another process may be started for a run.

    Raises:
        ExecutionConflict: The run is running, has completed, or its process is being stopped.
    """
    state = state_of(run)
    if not (state.is_paused() or state.is_failed() or state.is_crashed() or state.is_cancelled()):
        hint = "Try again when its process has ended." if state.is_cancelling() else ""
        raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)


def is_bare_pause(state: State[Any]) -> bool:
    """Whether the run was paused in the Prefect UI: its Resume form asks nothing.

    Prefect fails such a run if it is not resumed within five minutes. A flow that suspends itself
    with a time-out wants that time-out: it has a key, or asks for an input.
    """
    details = state.state_details
    own = details.pause_key or details.run_input_keyset
    return state.is_paused() and bool(details.pause_reschedule) and not own


def lost_its_process(state: State[Any]) -> bool:
    """Whether resuming would set the run Running without a process."""
    return state.name == "Suspended" and not state.state_details.pause_reschedule


def active_time(run: FlowRun, now: datetime) -> timedelta:
    """How long the run has been in a Running state, over all its attempts."""
    state = state_of(run)
    current = now - state.timestamp if state.is_running() else timedelta(0)
    return run.total_run_time + max(current, timedelta(0))


def uncovered(state: State[Any]) -> State[Any] | None:
    """The state to set again after another one has covered this one, or None.

    A process that starts sets Running over whatever came too late to stop it, and a worker that
    finds a process dead sets Crashed. A pause or a cancellation must outlast that.
    """
    if state.is_paused() and state.state_details.pause_reschedule:
        again: State[Any] = Suspended(message=state.message)
        if not is_bare_pause(state):
            again.state_details = state.state_details
        return again
    if state.is_cancelled() or state.is_cancelling():
        return Cancelled(message=state.message)
    return None


def scheduled_again(state: State[Any]) -> State[Any]:
    """The state in which a run continues at the time that a covered state named, or now."""
    return AwaitingRetry(scheduled_time=state.state_details.scheduled_time, message=state.message)
