"""What is used of Prefect for subflow runs, and not documented: this fails where it has changed."""

from collections import Counter
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import Failed

from prefect_executions.prefect import subflows
from prefect_executions.prefect.subflows import (
    CALLS,
    continue_run,
    count_calls_anew,
    is_continued,
    make_ready,
    make_run,
    stand_around,
)
from prefect_executions.prefect.tags import is_around

called: Counter[str] = Counter()


def here() -> FlowRun:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return context.flow_run


@flow
def which() -> FlowRun:
    return here()


def test_prefect_counts_the_calls_of_a_flow_as_it_is_told(quick: None) -> None:
    @flow
    def calls() -> list[Any]:
        context = FlowRunContext.get()
        assert context is not None
        first = which()
        count_calls_anew(context, 3)
        return [first.parent_task_run_id, *(which().parent_task_run_id for _ in range(2))]

    with get_client(sync_client=True) as client:
        keys = [client.read_task_run(id_).dynamic_key for id_ in calls()]

    assert keys == ["0", f"{2 * CALLS}", f"{2 * CALLS + 1}"]


def test_a_run_is_carried_out_again_with_its_own_hooks_alone(quick: None) -> None:
    @flow(retries=1)
    def inner() -> str:
        if is_continued(here()):
            return "continued"
        with get_client(sync_client=True) as client:
            run = make_run(client, inner, {}, beside=here())
            client.set_flow_run_state(run.id, Failed(), force=True)
            stand_around(client, here(), inner, "exec_1")
            assert continue_run(inner, make_ready(client, run), {}) == "continued"
        raise RuntimeError

    @inner.on_completion
    def completed(_: Flow[..., Any], run: FlowRun, __: Any) -> None:
        assert not is_around(run)
        called["completed"] += 1

    @inner.on_failure
    def failed(*_: Any) -> None:
        called["failed"] += 1

    @flow
    def outer() -> str:
        return inner(return_state=True).name

    called.clear()

    assert outer() == "Failed"
    assert called == {"completed": 1}


def test_a_flow_has_no_other_hooks() -> None:
    hooks = {name for name in vars(which) if name.startswith("on_") and name.endswith("_hooks")}

    assert hooks == set(subflows._HOOKS)
