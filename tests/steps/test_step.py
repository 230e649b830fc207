"""`@step` itself: options, methods, names, and steps outside an execution."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from prefect import Task, flow, task
from pydantic import BaseModel, ConfigDict

from prefect_executions import execution, step
from prefect_executions.errors import (
    ReplayMismatch,
)
from prefect_executions.testkit import TestKit
from trials import act, acts, done, fails, once, twice


def test_options_can_be_changed_and_the_rest_stays(kit: TestKit) -> None:
    undone = []
    tries = Counter[int]()

    def undo(result: str) -> None:
        undone.append(result)

    @step(key="k-{n}", undo=undo, tags=["old"], retry_delay_seconds=0)
    def original(n: int) -> str:
        tries[n] += 1
        if tries[n] < 3:
            raise RuntimeError
        return f"{n}"

    changed = original.with_options(name="changed", retries=2, tags=["new"])

    assert (original.name, original.retries, original.tags) == ("original", 0, {"old"})
    assert (changed.name, changed.retries, changed.tags) == ("changed", 2, {"new"})
    assert (changed.key, changed.undo) == ("k-{n}", undo)
    assert changed.with_options(timeout_seconds=3).timeout_seconds == 3.0
    assert original.with_options(undo=None).undo is None
    original.with_options()  # so that the name is its own again
    trial = once(kit, lambda: [changed(1), fails(1)])
    assert [(r.step, r.undo) for r in done(kit, trial)] == [("changed", True)]
    trial.resume(checkpoint_id="ckpt_000000")
    assert undone == ["1"]
    assert tries == {1: 4}


class Office:
    @step
    @staticmethod
    def write(n: int) -> str:
        return act(f"write {n}")

    @step
    @classmethod
    def count(cls, n: int) -> str:
        return act(f"{cls.__name__} counts {n}")


def test_a_step_can_be_a_method(kit: TestKit) -> None:
    class Shop(BaseModel):
        model_config = ConfigDict(ignored_types=(Task,))
        name: str

        @step
        def sell(self, n: int) -> str:
            return act(f"{self.name} sells {n}")

        @step(key="{self.name}-{n}")
        def order(self, n: int) -> str:
            return act(f"{self.name} orders {n}")

        @step
        async def close(self) -> str:
            return act(f"{self.name} closes")

    @dataclass
    class Till:
        n: int

        @step
        def add(self, n: int) -> str:
            return act(f"{self.n} + {n}")

    def body() -> list[Any]:
        a, b = Shop(name="a"), Shop(name="b")
        sell = a.sell
        return [
            b.sell(1),
            sell(1),  # bound before `b.sell` was
            a.sell.submit(2).result(),
            Till(3).add.map([3, 4]).result(),
            a.order(1),
            a.order.with_options(retries=1)(2),
            asyncio.run(b.close()),
        ]

    first, second = twice(kit, body)

    assert first == second
    assert first[:2] == ["B SELLS 1", "A SELLS 1"]
    assert set(acts.values()) == {1}
    acts.clear()

    first, second = twice(kit, lambda: [Office.write(1), Office().write(2), Office.count(3)])
    assert first == second == ["WRITE 1", "WRITE 2", "OFFICE COUNTS 3"]
    assert set(acts.values()) == {1}


def test_outside_an_execution_a_step_is_an_ordinary_task(quick: None) -> None:
    @step(key="{n}", undo=print)
    def any_result(n: int) -> Any:
        act(f"{n}")
        return {n, n + 1}  # which is not recorded

    @flow
    def ordinary_flow() -> list[Any]:
        return [any_result(1), any_result.submit(1).result(), *any_result.map([1, 2]).result()]

    assert ordinary_flow() == [{1, 2}, {1, 2}, {1, 2}, {2, 3}]
    assert any_result(1) == {1, 2}
    assert acts == {"1": 4, "2": 1}


def test_two_functions_of_one_name_are_refused(kit: TestKit) -> None:
    def named(text: str) -> Any:
        if text == "a":

            @step(name="same", undo=print)
            def first() -> str:
                return "first"

            return first

        @step(name="same", undo=print)
        def second() -> str:
            return "second"

        return second

    @flow
    @execution
    def mixed() -> None:
        named("a")()
        named("a")()
        named("b")()

    assert isinstance(kit.start(mixed).error, ReplayMismatch)


def test_what_can_not_be_a_step_says_why() -> None:
    def generates() -> Any:
        yield 1

    with pytest.raises(TypeError, match="take `@task` away"):
        step(task(lambda: None))
    with pytest.raises(TypeError, match="'generates' is a generator"):
        step(generates)
    with pytest.raises(ValueError, match="so Prefect can't cache it too"):
        step(persist_result=True)(act)
