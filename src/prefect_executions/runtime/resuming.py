"""Continuing an execution without a deployment, whose process has died, in this process.

No worker can: nobody but the script that called the flow knows where its code is. The flow run
stays the same, and with it the log.
"""

import inspect
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger

from prefect_executions.config import Status
from prefect_executions.errors import ExecutionConflict, ExecutionError
from prefect_executions.ids import checkpoint_seq, flow_run_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.events import last_sign
from prefect_executions.prefect.pauses import forget_choice
from prefect_executions.prefect.resume_form import go_back
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import EXECUTION, OUTSIDE, parent_of
from prefect_executions.prefect.transitions import (
    continue_here,
    crash,
    read_run,
    read_states,
)
from prefect_executions.runtime import alive
from prefect_executions.runtime.attempt import Options
from prefect_executions.settings import ExecutionsSettings

_NOT_KEPT = re.compile(r"<\w+>")  # what Prefect keeps of a parameter that is no JSON
_TEXT = re.compile(r"\bstr\b")  # the annotation of one that may be a text


def resume(flow: Flow[..., Any], execution_id: str, checkpoint_id: str | None = None) -> Any:
    """Continue an execution in this process; returns what the flow returns.

    Of an async flow that is a coroutine. The parameters are those with which it was called.

    Args:
        flow: The flow, decorated with `@execution`.
        execution_id: The execution, which was started by a call of the flow.
        checkpoint_id: Roll back to this checkpoint first; by default it goes on from its newest
            state.

    Raises:
        ExecutionNotFound: Prefect knows no such execution.
        ExecutionConflict: It has completed; its process is alive, or may be; a worker, an agent or
            the execution that it was called in goes on with it; or it is not one of this flow.
        CheckpointNotFound: It has no such checkpoint; nothing was changed.
        PrefectUnavailable, StoreUnavailable: Prefect or the store does not answer.
    """
    # Takes 12 ms; Prefect loads it when a flow is called.
    from prefect.flow_engine import run_flow  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        run = read_run(client, flow_run_id(execution_id))
        options = _require_resumable(client, run, flow, execution_id)
        _require_dead(client, run, execution_id)
        if checkpoint_id is None:
            run = continue_here(client, run)
        else:
            log = ExecutionLog(options.store().open(), execution_id)
            run = _continue_from(client, run, flow, log, checkpoint_id)
    return run_flow(flow, flow_run=run)


def _continue_from(
    client: SyncPrefectClient,
    run: FlowRun,
    flow: Flow[..., Any],
    log: ExecutionLog,
    checkpoint_id: str,
) -> FlowRun:
    """Take a run for this process, and roll its log back.

    In this order: two processes that continue it at once take the run from each other, and only the
    one that has it rolls back. First of all a wrong checkpoint is refused.
    """
    log.at_checkpoint(checkpoint_seq(log.execution_id, checkpoint_id), journal=False)
    states = read_states(client, run.id)
    run = continue_here(client, run)
    try:
        forget_choice(client, run.id, states)
        logger = flow_run_logger(run, flow)
        go_back(log, {"checkpoint": checkpoint_id}, lambda line: logger.warning("%s", line))
    except ExecutionError:
        crash(client, run, "It could not be rolled back")  # so that it can be tried again at once
        raise
    return run


def _require_resumable(
    client: SyncPrefectClient, run: FlowRun, flow: Flow[..., Any], execution_id: str
) -> Options[Any]:
    """What `@execution` says of the flow of an execution that may be continued in a process.

    Raises:
        ExecutionConflict: It may not.
    """
    options = Options.of(flow.fn)
    with prefect_errors():
        name = client.read_flow(run.flow_id).name
    parent = parent_of(run)
    if EXECUTION not in run.tags or options is None:
        hint = "Its flow is not decorated with `@execution`, or has not begun."
    elif OUTSIDE in run.tags:
        hint = "An agent outside Prefect runs it."
    elif run.deployment_id is not None:
        hint = f"A worker runs it: `prefect-executions resume {execution_id}`."
    elif parent is not None:
        hint = f"It was called in {parent}, and goes on with that."
    elif status_of(run) is Status.COMPLETED:
        hint = "It has its result."
    elif name != flow.name:
        hint = f"It is one of the flow {name!r}, not of {flow.name!r}."
    elif lost := _lost_parameters(run, flow):
        hint = f"Prefect could not keep its parameters {', '.join(lost)}, which are no JSON."
    else:
        return options
    raise ExecutionConflict(execution_id, "resume", status_of(run), hint)


def _lost_parameters(run: FlowRun, flow: Flow[..., Any]) -> list[str]:
    known = inspect.signature(flow.fn).parameters
    return [
        name
        for name, value in run.parameters.items()
        if isinstance(value, str) and _NOT_KEPT.fullmatch(value)
        # A text that only looks so is one where the flow takes texts.
        if name not in known or not _TEXT.search(f"{known[name].annotation}")
    ]


def _require_dead(client: SyncPrefectClient, run: FlowRun, execution_id: str) -> None:
    """Check that no process runs an execution, as far as this machine and Prefect know.

    Raises:
        ExecutionConflict: One does, or may.
    """
    states = read_states(client, run.id)
    ended = alive.ended_here(execution_id)
    hint = None
    if alive.is_held(execution_id):
        hint = "Its process is at work on this machine: end it first."
    elif not (state_of(run).is_final() or _is_newest(states, ended)):
        began = max(
            (state.timestamp for state in states if state.is_running()),
            default=state_of(run).timestamp,
        )
        silent = datetime.now(UTC) - last_sign(client, run.id, began)
        left = timedelta(seconds=ExecutionsSettings().silence_seconds) - silent
        if left > timedelta(0):
            hint = (
                "It was begun on another machine, or under another user, and has given a sign of "
                f"life {silent.total_seconds():.0f} s ago. Once its process has ended, try again "
                f"in {left.total_seconds():.0f} s."
            )
    if hint is not None:
        raise ExecutionConflict(execution_id, "resume", status_of(run), hint)


def _is_newest(states: list[State[Any]], ended: Any) -> bool:
    """Whether no process has begun after that of a Running state: it would have been Pending."""
    at = next((at for at, state in enumerate(states) if state.id == ended), None)
    return at is not None and not any(state.is_pending() for state in states[at + 1 :])
