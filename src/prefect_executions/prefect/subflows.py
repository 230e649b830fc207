"""Subflow runs: executions inside executions, and the runs that only stand around them.

Prefect makes a new run for each call of a flow inside another. Where the call continues an
execution that exists, the new run stands around the execution's own run: it calls no hooks, is not
tried again, and ends as the other does.

What Prefect does not document as an interface is used here and nowhere else: `run_flow` with a run,
the counters by which Prefect finds an earlier run of a call, the contexts around one, and the lists
of a flow's hooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import update_wrapper
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy, State, StateType
from prefect.context import ContextModel, FlowRunContext
from prefect.flows import Flow
from prefect.states import Cancelled, Completed, Pending

from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.tags import around_tag, is_around
from prefect_executions.prefect.transitions import crash, find_run, set_state

CALLS = 1_000_000  # how many calls of one flow an attempt may make before its counters repeat

C = TypeVar("C", bound=ContextModel)

_HOOKS = (
    "on_completion_hooks",
    "on_failure_hooks",
    "on_cancellation_hooks",
    "on_crashed_hooks",
    "on_running_hooks",
)

_continued: ContextVar[UUID | None] = ContextVar("continued_flow_run", default=None)


class _Counters(dict[str, Any]):
    """Counters of the calls of each flow, from a number on; Prefect's begin with 0."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._before = first - 1

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> int:
        return self._before


def count_calls_anew(context: FlowRunContext, attempt: int) -> None:
    """Let each call of a flow in this attempt get a run of its own.

    Prefect finds an earlier run of a call by counting the calls of a flow, whatever their inputs.
    An attempt that makes other calls than the one before would get the runs of others.
    """
    context.task_run_dynamic_keys = _Counters((attempt - 1) * CALLS)


def outwards(context: C | None) -> Iterator[C]:
    """A context of Prefect and those around it; Prefect shows only the innermost."""
    while context is not None:
        yield context
        token = context._token
        outer: Any = Token.MISSING if token is None else token.old_value
        context = None if outer is Token.MISSING else outer


def keep_result_from_others(context: FlowRunContext, caller: UUID) -> None:
    """Let Prefect not persist the result of a child that is called in a plain flow.

    When Prefect tries that flow again, it finds an earlier run of a call by counting, and would
    give its persisted result to another call.

    Args:
        context: The context of the child's run.
        caller: The run of the execution that the child is called in.
    """
    for around in list(outwards(context))[1:]:
        if around.flow_run is None or around.flow_run.id == caller:
            return
        if not is_around(around.flow_run):
            context.persist_result = False


def is_continued(run: FlowRun) -> bool:
    """Whether this code was called by `continue_run`, to carry out this run."""
    return _continued.get() == run.id


def make_run(
    client: SyncPrefectClient, flow: Flow[..., Any], parameters: dict[str, Any], beside: FlowRun
) -> FlowRun:
    """Make another run for the call of a flow that has got the run `beside`."""
    with prefect_errors(beside.id):
        return client.create_flow_run(
            flow,
            parameters=flow.serialize_parameters(parameters),
            parent_task_run_id=beside.parent_task_run_id,
            state=Pending(),
        )


def stand_around(
    client: SyncPrefectClient, around: FlowRun, flow: Flow[..., Any], execution_id: str
) -> None:
    """Let the run that Prefect has made for a call stand around the execution's own.

    Runs of earlier attempts that stand around it, and whose process has died, are ended.

    Args:
        client: Prefect's client.
        around: The new run, as the engine has it.
        flow: Its flow.
        execution_id: The execution.
    """
    for name in _HOOKS:
        hooks: list[Any] = getattr(flow, name)
        hooks[:] = [hook if isinstance(hook, _Hook) else _Hook(hook) for hook in hooks]
    tag = around_tag(execution_id)
    around.tags = [*around.tags, tag]
    alive = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    filter_ = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=alive)
    )
    with prefect_errors(around.id):
        policy = FlowRunPolicy(retries=0, retry_delay=0)
        client.update_flow_run(around.id, tags=around.tags, empirical_policy=policy)
        left = client.read_flow_runs(flow_run_filter=filter_)
    for run in left:
        if run.id != around.id:
            crash(client, run, "The attempt that it belongs to has ended.")


def leave_around(client: SyncPrefectClient, around: FlowRun) -> None:
    """End a run that stands around an execution's own, since that is paused."""
    state: State[Any] = Cancelled(message="The execution that it stands around is paused")
    set_state(client, around.id, state, "leave", force=True)


def continue_run(flow: Flow[..., Any], run: FlowRun, parameters: dict[str, Any]) -> Any:
    """Carry out a run of a flow in this process; returns a coroutine where the flow is async."""
    # Takes 12 ms, and Prefect has loaded it when a flow runs.
    from prefect.flow_engine import run_flow  # noqa: PLC0415

    if flow.isasync:
        return _continue_later(run, run_flow(flow, flow_run=run, parameters=parameters))
    with _continuing(run):
        return run_flow(flow, flow_run=run, parameters=parameters)


async def _continue_later(run: FlowRun, ended: Any) -> Any:
    with _continuing(run):
        return await ended


@contextmanager
def _continuing(run: FlowRun) -> Iterator[None]:
    token = _continued.set(run.id)
    try:
        yield
    finally:
        _continued.reset(token)


def make_ready(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Let an engine of Prefect carry out a run again, whatever state it is in."""
    state: State[Any] = Pending(message="Its parent goes on with it")
    return set_state(client, run.id, state, "continue", force=True)


def show_completed(client: SyncPrefectClient, run_id: UUID) -> None:
    """Complete a run whose result is recorded, and whose process died before Prefect knew."""
    run = find_run(client, run_id)
    if run is None or state_of(run).is_completed():
        return
    state: State[Any] = Completed(message="Its parent has recorded its result")
    set_state(client, run_id, state, "complete", force=True)


class _Hook:
    """A hook of a flow that is not called for runs which only stand around others."""

    def __init__(self, hook: Any) -> None:
        update_wrapper(self, hook)
        self._hook = hook

    def __call__(self, flow: Flow[..., Any], run: FlowRun, state: Any) -> Any:
        return None if is_around(run) else self._hook(flow, run, state)
