"""The states of a flow run in Prefect, what they mean for the execution, and their traps.

Prefect has no way to replace a state only if it is still the one that was read: whoever sets one by
force may cover what somebody else wants of the run, and gives it back.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import AwaitingRetry, Cancelled, Suspended

from prefect_executions.errors import ExecutionConflict, ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.models import Status
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.pauses import Form, pause_key, paused, read_form, save_form

CREATING = "Creating"

STATUS_OF_TYPE = {
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


def types_of(status: Status) -> list[StateType]:
    """The types of Prefect's states that are this status."""
    return [type_ for type_, known in STATUS_OF_TYPE.items() if known is status]


def state_of(run: FlowRun) -> State[Any]:
    """The state of a flow run; Prefect's type allows for none, its server does not."""
    assert run.state is not None
    return run.state


def status_of(run: FlowRun) -> Status:
    """The status of the execution that a flow run is."""
    return STATUS_OF_TYPE[state_of(run).type]


def is_created(run: FlowRun) -> bool:
    """Whether the run has left the state in which its log is written."""
    return not (state_of(run).is_pending() and state_of(run).name == CREATING)


def require_restartable(run: FlowRun) -> None:
    """Check that another process may be started for a run.

    Raises:
        ExecutionConflict: it runs, has completed, or its process is just being ended.
    """
    state = state_of(run)
    if not (state.is_paused() or state.is_failed() or state.is_crashed() or state.is_cancelled()):
        hint = "Try again when its process has ended." if state.is_cancelling() else ""
        raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)


def is_bare_pause(state: State[Any]) -> bool:
    """Whether the run was paused in the Prefect UI: nothing is asked when it is resumed.

    It also fails when it is not resumed in five minutes. A flow that suspends itself with a
    time-out means it: it has a key, or asks for an input.
    """
    details = state.state_details
    own = details.pause_key or details.run_input_keyset
    return state.is_paused() and bool(details.pause_reschedule) and not own


def active_time(run: FlowRun, now: datetime) -> timedelta:
    """How long the run has been in a Running state, over all its attempts."""
    state = state_of(run)
    current = now - state.timestamp if state.is_running() else timedelta(0)
    return run.total_run_time + max(current, timedelta(0))


def read_states(client: SyncPrefectClient, run_id: UUID) -> list[State[Any]]:
    """The states that a run has had, oldest first: Prefect's own order may be another."""
    with prefect_errors(run_id):
        states = client.read_flow_run_states(run_id)
    return sorted(states, key=lambda state: state.timestamp)


def set_state(
    client: SyncPrefectClient,
    run_id: UUID,
    state: State[Any],
    operation: str,
    *,
    force: bool = False,
) -> FlowRun:
    """Set a run's state, and return the run in it, whatever has been set since.

    Raises:
        ExecutionConflict: Prefect refuses to.
    """
    with prefect_errors(run_id):
        answer = client.set_flow_run_state(run_id, state, force=force)
        run = client.read_flow_run(run_id)
    if answer.status is not SetStateStatus.ACCEPT:
        raise refusal(run_id, operation, run, answer.details)
    run.state = answer.state
    return run


def follow_up(
    client: SyncPrefectClient, run_id: UUID, over: UUID, state: State[Any], operation: str
) -> FlowRun | None:
    """Set a run's state after another one, and return the run in it.

    Prefect lets it replace a pause or a cancellation, too, that has come just now: somebody wants
    that, and it is set again.

    Args:
        client: Prefect's.
        run_id: The run.
        over: The id of the state that it is to follow.
        state: The new one.
        operation: What it is for.

    Returns:
        None: it was so.

    Raises:
        ExecutionConflict: Prefect refuses to.
        ExecutionNotFound: the run has been deleted just now.
    """
    run = set_state(client, run_id, state, operation)
    states, new = _up_to(client, run)
    old = next((at for at, known in enumerate(states) if known.id == over), new)
    wanted = uncovered(states[new - 1]) if new - old > 1 else None
    if wanted is None:
        return run
    restore(client, run_id, wanted)
    return None


def uncovered(state: State[Any]) -> State[Any] | None:
    """What a run is to be again that another state has covered; None: nothing that lasts.

    A process that starts puts Running over whatever came too late to stop it, and a worker that
    finds one dead says Crashed. If the run had been paused or cancelled, that is what somebody
    wants of it.
    """
    if state.is_paused() and state.state_details.pause_reschedule:
        again: State[Any] = Suspended(message=state.message)
        if not is_bare_pause(state):
            again.state_details = state.state_details
        return again
    if state.is_cancelled() or state.is_cancelling():
        return Cancelled(message=state.message)
    return None


def restore(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> FlowRun:
    """Set a state that was covered, with the form that its pause had."""
    form = read_form(client, run_id, state)
    run = set_state(client, run_id, state, "restore", force=True)
    if form is not None:
        save_form(client, run_id, state_of(run), form)
    return run


def hold(client: SyncPrefectClient, run: FlowRun, form: Form) -> None:
    """Let a pause last that was made in the Prefect UI, and ask where to continue from.

    What has come between, such as somebody's Resume, is given back.

    Args:
        client: Prefect's.
        run: The run, as it is paused.
        form: What the Resume form asks.
    """
    held = set_state(
        client, run.id, paused(pause_key(), state_of(run).message), "pause", force=True
    )
    before = covered_by(client, held)
    if before.id != state_of(run).id:
        goes_on = before.is_scheduled() or before.is_pending() or before.is_running()
        wanted = scheduled_again(before) if goes_on else uncovered(before)
        if wanted is not None:
            restore(client, run.id, wanted)
            return
    save_form(client, run.id, state_of(held), form)


def covered_by(client: SyncPrefectClient, run: FlowRun) -> State[Any]:
    """The state that a run was in just before the one that was set."""
    states, at = _up_to(client, run)
    return states[at - 1]


def _up_to(client: SyncPrefectClient, run: FlowRun) -> tuple[list[State[Any]], int]:
    """The states that a run has had, and the place of the one that it was read with."""
    states = read_states(client, run.id)
    for at, state in enumerate(states):
        if state.id == state_of(run).id:
            return states, at
    raise ExecutionNotFound(execution_id(run.id))  # it was deleted just now


def scheduled_again(state: State[Any]) -> State[Any]:
    """Prefect lets a run go on at the time that a covered state said, or now."""
    return AwaitingRetry(scheduled_time=state.state_details.scheduled_time, message=state.message)


def lost_its_process(state: State[Any]) -> bool:
    """Whether resuming would give a Running state that no process belongs to."""
    return state.name == "Suspended" and not state.state_details.pause_reschedule


def refusal(run_id: UUID, operation: str, run: FlowRun, details: Any) -> ExecutionConflict:
    """That Prefect did not accept a state, and why."""
    reason = getattr(details, "reason", None) or "Prefect did not accept the new state."
    return ExecutionConflict(execution_id(run_id), operation, status_of(run), reason)
