"""Comparing executions: steps by what they were called with, states by label."""

from typing import Any
from uuid import uuid4

import jsonpatch
import pytest
from prefect import flow

from prefect_executions import execution, step
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions import comparing
from prefect_executions.executions.comparing import compare
from prefect_executions.executions.executions import Executions
from prefect_executions.models import Comparison
from prefect_executions.storage.objects import Objects
from prefect_executions.testkit import TestKit, Trial
from stores import Counting

said: list[str] = []


@step
def model(prompt: str, page: str) -> str:
    return f"{prompt} {page}"


@step
def weather() -> str:
    said.append("sunny" if not said else "rainy")
    return said[-1]


@flow
@execution
def report(prompt: str, pages: list[str]) -> str:
    run = execution.current()
    run.state["weather"] = weather()
    run.checkpoint(label="weather")
    for page in pages:
        run.state[page] = model(prompt if page == "two" else "read", page)
        run.checkpoint(label="page")
    return str(run.state)


@pytest.fixture
def pair(kit: TestKit) -> tuple[Trial, Trial]:
    """Two with other prompts and other weather, the second with a page more."""
    said.clear()
    return (
        kit.start(report, prompt="short", pages=["one", "two"]),
        kit.start(report, prompt="long", pages=["one", "two", "three"]),
    )


def compared(kit: TestKit, pair: tuple[Trial, Trial]) -> Comparison:
    return compare(kit.executions, [trial.id for trial in pair])


def test_steps_are_the_same_changed_or_only_here(kit: TestKit, pair: tuple[Trial, Trial]) -> None:
    one, two = pair
    found = compared(kit, pair)

    assert [(it.id, it.status, it.result, it.attempts) for it in found.executions] == [
        (trial.id, "completed", trial.result, 1) for trial in pair
    ]
    counts = [(it.steps.same, it.steps.changed, it.steps.only) for it in found.executions]
    assert counts == [(1, 1, 1), (1, 1, 2)]
    assert [(it.step, it.what, it.ids) for it in found.steps] == [
        ("weather", "changed", [one.id, two.id]),
        ("model", "only", [one.id]),
        ("model", "only", [two.id]),
        ("model", "only", [two.id]),
    ]
    costs = [kit.executions.cost(trial.id) for trial in pair]
    told = [(it.requests, it.bytes_stored) for it in found.executions]
    assert told == [(cost.puts, cost.bytes_stored) for cost in costs]


def test_states_are_compared_where_labels_agree(kit: TestKit, pair: tuple[Trial, Trial]) -> None:
    one, two = pair
    states = {trial.id: {p.id: p.state for p in trial.get().checkpoints} for trial in pair}

    found = compared(kit, pair).checkpoints

    assert [it.label for it in found] == ["weather", "page", "page"]
    for it in found:
        first, other = (states[trial.id][it.ids[trial.id]] for trial in pair)
        patch: Any = it.patches[two.id]
        assert jsonpatch.apply_patch(first, patch) == other != first
        assert one.id not in it.patches


def test_a_fork_of_which_nothing_changed_is_the_same(kit: TestKit) -> None:
    trial = kit.start(report, prompt="short", pages=["one", "two"])
    fork = trial.fork(checkpoint_id="ckpt_000000", effects="replay")

    found = compare(kit.executions, [trial.id, fork.id])

    assert found.steps == []
    assert [it.patches for it in found.checkpoints] == [{fork.id: []}] * 3


def test_what_would_make_the_answer_too_large_is_left_out(
    kit: TestKit, pair: tuple[Trial, Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "STATES_BYTES", 100)

    found = compared(kit, pair).checkpoints

    assert [it.patches[pair[1].id] is None for it in found] == [False, True, True]


def test_each_is_read_by_a_few_requests(kit: TestKit, pair: tuple[Trial, Trial]) -> None:
    store: Objects = Counting(kit.executions.objects)
    compare(Executions(store, kit.executions.flow_runs), [trial.id for trial in pair])

    assert isinstance(store, Counting)
    assert (store.scans, len(store.rounds)) == (2, 2)


def test_one_that_is_not_there_is_refused(kit: TestKit, pair: tuple[Trial, Trial]) -> None:
    with pytest.raises(ExecutionNotFound):
        compare(kit.executions, [pair[0].id, f"exec_{uuid4().hex}"])
