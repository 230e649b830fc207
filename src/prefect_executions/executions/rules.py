"""What may be done with an execution now, and what is done when a limit is passed.

Functions named `require_…` only check. The others act.
"""

from datetime import UTC, datetime

from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.config import Status
from prefect_executions.errors import DurationExceeded, ExecutionConflict, Superseded
from prefect_executions.executions.views import active_seconds
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.log.entry import Kind
from prefect_executions.log.reader import Head
from prefect_executions.prefect.events import send_attempt_ended
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.states import require_restartable, state_of, status_of


def require_pausable(run: FlowRun) -> None:
    """Check that an execution can be paused: it is running or already paused.

    Raises:
        ExecutionConflict: it has ended.
    """
    if status_of(run).ended:
        raise _conflict(run, "pause", "Only a running one can be paused.")


def require_cancellable(run: FlowRun) -> None:
    """Check that an execution can be cancelled: it is running or paused, or was cancelled.

    Raises:
        ExecutionConflict: it has completed or failed.
    """
    if status_of(run) in (Status.COMPLETED, Status.FAILED):
        raise _conflict(run, "cancel", "It has ended by itself.")


def require_open(run: FlowRun) -> None:
    """Check that a checkpoint can be saved from outside the flow run: it has not ended.

    Raises:
        ExecutionConflict: it has.
    """
    status = status_of(run)
    if status.ended:
        hint = "Its history is closed." if status is Status.COMPLETED else "Resume it first."
        raise _conflict(run, "checkpoint", hint)


def require_no_process(run: FlowRun, *, is_left: bool) -> None:
    """Check that no process of Prefect's is at work: its next checkpoint would hide others.

    Args:
        run: The flow run.
        is_left: Whether its process has left.

    Raises:
        ExecutionConflict: it is, or may be.
    """
    if is_left:
        return
    if status_of(run) is Status.RUNNING:
        hint = "A process runs it, and its next checkpoint would hide this one: pause it first."
    else:
        hint = "Its process is still at work until its next checkpoint. Try again then."
    raise _conflict(run, "checkpoint", hint)


def require_resumable(run: FlowRun) -> None:
    """Check that an execution can be resumed: it is paused, failed, crashed or terminated.

    Raises:
        ExecutionConflict: it is running, has completed, or its process has not ended yet.
    """
    if status_of(run) is Status.RUNNING and not state_of(run).is_crashed():
        raise _conflict(run, "resume", "Pause it first.")
    if status_of(run) is Status.COMPLETED:
        raise _conflict(run, "resume", "Paused, failed and terminated ones can be resumed.")
    require_restartable(run)


def require_deployed(flow_runs: FlowRuns, run: FlowRun) -> None:
    """Check that the deployment of an execution is there: a worker would cancel it otherwise.

    Raises:
        ExecutionConflict: it was deleted. Prefect gives a flow run no other one.
    """
    if not flow_runs.has_deployment(run):
        hint = (
            "Its deployment was deleted. Go on in another one, with the recorded steps: POST "
            f'…/{execution_id(run.id)}/fork with {{"deployment": "flow-name/deployment-name"}}.'
        )
        raise _conflict(run, "resume", hint)


def require_startable(run: FlowRun) -> None:
    """Check that an external agent can begin an attempt: it is running, or due to start.

    Raises:
        ExecutionConflict: it is paused, has ended, or waits for a retry.
    """
    operation = "begin an attempt of"
    if status_of(run) is not Status.RUNNING:
        raise _conflict(run, operation, "Resume it first.")
    at = state_of(run).state_details.scheduled_time
    if state_of(run).is_scheduled() and at is not None and at > datetime.now(UTC):
        hint = f"It is to be tried again at {serialization.timestamp(at)}."
        raise _conflict(run, operation, hint)


def require_reportable(run: FlowRun, head: Head, attempt: int | None) -> None:
    """Check that an entry can be written after the head of a log.

    Args:
        run: The flow run.
        head: The head of its log.
        attempt: The attempt that writes; None for a checkpoint that is saved by hand.

    Raises:
        ExecutionConflict: the execution has ended, or is just being completed.
        Superseded: the attempt is not the newest, or another one is about to begin.
    """
    require_open(run)
    if attempt is None:
        if head.entry.kind is Kind.RESULT:
            raise _conflict(run, "checkpoint", "It is just being completed.")
        return
    id_ = execution_id(run.id)
    if attempt != head.entry.attempt:
        raise Superseded(id_, attempt, f"attempt {head.entry.attempt}")
    if head.entry.fenced or not (state_of(run).is_running() or state_of(run).is_paused()):
        raise Superseded(id_, attempt, "one that is to begin")


def require_newest(run: FlowRun, head: Head, seq: int | None) -> None:
    """Check that a checkpoint is still the newest one; None for any.

    Raises:
        ExecutionConflict: another one is, by a save or a roll-back.
    """
    if seq is None or (newest := head.entry.continues_from) == seq:
        return
    hint = f"Its newest one is now {checkpoint_id(newest)}, not {checkpoint_id(seq)}."
    raise _conflict(run, "checkpoint", f"{hint} Look at that first.")


def enforce_duration(flow_runs: FlowRuns, run: FlowRun, head: Head, now: datetime) -> FlowRun:
    """Fail a run that has been active for longer than its `max_duration_seconds`.

    Returns:
        The run, in its state after that.
    """
    limit = head.created.config.max_duration_seconds
    if limit is None or not state_of(run).is_running() or active_seconds(run, head, now) <= limit:
        return run
    return flow_runs.fail(run, f"{DurationExceeded(execution_id(run.id), limit)}")


def act_on_report(flow_runs: FlowRuns, run: FlowRun, head: Head, now: datetime) -> Status:
    """Act on the report of an external agent, and return the status to answer it with.

    The agent of a paused execution stops when it gets that answer, so the event that its attempt
    has ended is sent here. An execution that was active for too long is failed.
    """
    if state_of(run).is_paused():
        send_attempt_ended(run.id, run.name, head.entry.attempt)
    return status_of(enforce_duration(flow_runs, run, head, now))


def _conflict(run: FlowRun, operation: str, hint: str) -> ExecutionConflict:
    return ExecutionConflict(execution_id(run.id), operation, status_of(run), hint)
