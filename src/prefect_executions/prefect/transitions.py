"""Reading and setting the states of flow runs in Prefect.

Prefect can't replace a state only if it is still the one that was read. A state that is set may
cover a pause or a cancellation that came just before; these functions notice that and set the
covered state again.

All of them raise `PrefectUnavailable` when Prefect does not answer, and `ExecutionNotFound` when it
does not know the run.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Crashed,
    Failed,
    Pending,
    Scheduled,
)

from prefect_executions.errors import ExecutionConflict, ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.pauses import read_form, save_form
from prefect_executions.prefect.states import (
    is_shutdown,
    scheduled_again,
    state_of,
    status_of,
    uncovered,
)
from prefect_executions.prefect.tags import OUTSIDE

# Prefect kills a cancelled process after 30 s. A run that is Cancelling for longer has lost its
# worker, and stays Cancelling for ever.
CANCEL_ENDS = timedelta(seconds=60)

SETTLING_TRIES = 50  # how often a run is read that a process has just started
SETTLING_PAUSE = 0.1  # seconds between two tries


# ---------------------------------------------------------------------- reading


def read_run(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    """Read a run from Prefect."""
    with prefect_errors(run_id):
        return client.read_flow_run(run_id)


def find_run(client: SyncPrefectClient, run_id: UUID) -> FlowRun | None:
    """Read a run from Prefect. Returns None when it has been deleted."""
    try:
        return read_run(client, run_id)
    except ExecutionNotFound:
        return None


def settled(client: SyncPrefectClient, run: FlowRun, wait: Callable[[float], None]) -> FlowRun:
    """A run; where a process that starts has covered a pause or a cancellation, wait.

    The process sets that state again as soon as it has begun; after some seconds it is set here.

    Args:
        client: Prefect's client.
        run: The run, as it was read.
        wait: Sleeps for so many seconds.
    """
    for _ in range(SETTLING_TRIES):
        if not state_of(run).is_running() or uncovered(covered_by(client, run)) is None:
            return run
        wait(SETTLING_PAUSE)
        run = read_run(client, run.id)
    return undo_start(client, run) or read_run(client, run.id)


def undo_start(client: SyncPrefectClient, run: FlowRun) -> FlowRun | None:
    """Restore a pause or a cancellation that a process has covered as it started.

    Prefect lets a process set Running over a state that came too late to stop it. The process sets
    that state again as soon as `@execution` begins (see `Ownership`). But Prefect may end it before
    that, since it has noticed the pause by then, and leave the run Running.

    Returns:
        The run, or None when nothing was covered, or the run has changed since it was read.
    """
    covered = uncovered(covered_by(client, run)) if state_of(run).is_running() else None
    if covered is None or not is_still(client, run):
        return None
    return restore(client, run.id, covered)


def is_still(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run is in the very state in which it was read."""
    now = find_run(client, run.id)
    return now is not None and state_of(now).id == state_of(run).id


def read_states(client: SyncPrefectClient, run_id: UUID) -> list[State[Any]]:
    """The states that a run has had, oldest first; Prefect's own order may differ."""
    with prefect_errors(run_id):
        states = client.read_flow_run_states(run_id)
    return sorted(states, key=lambda state: state.timestamp)


def covered_by(client: SyncPrefectClient, run: FlowRun) -> State[Any]:
    """The state that a run was in just before the one that was set."""
    states, at = _up_to(client, run)
    return states[at - 1]


def _up_to(client: SyncPrefectClient, run: FlowRun) -> tuple[list[State[Any]], int]:
    """The states that a run has had, and the position of the one that it was read with."""
    states = read_states(client, run.id)
    for at, state in enumerate(states):
        if state.id == state_of(run).id:
            return states, at
    raise ExecutionNotFound(execution_id(run.id))  # it was deleted just now


# ---------------------------------------------------------------------- setting


def set_state(
    client: SyncPrefectClient,
    run_id: UUID,
    state: State[Any],
    operation: str,
    *,
    force: bool = False,
    known: FlowRun | None = None,
) -> FlowRun:
    """Set a run's state, and return the run in it, even if another one has been set since.

    Args:
        client: Prefect's client.
        run_id: The run.
        state: The state.
        operation: What it is for, as errors name it.
        force: Whether to set it against Prefect's rules.
        known: The run, where it was read just before, and need not be read again.

    Raises:
        ExecutionConflict: Prefect refuses.
    """
    with prefect_errors(run_id):
        answer = client.set_flow_run_state(run_id, state, force=force)
        is_set = answer.status is SetStateStatus.ACCEPT
        run = known.model_copy() if known and is_set else client.read_flow_run(run_id)
    if not is_set:
        raise refusal(run, operation, answer.details)
    run.state = answer.state
    return run


def refusal(run: FlowRun, operation: str, details: Any) -> ExecutionConflict:
    """The error for a state that Prefect did not accept, with its reason."""
    reason = getattr(details, "reason", None) or "Prefect did not accept the new state."
    return ExecutionConflict(execution_id(run.id), operation, status_of(run), reason)


def follow_up(
    client: SyncPrefectClient, run: FlowRun, state: State[Any], operation: str
) -> FlowRun | None:
    """Set the state that is to follow the one that a run was read with.

    Prefect lets it replace a pause or a cancellation that came in between. That one is set again.

    Args:
        client: Prefect's client.
        run: The run, as it was read.
        state: The new state.
        operation: What the state is for, as errors name it.

    Returns:
        The run in the new state, or None when a pause or a cancellation was set again.

    Raises:
        ExecutionConflict: Prefect refuses.
        ExecutionNotFound: The run has just been deleted.
    """
    after = set_state(client, run.id, state, operation)
    states, new = _up_to(client, after)
    old = next((at for at, known in enumerate(states) if known.id == state_of(run).id), new)
    covered = uncovered(states[new - 1]) if new - old > 1 else None
    if covered is None:
        return after
    restore(client, run.id, covered)
    return None


def restore(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> FlowRun:
    """Set a covered state again, with the form of its pause."""
    form = read_form(client, run_id, state)
    run = set_state(client, run_id, state, "restore", force=True)
    if form is not None:
        save_form(client, run_id, state_of(run), form)
    return run


def _set_if_still(
    client: SyncPrefectClient,
    run: FlowRun,
    state: State[Any],
    operation: str,
    *,
    force: bool = True,
) -> FlowRun | None:
    if not is_still(client, run):
        return None
    return set_state(client, run.id, state, operation, force=force)


# ---------------------------------------------------------------------- ending


def cancel(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    """Ask for a run's process to be stopped: by SIGTERM, and by SIGKILL after 30 s."""
    run = read_run(client, run_id)
    if status_of(run).ended:
        return run
    # A run without a process would stay Cancelling.
    state: State[Any] = Cancelling() if state_of(run).is_running() else Cancelled()
    return set_state(client, run_id, state, "terminate", force=True)


def cancel_paused(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    """Cancel a paused run if it is still as it was read."""
    _set_if_still(client, run, Cancelled(message=message), "terminate")


def end_cancelling(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Set Cancelled on a run that has been Cancelling for too long, and return the run.

    A run of an agent outside Prefect is Cancelled at once: it has no process here that must end.
    """
    state = state_of(run)
    if not state.is_cancelling():
        return run
    if OUTSIDE not in run.tags and datetime.now(UTC) - state.timestamp < CANCEL_ENDS:
        return run
    ended = _set_if_still(client, run, Cancelled(message=state.message), "terminate")
    return ended or read_run(client, run.id)


def fail(client: SyncPrefectClient, run: FlowRun, message: str) -> FlowRun | None:
    """Fail a run if it is still as it was read. Returns None when it is not."""
    return _set_if_still(client, run, Failed(message=message), "fail")


def crash(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    """Set Crashed on a run whose process has died, if it is still as it was read."""
    _set_if_still(client, run, Crashed(message=message), "end", force=False)


def crash_shut_down(client: SyncPrefectClient, run: FlowRun) -> None:
    """Set Crashed on a run that `flow.serve()` has cancelled as it was stopped.

    What that has covered, a pause or a person's cancellation, comes back as from any crash: see
    `undo_crash`.
    """
    state: State[Any] = Crashed(message="The process that served it was stopped.")
    _set_if_still(client, run, state, "end")


# ---------------------------------------------------------------------- trying again


def retry(client: SyncPrefectClient, run: FlowRun, *, at: datetime, message: str) -> bool:
    """Let a worker continue a run at a time, if it is still as it was read; returns whether it was.

    Raises:
        ExecutionConflict: Prefect refuses: the run has no deployment.
    """
    state: State[Any] = AwaitingRetry(scheduled_time=at, message=message)
    return is_still(client, run) and follow_up(client, run, state, "retry") is not None


def start_again(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Schedule a run that its worker never began, if it is still so; returns whether it was."""
    state: State[Any] = Scheduled(message="Its worker never began")
    return is_still(client, run) and follow_up(client, run, state, "start") is not None


def continue_here(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Take a run whose process has died for this process, as a worker does; returns it.

    Raises:
        ExecutionConflict: Its state is another one by now: somebody else goes on with it.
    """
    taken = _set_if_still(client, run, Pending(message="Continued by another process"), "resume")
    if taken is None:
        hint = "Somebody else has just gone on with it, or ended it."
        raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)
    return taken


def undo_crash(client: SyncPrefectClient, run: FlowRun, states: list[State[Any]]) -> bool:
    """Restore the state that a crash has covered, if it was a pause, a cancellation or a retry.

    A worker that finds a process dead sets Crashed whatever the run's state is. The process may
    have covered the state itself, by Running, and died before it set it again.

    Returns:
        Whether the crash covered such a state.
    """
    known = [state for state in states if not (state.is_crashed() or is_shutdown(state))]
    if len(known) > 1 and known[-1].is_running() and uncovered(known[-2]) is not None:
        known.pop()
    last = known[-1] if known else None
    covered = None if last is None else uncovered(last)
    if last is not None and last.is_scheduled() and run.deployment_id is not None:
        covered = scheduled_again(last)
    if covered is not None and is_still(client, run):
        restore(client, run.id, covered)
    return covered is not None


def undo_repeated_cancellation(
    client: SyncPrefectClient, run: FlowRun, states: list[State[Any]]
) -> bool:
    """Let a run continue that was restarted before its worker repeated a cancellation.

    A worker on a busy machine reports a process that it has cancelled up to three times within a
    minute, each time in the same words, and covers whatever has been set in between.

    Returns:
        Whether the cancellation was such a repetition.
    """
    known = [state for state in states if not (state.is_pending() or state.is_crashed())]
    asked = max((at for at, state in enumerate(known) if state.is_cancelling()), default=-1)
    since = known[asked + 1 :]
    reports = [state for state in since if state.is_cancelled()]
    restarts = [state for state in since if state.is_scheduled()]
    if not (
        asked >= 0
        and restarts
        and since[-2:] == [restarts[-1], reports[-1]]
        and len(since) == len(reports) + len(restarts)
        and reports[0].message  # a person's cancellation has none
        and {state.message for state in reports} == {reports[0].message}
        and reports[-1].timestamp - known[asked].timestamp < CANCEL_ENDS
        and run.deployment_id is not None
    ):
        return False
    if is_still(client, run):
        restore(client, run.id, scheduled_again(restarts[-1]))
    return True
