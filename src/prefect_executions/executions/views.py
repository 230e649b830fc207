"""The values of the API, made from flow runs in Prefect and their logs."""

from datetime import datetime
from typing import Any

import jsonpatch
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for

from prefect_executions import serialization
from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Outcome
from prefect_executions.log.reader import Head, History
from prefect_executions.models import (
    Checkpoint,
    Execution,
    FlowRunFacts,
    ForkOrigin,
    PrefectRun,
    Question,
    RecordedStep,
    Summary,
)
from prefect_executions.prefect.pauses import Form
from prefect_executions.prefect.run_page import Row, RunPage
from prefect_executions.prefect.states import (
    active_time,
    created_at,
    state_of,
    status_of,
    worker_of,
)
from prefect_executions.prefect.tags import OUTSIDE, agent_of, task_type_of

AGENT, NOBODY = "an agent outside Prefect", "nobody yet"
PROCESS = "a process without a worker"
STATES_BYTES = 16 << 20  # of the states of checkpoints in one answer, as JSON
RESULTS_BYTES = 1 << 20  # of what steps have returned, in one answer, as JSON


def execution_of(
    run: FlowRun, history: History, now: datetime, *, states: bool, state: bool = True
) -> Execution:
    """Make an `Execution`.

    Args:
        run: Its flow run.
        history: Its log.
        now: The present time; a running one has been active until now.
        states: Whether its checkpoints come with their states.
        state: Whether it comes with its newest state, or else with None.
    """
    head = history.head
    meta = history.created.meta or {}
    status = status_of(run)
    return Execution(
        id=execution_id(run.id),
        name=meta["name"],
        description=meta["description"],
        agent_id=meta["agent_id"],
        task_type=meta["task_type"],
        status=status,
        state=serialization.load(head.state) if state else None,
        continues_from=checkpoint_id(head.entry.continues_from),
        checkpoints=checkpoints_of(history, states=states),
        config=history.created.config,
        elapsed_seconds=int(active_seconds(run, head, now)),
        created_at=created_at(run),
        started_at=run.start_time,
        completed_at=run.end_time if status.ended else None,
        updated_at=max(state_of(run).timestamp, head.entry.at),
        prefect=_prefect_run(run, head),
        result=_result_of(head, status),
        forked_from=ForkOrigin(**meta["fork"]) if "fork" in meta else None,
    )


def checkpoints_of(history: History, *, states: bool) -> list[Checkpoint]:
    """The checkpoints of a history, newest first.

    Args:
        history: The history.
        states: Whether they come with their states, the newest of them up to `STATES_BYTES`.
    """
    checkpoints, left = [], STATES_BYTES
    for entry in history.checkpoints():
        left -= entry.size if states else 0
        has_state = states and left >= 0
        state = serialization.load(history.state(entry.seq)) if has_state else None
        checkpoint = checkpoint_of(entry, state)
        checkpoint.state_left_out = states and not has_state
        checkpoints.append(checkpoint)
    return checkpoints


def checkpoint_of(entry: Entry, state: Any) -> Checkpoint:
    """A checkpoint, from its entry in the log."""
    return Checkpoint(
        id=checkpoint_id(entry.seq),
        label=entry.label,
        state=state,
        timestamp=entry.at,
        attempt=entry.attempt,
        size=entry.size,
        saved_by=entry.saved_by,
        reason=entry.reason,
    )


def patch_of(before: Any, after: Any) -> list[dict[str, Any]]:
    """The JSON Patch (RFC 6902) that changes one JSON value into another."""
    patch: list[dict[str, Any]] = jsonpatch.make_patch(before, after).patch
    return patch


def steps_since(before: Head, after: Head) -> list[RecordedStep]:
    """What steps have recorded by `after`, and had not by `before`, in the order of the calls."""
    known = {(record.order, record.key, record.at) for record in before.records().values()}
    steps, left = [], RESULTS_BYTES
    for record in after.records().values():
        is_new = (record.order, record.key, record.at) not in known
        if not is_new or record.outcome in (Outcome.UNDO, Outcome.UNDONE):
            continue
        size = len(record.result or b"")
        is_shown = record.large is None and size <= left
        left -= size if is_shown else 0
        result = serialization.load(record.result) if is_shown and record.result else None
        steps.append(
            RecordedStep(
                step=record.step,
                recorded_at=record.at,
                called_with=record.called_with,
                outcome=record.outcome.value,
                result=result,
                result_left_out=not is_shown,
            )
        )
    return steps


def question_of(run: FlowRun, form: Form) -> Question:
    """What a run asks, by the form of its pause."""
    state = state_of(run)
    return Question(
        execution_id=execution_id(run.id),
        id=f"{state.state_details.pause_key}",
        prompt=form.description,
        answer_schema=form.schema,
        asked_at=state.timestamp,
    )


def summary_of(run: FlowRun) -> Summary:
    """An execution in a list, without its log."""
    status = status_of(run)
    return Summary(
        id=execution_id(run.id),
        name=run.name,
        agent_id=agent_of(run),
        task_type=task_type_of(run),
        status=status,
        started_at=run.start_time,
        completed_at=run.end_time if status.ended else None,
        created_at=created_at(run),
        updated_at=state_of(run).timestamp,
        prefect=_facts_of(run),
    )


def run_page_of(run: FlowRun, history: History, now: datetime) -> RunPage:
    """What the page of a flow run in the Prefect UI shows."""
    head, status = history.head, status_of(run)
    return RunPage(
        execution_id=execution_id(run.id),
        status=status,
        message=state_of(run).message,
        attempt=head.entry.attempt,
        active_seconds=active_seconds(run, head, now),
        state=head.state,
        checkpoints=[Row.of(entry) for entry in history.checkpoints()],
    )


def active_seconds(run: FlowRun, head: Head, now: datetime) -> float:
    """For how many seconds an execution was active."""
    return max(active_time(run, now).total_seconds() - head.entry.dead_seconds, 0.0)


def _facts_of(run: FlowRun) -> FlowRunFacts:
    state = state_of(run)
    return FlowRunFacts(
        flow_run_id=run.id,
        state_name=state.name or state.type.value,
        message=state.message,
        deployment=run.deployment_id,
        url=url_for(run),
    )


def _prefect_run(run: FlowRun, head: Head) -> PrefectRun:
    facts = _facts_of(run)
    if facts.message is None and state_of(run).is_completed() and head.entry.attempt == 0:
        facts.message = "Nothing was recorded: its flow has no `@execution` below `@flow`."
    if facts.message is None and is_unclaimed(run, head):
        facts.message = _how_to_go_on(execution_id(run.id), head.created.config)
    return PrefectRun(**dict(facts), attempt=head.entry.attempt, runs_on=_runs_on(run, head))


def _runs_on(run: FlowRun, head: Head) -> str | None:
    """What runs an execution now, as far as its run and its log say."""
    if status_of(run) is not Status.RUNNING:
        return None
    if not state_of(run).is_running() or is_unclaimed(run, head):
        return NOBODY
    return AGENT if OUTSIDE in run.tags else worker_of(run) or PROCESS


def is_unclaimed(run: FlowRun, head: Head) -> bool:
    """Whether no agent outside Prefect has saved anything, or begun an attempt of its own.

    The first attempt begins with the creation, whether or not an agent has asked for that.
    """
    is_first = head.entry.kind is Kind.ATTEMPT and head.entry.attempt == 1
    return OUTSIDE in run.tags and is_first and state_of(run).is_running()


def claim(execution: Execution) -> None:
    """Say of an execution that `is_unclaimed` that an agent outside Prefect runs it, after all."""
    execution.prefect.runs_on, execution.prefect.message = AGENT, None


def _how_to_go_on(id_: str, config: ExecutionConfig) -> str:
    """What the agent outside Prefect that runs an execution is to do."""
    interval = config.checkpoint_interval_seconds
    silence = "15 minutes, by default," if interval is None else f"{3 * interval:g} s"
    return (
        "No deployment was named for it, so no worker runs it: its caller does, as an agent "
        f'outside Prefect. Save what it has got to by PUT …/{id_}/checkpoint with {{"state": …, '
        f'"attempt": 1}}; between checkpoints POST …/{id_}/heartbeat with {{"attempt": 1}}, since '
        f"silence for longer than {silence} counts as a crash; at the end POST …/{id_}/complete "
        f'with {{"result": …, "attempt": 1}}, or POST …/{id_}/fail with {{"error": "…", '
        '"attempt": 1}. Stop on any status but `running`, and on any 409. For a worker to run it, '
        "create it with `deployment`."
    )


def _result_of(head: Head, status: Status) -> Any:
    if status is not Status.COMPLETED or head.entry.kind is not Kind.RESULT:
        return None
    return (head.entry.meta or {})["result"]
