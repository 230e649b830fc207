"""Children whose parents go back or are forked, and children that somebody ends."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Running

from families import (
    PAID,
    PAUSED,
    child,
    clear,
    done,
    fail,
    failing,
    ids,
    of_one,
    parent,
    pauses,
    pay,
)
from prefect_executions import execution
from prefect_executions.ids import flow_run_id
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.supervisor.crashes import CrashedRuns, PendingRuns
from prefect_executions.supervisor.duty import DutyContext
from prefect_executions.testkit import TestKit, Trial

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    clear()


@flow
@execution
def rolls() -> list[str]:
    execution.current().state["n"] = 1
    execution.current().checkpoint(label="before")
    found = child("x")
    execution.current().state["n"] = 2
    execution.current().checkpoint(label="behind")
    fail("end")
    return found


def labelled(trial: Trial, label: str) -> str:
    return next(c.id for c in trial.get().checkpoints if c.label == label)


@pytest.mark.parametrize(("label", "count"), [("before", 2), ("behind", 1)])
def test_a_roll_back_to_before_a_child_forgets_it(kit: TestKit, label: str, count: int) -> None:
    failing["end"] = 1

    trial = kit.start(rolls)
    behind = trial.resume(checkpoint_id=labelled(trial, label)).steps_behind

    assert trial.status == "completed", trial
    assert [step.step for step in behind] == ["child"] * (count - 1)
    assert len(set(ids)) == count
    assert done == {"x 1": count, "x 2": count}


def test_a_fork_keeps_what_has_returned_and_begins_the_others_anew(kit: TestKit) -> None:
    failing["b"] = 1

    trial = kit.start(parent)
    fork = trial.fork()

    assert fork.status == "completed", fork
    assert len(set(ids)) == 3
    assert done == PAID + Counter({"b 1": 1})
    assert trial.status == "failed"


def test_a_cancelled_child_fails_its_parent_and_goes_on_when_that_is_resumed(
    kit: TestKit,
) -> None:
    @flow
    @execution
    def is_cancelled(name: str) -> str:
        ids.append(execution.current().id)
        pay(f"{name} 1")
        if execution.current().attempt == 1:
            with get_client(sync_client=True) as client:
                run_id = flow_run_id(execution.current().id)
                client.set_flow_run_state(run_id, Cancelling(), force=True)
        execution.current().state["n"] = 1
        execution.current().checkpoint()
        return pay(f"{name} 2")

    @flow
    @execution(max_retries=2)
    def calls() -> str:
        pay("before")
        return pay(f"after {is_cancelled('x')}")

    trial = kit.start(calls)
    assert (trial.status, kit.executions.get(ids[0]).status) == ("failed", "terminated")
    assert len(ids) == 1
    trial.resume()

    assert trial.status == "completed", trial
    assert done == PAUSED
    assert len(set(ids)) == 1


@pytest.mark.parametrize("together", [True, False])
def test_a_paused_child_that_is_cancelled_goes_on_only_if_its_parent_was_too(
    kit: TestKit, *, together: bool
) -> None:
    trial = kit.start(of_one(pauses))
    with get_client(sync_client=True) as client:
        for id_ in [ids[0], *([trial.id] if together else [])]:
            client.set_flow_run_state(flow_run_id(id_), Cancelled(), force=True)
    trial.resume()

    if together:
        assert trial.status == "completed", trial
    else:
        assert (trial.status, len(ids)) == ("failed", 1), trial
        trial.resume()
    assert done == PAUSED
    assert len(set(ids)) == 1


def test_a_child_that_was_deleted_is_begun_anew(kit: TestKit) -> None:
    failing["b"] = 1
    trial = kit.start(parent)

    kit.executions.delete(ids[-1])
    trial.resume()

    assert trial.status == "completed", trial
    assert len(set(ids)) == 3


def test_runs_that_only_stood_around_a_child_do_not_stay_running(kit: TestKit) -> None:
    """A process that is killed leaves them Running; the next one ends them."""
    failing["b"] = 2
    trial = kit.start(parent)
    trial.resume()
    filter_ = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"execution-around:{ids[1]}"]))
    with get_client(sync_client=True) as client:
        (around,) = client.read_flow_runs(flow_run_filter=filter_)
        client.set_flow_run_state(around.id, Running(), force=True)

    trial.resume()

    with get_client(sync_client=True) as client:
        states = [run.state_name for run in client.read_flow_runs(flow_run_filter=filter_)]
    assert trial.status == "completed", trial
    assert sorted(f"{state}" for state in states) == ["Completed", "Crashed"]


@pytest.mark.parametrize("left", [Pending(), Crashed()], ids=lambda state: state.name)
def test_a_supervisor_does_not_start_a_child_alone(kit: TestKit, left: State[Any]) -> None:
    """Its process was killed, together with that of its parent."""
    failing["b"] = 1
    trial = kit.start(parent)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id(ids[1]), left, force=True)
        context = DutyContext(
            kit.executions,
            client,
            ExecutionsSettings(),
            clock=lambda: datetime.now(UTC) + timedelta(hours=1),
        )
        duty = PendingRuns(context) if left.is_pending() else CrashedRuns(context)

        duty.act(client.read_flow_run(flow_run_id(ids[1])))

        after = client.read_flow_run(flow_run_id(ids[1])).state_name
        assert after == ("Crashed" if left.is_pending() else "Failed")  # as its parent has
    trial.resume()

    assert trial.status == "completed", trial
    assert len(set(ids)) == 2
