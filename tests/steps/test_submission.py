"""Submitted steps that get the results of plain tasks: `.submit` does not wait for them."""

import asyncio
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from prefect import flow, task
from prefect.futures import PrefectFuture, as_completed

from prefect_executions import execution, step
from prefect_executions.errors import AmbiguousCall
from prefect_executions.testkit import TestKit
from trials import act, acts, done, plain

opened = Event()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    opened.clear()
    yield
    opened.set()


@task
def loads(n: int) -> int:
    return n


@task
def loads_slowly(n: int) -> int:
    assert opened.wait(60)
    return n


@task
def loads_nothing() -> int:
    raise LookupError("it is not there")


@step
def sums(*parts: int) -> int:
    act(f"sums {parts}")
    return sum(parts)


@step
async def doubles(part: int) -> int:
    act(f"doubles {part}")
    await asyncio.sleep(0)
    return 2 * part


@step(key="total-{part}")
def keyed(part: int) -> int:
    act(f"keyed {part}")
    return part


@step
def token() -> str:
    return act("token")


def fails_once() -> None:
    if execution.current().attempt == 1:
        raise RuntimeError("late")


def test_a_submission_does_not_wait_for_a_plain_task(kit: TestKit) -> None:
    @flow
    @execution
    def waits() -> int:
        future = sums.submit(loads_slowly.submit(1), 2)  # type: ignore[arg-type]
        act("goes on")
        opened.set()
        return future.result()

    trial = kit.start(waits)

    assert trial.result == 3
    assert list(acts) == ["goes on", "sums (1, 2)"]


def test_what_waited_for_a_plain_task_is_recorded(kit: TestKit) -> None:
    @flow
    @execution(max_retries=1)
    def survives() -> list[Any]:
        summed = sums.submit(loads.submit(1), loads.submit(2))  # type: ignore[arg-type]
        doubled: Any = doubles.submit(summed)  # type: ignore[call-overload]
        named = keyed.submit(loads.submit(4))  # type: ignore[arg-type]
        found = [summed.result(), doubled.result(), named.result()]
        fails_once()
        return found

    trial = kit.start(survives)

    assert trial.result == [3, 6, 4]
    assert acts == {"sums (1, 2)": 1, "doubles 3": 1, "keyed 4": 1}


def test_it_is_recorded_wherever_the_flow_is_killed(kit: TestKit) -> None:
    @flow
    @execution
    def crashes() -> list[int]:
        summed = [sums.submit(loads.submit(n), n) for n in range(3)]  # type: ignore[arg-type]
        return [*[future.result() for future in summed], len(plain(1))]

    kit.crash_everywhere(crashes, before=acts.clear)


def test_a_flow_that_ends_at_once_ends_after_what_it_has_submitted(kit: TestKit) -> None:
    @flow
    @execution
    def leaves() -> None:
        sums.submit(loads.submit(1))  # type: ignore[arg-type]

    trial = kit.start(leaves)

    assert trial.status == "completed"
    assert acts == {"sums (1,)": 1}
    assert [record.step for record in done(kit, trial)] == ["sums"]


def test_where_a_plain_task_fails_the_step_is_not_carried_out(kit: TestKit) -> None:
    @flow
    @execution
    def meets_a_failure() -> str:
        future = sums.submit(loads_nothing.submit())
        future.wait()
        again = sums.submit(loads.submit(1))  # type: ignore[arg-type]
        return f"{future.state.name} {again.result()}"

    trial = kit.start(meets_a_failure)

    assert trial.result == "NotReady 1"
    assert acts == {"sums (1,)": 1}


@pytest.mark.parametrize("first", ["waits", "is ready"])
def test_equal_calls_are_refused_where_one_waits_for_its_inputs(kit: TestKit, first: str) -> None:
    """Which of them is made first depends on when the plain task ends."""

    def waiting() -> PrefectFuture[int]:
        return sums.submit(loads_slowly.submit(1))  # type: ignore[arg-type]

    @flow
    @execution
    def ambiguous() -> None:
        if first == "waits":
            future = waiting()
            opened.set()
            future.wait()
            sums(1)
        else:
            sums(1)
            future = waiting()
            opened.set()
            future.result()

    trial = kit.start(ambiguous)

    assert isinstance(trial.error, AmbiguousCall)
    assert "when the future of a plain task among its inputs is ready" in f"{trial.error}"
    assert acts == {"sums (1,)": 1}


def test_a_call_that_is_tried_again_when_it_has_raised_is_not_refused(kit: TestKit) -> None:
    @step
    def stumbles(part: int) -> int:
        if acts["stumbles"] == 0:
            act("stumbles")
            raise RuntimeError("once")
        return part

    @flow
    @execution
    def tries() -> int:
        while True:
            try:
                return stumbles.submit(loads.submit(1)).result()  # type: ignore[arg-type]
            except RuntimeError:
                continue

    assert kit.start(tries).result == 1


def test_a_turn_that_depends_on_which_plain_task_ends_first_is_refused(kit: TestKit) -> None:
    @flow
    @execution
    def gives_tokens() -> None:
        futures: list[Any] = [sums.submit(loads.submit(n)) for n in (1, 2)]  # type: ignore[arg-type]
        for future in as_completed(futures):
            future.result()
            token()

    trial = kit.start(gives_tokens)

    assert isinstance(trial.error, AmbiguousCall)
    assert acts["token"] <= 1
