"""Programs of executions in executions, steps and plain flows that fail and are killed.

A program is the input of a flow: lists of calls. Each call stands for a piece of work, which its
inputs do not tell: equal calls occur. Wherever the program fails or is killed, each call has to
give the result of its own work, each piece of work is done once, and each child is one execution.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from prefect import flow

from prefect_executions import execution, step
from prefect_executions.runtime import children
from prefect_executions.steps.recorder import Recorder
from prefect_executions.testkit import TestKit

pytestmark = pytest.mark.long


Body = list[list[Any]]  # of each call: what is called, its input, how often it fails, and its body

done: Counter[str] = Counter()
failed: Counter[str] = Counter()
ids: defaultdict[str, set[str]] = defaultdict(set)

_work: ContextVar[str] = ContextVar("work", default="0")


@step
def pay(n: int) -> str:
    done[_work.get()] += 1
    return _work.get()


@step
def outer(n: int, fails: int, body: Body) -> list[Any]:
    return run(fails, body)


@flow
@execution
def child(n: int, fails: int, body: Body) -> list[Any]:
    ids[_work.get()].add(execution.current().id)
    return run(fails, body)


@flow
def plain(n: int, fails: int, body: Body) -> list[Any]:
    return run(fails, body)


@flow
@execution
def program(body: Body) -> list[Any]:
    return run(0, body)


CALLED: dict[str, Any] = {"outer": outer, "child": child, "plain": plain}


def run(fails: int, body: Body) -> list[Any]:
    """Make the calls of a body, and fail at the end while that is due."""
    work, found = _work.get(), []
    for n, (what, *inputs) in enumerate(body):
        token = _work.set(f"{work}.{n}")
        try:
            found.append(pay(*inputs) if what == "pay" else CALLED[what](*inputs))
        finally:
            _work.reset(token)
    if failed[work] < fails:
        failed[work] += 1
        raise RuntimeError(work)
    return found


def expected(body: Body, work: str = "0") -> list[Any]:
    """What a program returns."""
    return [
        f"{work}.{n}" if what == "pay" else expected(inputs[-1], f"{work}.{n}")
        for n, (what, *inputs) in enumerate(body)
    ]


def works(found: list[Any]) -> list[str]:
    return [w for each in found for w in (works(each) if isinstance(each, list) else [each])]


def _around(calls: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(calls, min_size=1, max_size=2)
    what = st.sampled_from(["child", "child", "outer", "plain"])
    return st.tuples(what, st.just(0), st.integers(0, 1), body).map(list)


PAY: st.SearchStrategy[Any] = st.tuples(st.just("pay"), st.integers(0, 1)).map(list)
PROGRAMS = st.lists(st.recursive(PAY, _around, max_leaves=4), min_size=1, max_size=3)
DEATHS = st.lists(st.integers(1, 8), max_size=2)

EQUAL: Body = [["child", 0, 1, [["pay", 0], ["pay", 0]]], ["child", 0, 1, [["pay", 0], ["pay", 0]]]]
DEEP: Body = [
    ["plain", 0, 1, [["child", 0, 1, [["outer", 0, 1, [["child", 0, 0, [["pay", 0]]]]]]]]]
]


def require(kit: TestKit, body: Body, deaths: list[int]) -> None:
    """Run a program, killed after so many entries in each attempt, and look at what it has done."""
    for of in (done, failed, ids):
        of.clear()
    trial = None
    while trial is None or trial.status == "failed":
        with ExitStack() as stack:
            if deaths:
                stack.enter_context(kit.crash_after(deaths[0]))
            deaths = deaths[1:]
            if trial is None:
                trial = kit.start(program, body=body)
            else:
                trial.resume()

    assert trial.status == "completed", trial
    assert trial.result == expected(body)
    assert done == Counter(works(expected(body)))
    assert {len(each) for each in ids.values()} <= {1}


@example(EQUAL, [6])
@example(DEEP, [5])
@settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(PROGRAMS, DEATHS)
def test_wherever_executions_in_executions_die_or_fail_each_is_one_and_pays_once(
    kit: TestKit, body: Body, deaths: list[int]
) -> None:
    require(kit, body, deaths)


# ---------------------------------------------------------------------- each part is needed


def a_child_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "find_run", lambda *_: None)


def a_child_is_recorded_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "record_child", lambda *_: None)


@pytest.mark.parametrize(
    "leave_out", [a_child_is_found, a_child_is_recorded_before_it_begins], ids=lambda f: f.__name__
)
def test_without_a_part_of_the_rules_something_goes_wrong(
    kit: TestKit, monkeypatch: pytest.MonkeyPatch, leave_out: Callable[[pytest.MonkeyPatch], None]
) -> None:
    leave_out(monkeypatch)

    assert any(is_wrong(kit, deaths) for deaths in ([4], [6]))


def is_wrong(kit: TestKit, deaths: list[int]) -> bool:
    try:
        require(kit, [["child", 0, 0, [["pay", 0], ["pay", 1]]]], deaths)
    except AssertionError:
        return True
    return False
