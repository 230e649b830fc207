"""Plain tasks and flows around steps, which Prefect tries again: their calls are the same."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow, task
from prefect.context import ContextModel

from prefect_executions import execution, step
from prefect_executions.steps.tries import tries_here
from prefect_executions.testkit import TestKit
from trials import act, acts, done, ended, later, plain

failing: Counter[str] = Counter()  # how often what has this name still fails


def fail(what: str) -> None:
    if failing[what]:
        failing[what] -= 1
        raise RuntimeError(what)


@pytest.fixture(autouse=True)
def no_failure() -> None:
    failing.clear()


@step
def calls_plain(n: int) -> str:
    return plain(n) + act(f"around {n}")


@step
def stumbles() -> str:
    fail("stumbles")
    return act("stumbles")


def some() -> list[str]:
    """Equal calls, calls at once, and a step that calls one."""
    equal = [plain(1), plain(1)]
    at_once = plain.map([1, 2]).result()
    around = calls_plain(3)
    fail("middle")
    return [*equal, *at_once, around, plain(1)]


@task(retries=2)
def retried() -> list[str]:
    found = some()
    fail("end")
    return found


@flow(retries=2)
def retried_flow() -> list[str]:
    found = some()
    fail("end")
    return found


@task
def unretried() -> list[str]:
    return some()


@flow
def unretried_flow() -> list[str]:
    return unretried()


@task(retries=2)
def around_task() -> list[str]:
    found = unretried()
    fail("end")
    return found


@task(retries=2)
def around_flow() -> list[str]:
    found = unretried_flow()
    fail("end")
    return found


@flow(retries=2)
def flow_around_task() -> list[str]:
    found = unretried()
    fail("end")
    return found


def submitted() -> list[str]:
    return retried.submit().result()


EFFECTS = {"plain 1": 4, "plain 2": 1, "plain 3": 1, "around 3": 1}


@pytest.mark.parametrize(
    "body", [retried, submitted, retried_flow, around_task, around_flow, flow_around_task]
)
@pytest.mark.parametrize("attempts", [1, 2])
def test_what_returned_in_an_earlier_try_of_what_is_around_it_is_not_run_again(
    kit: TestKit, body: Callable[[], list[str]], attempts: int
) -> None:
    """Also where the flow itself makes an equal call between the tries, and has made one before."""
    failing.update(middle=1, end=1)

    @flow
    @execution(max_retries=1)
    def runs() -> list[str]:
        found = [plain(1), *body(), plain(1)]
        if execution.current().attempt < attempts:
            raise RuntimeError("again")
        return found

    trial = ended(kit.start(runs))

    assert len(trial.result) == 8
    assert acts == {**EFFECTS, "plain 1": 6}
    assert len(done(kit, trial)) == 9


def test_the_next_attempt_finds_what_the_tries_of_the_one_before_have_recorded(
    kit: TestKit,
) -> None:
    """The process dies in the second try; equal calls have different results."""
    tickets = iter(range(100))

    @step
    def draw() -> int:
        return next(tickets)

    @task(retries=1)
    def draws() -> list[int]:
        found = [draw(), draw()]
        fail("draws")
        return [*found, draw()]

    @flow
    @execution
    def runs() -> list[int]:
        return [draw(), *draws(), draw()]

    failing["draws"] = 1
    with kit.crash_after(5):  # the attempt, three calls, and the one that comes after the retry
        trial = kit.start(runs)
    assert trial.status == "failed"
    trial.resume()

    assert ended(trial).result == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["await", "gather"])
def test_async_tasks_and_steps(kit: TestKit, kind: str) -> None:
    @task(retries=1)
    async def retried_later() -> list[str]:
        if kind == "gather":
            found = await asyncio.gather(later(1), later(2), later(1))
        else:
            found = [await later(1), await later(2), await later(1)]
        fail("later")
        return found

    @flow
    @execution
    async def runs() -> list[str]:
        return [await later(1), *await retried_later(), await later(1)]

    failing["later"] = 1
    trial = ended(kit.start(runs))

    assert acts == {"later 1": 4, "later 2": 1}
    assert len(done(kit, trial)) == 5


def test_a_second_call_of_a_task_is_not_a_second_try(kit: TestKit) -> None:
    @flow
    @execution
    def runs() -> list[list[str]]:
        return [retried(), retried(), *[future.result() for future in (retried.submit(),)]]

    trial = ended(kit.start(runs))

    assert acts == {name: 3 * count for name, count in EFFECTS.items()}
    assert len(trial.result) == 3


def test_of_the_calls_of_an_earlier_try_the_one_that_returned_comes_first(kit: TestKit) -> None:
    """A loop of tries in a task that is tried again."""

    @task(retries=1)
    def persists() -> str:
        while True:
            try:
                found = stumbles()
                break
            except RuntimeError:
                continue
        fail("persists")
        return found

    @flow
    @execution
    def runs() -> Any:
        return persists()

    failing.update(stumbles=1, persists=1)
    ended(kit.start(runs))

    assert acts == {"stumbles": 1}


def test_prefect_still_shows_the_runs_around_a_task(kit: TestKit) -> None:
    """What is around a context of Prefect is read from a private attribute."""
    assert "_token" in ContextModel.__private_attributes__
    seen = []

    @task
    def inner() -> None:
        seen.append(tries_here())

    @flow
    def between() -> None:
        inner()

    @task
    def outer() -> None:
        between()

    @flow
    @execution
    def runs() -> None:
        outer.submit().result()

    ended(kit.start(runs))

    assert [len(tries) for tries in seen] == [4]
