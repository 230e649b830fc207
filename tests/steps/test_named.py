"""`record` and `arecord`: calls that no decorator reaches, as steps."""

import asyncio
from collections.abc import Callable
from typing import Any

from prefect import flow
from pydantic import BaseModel

from prefect_executions import arecord, execution, record, step
from prefect_executions.errors import InputError, ReplayMismatch, StateError
from prefect_executions.testkit import TestKit
from trials import act, acts, done, ended, made, once, twice


class Weather(BaseModel):
    degrees: int


def _acts(what: str) -> Callable[[], Any]:
    async def call() -> str:
        return act(what)

    return call


def test_a_call_is_recorded_under_its_name_and_key(kit: TestKit) -> None:
    def body() -> list[str]:
        return [
            record(f"ask {model}", lambda model=model: act(model), key=f"{{model}} {model}")  # type: ignore[misc]
            for model in ("small", "large")
        ]

    first, second = twice(kit, body)

    assert first == second == ["SMALL", "LARGE"]
    assert acts == {"small": 1, "large": 1}


def test_async_calls_run_at_once_and_come_back_in_any_order(kit: TestKit) -> None:
    seen = []

    async def named(n: int) -> str:
        return await arecord("tool", _acts(f"tool {n}"), key=f"call-{n}")

    @flow
    @execution(max_retries=1)
    async def gathers() -> None:
        numbers = [1, 2, 3] if execution.current().attempt == 1 else [3, 1, 2]
        seen.append(await asyncio.gather(*map(named, numbers)))
        if execution.current().attempt == 1:
            raise RuntimeError("again")

    trial = ended(kit.start(gathers))

    assert seen == [["TOOL 1", "TOOL 2", "TOOL 3"], ["TOOL 3", "TOOL 1", "TOOL 2"]]
    assert acts == {"tool 1": 1, "tool 2": 1, "tool 3": 1}
    assert [one.step for one in done(kit, trial)] == ["tool"] * 3


def test_one_key_is_one_call(kit: TestKit) -> None:
    def body() -> list[str]:
        return [record("ask", lambda: act("asks"), key="the only one") for _ in range(2)]

    assert twice(kit, body) == (["ASKS", "ASKS"], ["ASKS", "ASKS"])
    assert acts == {"asks": 1}


def test_without_a_key_it_is_known_by_its_inputs_and_its_place(kit: TestKit) -> None:
    def body() -> list[str]:
        return [record("ask", lambda: act(f"{len(made)}"), inputs=["a", n % 2]) for n in range(3)]

    assert twice(kit, body) == (["0", "1", "2"], ["0", "1", "2"])
    assert acts == {"0": 1, "1": 1, "2": 1}


def test_inputs_are_identified_as_those_of_any_step(kit: TestKit) -> None:
    trial = once(kit, lambda: record("ask", lambda: act("asks"), inputs=[object()]))

    assert isinstance(trial.error, InputError)
    assert trial.error.path == "ask(inputs[0])"
    assert not acts


def test_one_key_for_two_names_is_refused(kit: TestKit) -> None:
    def body() -> None:
        record("ask", lambda: 1, key="one")
        record("tell", lambda: act("tells"), key="one")

    assert isinstance(once(kit, body).error, ReplayMismatch)
    assert not acts


def test_a_step_of_the_same_name_is_refused(kit: TestKit) -> None:
    @step
    def ask() -> str:
        return act("asks")

    def body() -> None:
        record("ask", lambda: 1, key="one")
        ask()

    assert "two functions are steps of this name" in str(once(kit, body).error)
    assert not acts


def test_a_result_comes_back_with_its_type(kit: TestKit) -> None:
    def body() -> Weather:
        return record("look", lambda: Weather(degrees=7), key="look", returns=Weather)

    assert twice(kit, body) == (Weather(degrees=7), Weather(degrees=7))


def test_what_raises_is_called_again_and_what_can_not_be_kept_is_not(kit: TestKit) -> None:
    def fails() -> Any:
        act("fails")
        raise RuntimeError("no luck")

    def unkept() -> Any:
        act("returns an object")
        return object()

    raised = once(kit, lambda: record("fails", fails, key="a"), max_retries=1)
    refused = once(kit, lambda: record("tool search", unkept, key="b"), max_retries=1)

    assert str(raised.error) == "no luck"
    assert isinstance(refused.error, StateError)
    assert refused.error.path == "the result of tool search"
    assert acts == {"fails": 2, "returns an object": 1}


def test_a_call_may_say_itself_why_its_result_can_not_be_kept(kit: TestKit) -> None:
    def call() -> Any:
        return StateError("the files of tool search", act("are open."))

    trial = once(kit, lambda: record("tool search", call, key="a"), max_retries=1)

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the files of tool search"
    assert trial.error.problem.startswith("ARE OPEN. The step 'tool search' has been carried out")
    assert acts == {"are open.": 1}


def test_steps_that_it_calls_are_inside_it(kit: TestKit) -> None:
    @step
    def read() -> str:
        return act("reads")

    trial = once(kit, lambda: record("tool", read, key="tool"))

    outer, inner = done(kit, trial)
    assert (outer.step, inner.step, inner.parent) == ("tool", "read", outer.order)


def test_outside_an_execution_it_is_a_call(kit: TestKit) -> None:
    @flow
    def plain() -> list[int]:
        return [record("ask", lambda n=n: n, key="one") for n in range(2)]  # type: ignore[misc]

    assert record("ask", lambda: 5, key="one") == 5
    assert asyncio.run(arecord("ask", _acts("outside"), key="one")) == "OUTSIDE"
    assert plain() == [0, 1]
