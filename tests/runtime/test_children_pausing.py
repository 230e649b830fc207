"""Children that pause and ask: their parents pause with them, and they with their parents."""

from datetime import timedelta
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

from families import PAUSED, asks, clear, done, ids, of_one, pauses, pay
from prefect_executions import execution
from prefect_executions.errors import ExecutionConflict
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.states import state_of
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.supervisor.duty import DutyContext
from prefect_executions.supervisor.pauses import PausedRuns
from prefect_executions.testkit import TestKit, Trial

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    clear()


def require_completed_by_one_child(trial: Trial) -> None:
    assert trial.status == "completed", trial
    assert done == PAUSED
    assert len(set(ids)) == 1


@pytest.mark.parametrize("by", ["parent", "child"])
@pytest.mark.parametrize("inner", [asks, pauses], ids=["ask", "pause"])
def test_a_child_that_pauses_pauses_its_parent_and_either_can_be_resumed(
    kit: TestKit, inner: Any, by: str
) -> None:
    trial = kit.start(of_one(inner))
    child_id, state = ids[0], trial.get().prefect
    paused = kit.executions.get(child_id)
    answer = {"approved": True} if inner is asks else None
    assert (trial.status, paused.status) == ("paused", "paused")
    assert paused.id in f"{state}"

    if by == "parent":
        trial.resume(input=answer)
    else:
        kit.executions.resume(child_id, answer=answer)
        trial.run()

    assert trial.status == "completed", trial
    assert done == PAUSED
    assert set(ids) == {child_id}
    assert kit.executions.get(child_id).status == "completed"


def test_a_run_around_a_child_that_pauses_again_does_not_stay_running(kit: TestKit) -> None:
    @flow
    @execution
    def twice(name: str) -> str:
        ids.append(execution.current().id)
        execution.current().pause("Look")
        execution.current().pause("Look again")
        return name

    trial = kit.start(of_one(twice))
    trial.resume()
    filter_ = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"execution-around:{ids[0]}"]))
    with get_client(sync_client=True) as client:
        (around,) = client.read_flow_runs(flow_run_filter=filter_)
    assert (trial.status, around.state_name) == ("paused", "Cancelled")
    trial.resume()

    assert trial.result == "paid after x"


def test_a_question_of_a_grandchild_is_answered_through_all_of_them(kit: TestKit) -> None:
    @flow
    @execution
    def between(name: str) -> str:
        return asks(name)

    trial = kit.start(of_one(between))
    kit.executions.resume(ids[0], answer={"approved": True})
    trial.run()

    assert trial.status == "completed", trial
    assert done == PAUSED


def test_a_parent_whose_child_asks_survives_every_crash(kit: TestKit) -> None:
    def check(_: Trial) -> None:
        assert done == PAUSED
        assert len(set(ids)) == 1

    kit.crash_everywhere(
        of_one(asks),
        answers=[{"approved": True}],
        before=clear,
        check=check,
        points=4,
        lose_writes=False,
    )


def test_a_child_that_is_paused_from_outside_pauses_its_parent(kit: TestKit) -> None:
    @flow
    @execution
    def is_paused(name: str) -> str:
        ids.append(execution.current().id)
        pay(f"{name} 1")
        if execution.current().attempt == 1:
            kit.executions.pause(execution.current().id, reason="wait")
        execution.current().state["n"] = 1
        execution.current().checkpoint()
        return pay(f"{name} 2")

    trial = kit.start(of_one(is_paused))
    assert (trial.status, kit.executions.get(ids[0]).status) == ("paused", "paused")
    trial.resume()

    require_completed_by_one_child(trial)


def test_a_child_stays_paused_whose_process_dies_before_the_pause_takes_effect(
    kit: TestKit,
) -> None:
    @flow
    @execution
    def is_paused(name: str) -> str:
        ids.append(execution.current().id)
        pay(f"{name} 1")
        if execution.current().attempt == 1:
            kit.executions.pause(execution.current().id, reason="wait")
            kit.crash()
        return pay(f"{name} 2")

    trial = kit.start(of_one(is_paused))
    trial.resume()  # as a supervisor does after a crash
    assert (trial.status, kit.executions.get(ids[0]).status) == ("paused", "paused")
    assert len(ids) == 1
    trial.resume()

    require_completed_by_one_child(trial)


def test_a_child_is_paused_with_its_parent_and_not_resumed_without_it(kit: TestKit) -> None:
    @flow
    @execution
    def pauses_parent(name: str) -> str:
        ids.append(execution.current().id)
        pay(f"{name} 1")
        if execution.current().attempt == 1:
            kit.executions.pause(parents[0], reason="wait")
        execution.current().state["n"] = 1
        execution.current().checkpoint()
        return pay(f"{name} 2")

    @flow
    @execution
    def calls() -> str:
        parents.append(execution.current().id)
        pay("before")
        return pay(f"after {pauses_parent('x')}")

    parents: list[str] = []
    trial = kit.start(calls)
    assert (trial.status, kit.executions.get(ids[0]).status) == ("paused", "paused")
    with pytest.raises(ExecutionConflict, match=parents[0]):
        kit.executions.resume(ids[0])
    trial.resume()

    require_completed_by_one_child(trial)


def supervise(kit: TestKit, trial: Trial) -> list[str]:
    """Let a supervisor look at the parent and its child once; returns what it has done."""
    actions: list[str] = []
    with get_client(sync_client=True) as client:
        context = DutyContext(
            kit.executions, client, ExecutionsSettings(), on_action=actions.append
        )
        duty = PausedRuns(context)
        for run in map(client.read_flow_run, map(flow_run_id, [trial.id, ids[0]])):
            if state_of(run).is_paused():
                duty.act(run)
    return actions


def test_a_supervisor_resumes_a_parent_whose_child_was_resumed_in_prefect(kit: TestKit) -> None:
    trial = kit.start(of_one(asks))
    assert supervise(kit, trial) == []
    with get_client(sync_client=True) as client:
        client.resume_flow_run(flow_run_id(ids[0]), {"approved": True})

    assert supervise(kit, trial) == ["resumed a parent"]
    trial.run()

    assert trial.status == "completed", trial
    assert done == PAUSED


def test_a_child_whose_time_is_over_in_a_pause_fails_its_parent(kit: TestKit) -> None:
    @flow
    @execution
    def fades(name: str) -> str:
        ids.append(execution.current().id)
        pay(f"{name} 1")
        execution.current().pause("Look", until=timedelta(0), on_timeout="fail")
        return pay(f"{name} 2")

    trial = kit.start(of_one(fades))
    assert {*supervise(kit, trial), *supervise(kit, trial)} == {"ended a pause", "resumed a parent"}
    trial.run()
    assert (trial.status, len(ids)) == ("failed", 1)
    trial.resume()

    assert trial.status == "completed", trial
    assert done == PAUSED
