"""The end of an import: an execution whose log is there is seen, completed or paused."""

from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed

from prefect_executions.executions.reader import ExecutionReader
from prefect_executions.ids import execution_id
from prefect_executions.log.entry import Kind
from prefect_executions.log.reader import Head
from prefect_executions.prefect.pauses import pause_key, paused, save_form
from prefect_executions.prefect.resume_form import CHOICES, resume_form
from prefect_executions.prefect.states import is_created
from prefect_executions.prefect.transitions import set_state


def land(executions: ExecutionReader, run: FlowRun, head: Head) -> FlowRun:
    """Let an imported execution be seen: completed, or paused."""
    flow_runs = executions.flow_runs
    if is_created(run := flow_runs.read(run.id)):
        return run
    state: State[Any]
    if head.entry.kind is Kind.RESULT:
        state = Completed(message="Imported with its result")
        return set_state(flow_runs.client, run.id, state, "import", force=True)
    state = paused(pause_key(), "Imported: it goes on when it is resumed.")
    run = set_state(flow_runs.client, run.id, state, "import", force=True)
    history = executions.log(execution_id(run.id)).read(checkpoints=CHOICES, journal=True)
    save_form(flow_runs.client, run.id, state, resume_form(history))
    return run
