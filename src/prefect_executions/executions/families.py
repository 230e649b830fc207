"""Executions that were called in each other: they have one process, and wait for each other.

When a child pauses, its parent pauses with it, and its state names the child. Only the outermost
can be given to a worker; the others continue in its process.
"""

from prefect.client.schemas.objects import FlowRun

from prefect_executions.errors import ExecutionConflict
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import awaited_child
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import parent_of


def awaited_by(flow_runs: FlowRuns, run: FlowRun) -> FlowRun:
    """The run that a paused one waits for, a child or one of the child's own; or the run itself."""
    while (child_id := awaited_child(state_of(run))) is not None:
        child = flow_runs.find(child_id)
        if child is None or not state_of(child).is_paused():
            break
        run = child
    return run


def require_outermost_deployed(flow_runs: FlowRuns, run: FlowRun) -> None:
    """Check that a worker can go on with a child after a pause.

    Raises:
        ExecutionConflict: The outermost execution around it has no deployment.
    """
    outermost = run
    while (parent := _parent(flow_runs, outermost)) is not None:
        outermost = parent
    if outermost.id != run.id and outermost.deployment_id is None:
        hint = f"{execution_id(outermost.id)}, which it runs in, has no deployment."
        raise ExecutionConflict(execution_id(run.id), "pause", status_of(run), hint)


def require_parents_wait(flow_runs: FlowRuns, run: FlowRun) -> None:
    """Check that an execution is no child, or that those around it go on when it is resumed.

    Raises:
        ExecutionConflict: It goes on with its parent only.
    """
    below = run
    while (parent_id := parent_of(below)) is not None:
        parent = _parent(flow_runs, below)
        waits = parent is not None and awaited_child(state_of(parent)) is not None
        runs = parent is not None and state_of(parent).is_running()
        if parent is None or not state_of(run).is_paused() or not (waits or runs):
            hint = f"It was called in {parent_id}, and goes on when that is resumed."
            raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)
        below = parent


def resume_parents(flow_runs: FlowRuns, run: FlowRun) -> None:
    """Resume the executions around a child that wait for it, since it was resumed."""
    path = {run.id}
    while (parent := _parent(flow_runs, run)) is not None:
        if awaited_child(state_of(parent)) not in path:
            return
        flow_runs.resume(parent.id)
        path.add(parent.id)
        run = parent


def _parent(flow_runs: FlowRuns, run: FlowRun) -> FlowRun | None:
    parent = parent_of(run)
    return None if parent is None else flow_runs.find(flow_run_id(parent))
