"""The results of steps: their types, their size, and which can be recorded."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect import flow

from memory import Count
from prefect_executions import execution, step
from prefect_executions.errors import (
    ReplayMismatch,
    StateError,
)
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.testkit import TestKit, testing
from stores import Counting
from trials import Item, act, acts, ended, fails, once, twice


@dataclass
class Point:
    x: int
    at: datetime


WHEN = datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_results_come_back_with_their_type(kit: TestKit) -> None:
    def no_annotation() -> Any:
        return {"a": [1, 2.5, None, "é"]}

    def a_model() -> Item:
        return Item(name="bee")

    def a_dataclass() -> Point:
        return Point(1, WHEN)

    def nothing() -> None:
        act("nothing")

    def perhaps(name: str | None = None) -> Item | None:
        return Item(name=name) if name else None

    def a_list() -> list[Item]:
        return [Item(name="a"), Item(name="b", price=2.0)]

    def a_set_of_pairs() -> set[tuple[int, str]]:
        return {(1, "a"), (2, "b")}

    async def a_model_later() -> Item:
        return Item(name="later")

    del no_annotation.__annotations__["return"]
    steps = [
        step(fn) for fn in (no_annotation, a_model, a_dataclass, nothing, a_list, a_set_of_pairs)
    ]
    optional, later = step(perhaps), step(a_model_later)

    def body() -> list[Any]:
        direct = [each() for each in steps]  # type: ignore[operator]
        futures = [each.submit() for each in steps]  # type: ignore[attr-defined]
        return [
            *direct,
            *(future.result() for future in futures),
            optional(),
            optional("one"),
            asyncio.run(later()),
            later.submit().result(),
        ]

    first, second = twice(kit, body)

    assert first == second
    assert list(map(type, first)) == list(map(type, second))
    assert first[3:5] == [None, [Item(name="a"), Item(name="b", price=2.0)]]
    assert acts["nothing"] == 2  # direct and submitted, in one attempt


def test_annotations_may_be_strings(kit: TestKit) -> None:
    namespace: dict[str, Any] = {"Item": Item}
    exec(
        "from __future__ import annotations\n"
        "def listed(n: int) -> list[Item]:\n"
        "    return [Item(name=str(n))]\n",
        namespace,
    )
    listed = step(namespace["listed"])

    first, second = twice(kit, lambda: listed(1))

    assert second == first == [Item(name="1")]


@pytest.mark.parametrize(
    ("annotation", "result", "path"),
    [
        (Any, {"key": {1, 2}}, "the result of refused.key: "),
        (dict[str, Any], {"key": (1, 2)}, "the result of refused.key: "),
        (Item, {"name": "x"}, "the result of refused: "),
        (list[Item], [Item(name="x", price=float("nan"))], "the result of refused"),
        (Any, object(), "the result of refused: "),
    ],
)
def test_a_result_that_can_not_be_kept_is_refused_once(
    kit: TestKit, annotation: Any, result: Any, path: str
) -> None:
    def fn() -> Any:
        act("refused")
        return result

    fn.__annotations__["return"] = annotation
    refused = step(fn, name="refused")  # type: ignore[call-overload]

    trial = once(kit, refused, max_retries=3)

    assert isinstance(trial.error, StateError)
    assert str(trial.error).startswith(path)
    assert acts == {"refused": 1}
    assert ended(trial, "failed").get().prefect.attempt == 1


def test_a_step_whose_result_no_type_can_keep_names_itself_before_it_does_anything(
    kit: TestKit,
) -> None:
    class Odd:
        pass

    @step
    def odd() -> Odd:
        act("odd")
        return Odd()

    @step
    def unknown() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        act("unknown")

    trial = once(kit, odd)
    assert isinstance(trial.error, TypeError)
    assert "the result of odd can't be recorded" in str(trial.error)
    assert "`@task`" in str(trial.error)

    trial = once(kit, lambda: unknown.submit().result())
    assert isinstance(trial.error, TypeError)
    assert "unknown returns" in str(trial.error)
    assert not acts


def test_a_result_that_has_another_type_now_is_a_mismatch(kit: TestKit) -> None:
    def old() -> dict[str, str]:
        return {"name": "bee"}

    def new() -> int:
        return 1

    def body() -> Any:
        return step(name="made")(old if execution.current().attempt == 1 else new)()  # type: ignore[arg-type]

    trial = once(kit, lambda: [body(), fails(1)])
    trial.resume()

    assert isinstance(trial.error, ReplayMismatch)
    assert str(trial.error).startswith("The step 'made' can't be replayed: the result of made: ")
    assert "another name" in str(trial.error)


def test_a_large_result_costs_one_put_and_makes_nothing_else_larger(quick: None) -> None:
    counting = Counting(MemoryObjects())
    size = 2 << 20

    @step
    def large() -> str:
        act("large")
        return "".join(map(chr, (33 + n * 7 % 90 for n in range(size))))[::-1]

    @flow
    @execution(state=Count)
    def keeps() -> int:
        run = execution.current(Count)
        counting.forget()
        text = large()
        written = list(counting.created)
        for n in range(3):
            run.state.n = run.attempt * 10 + n
            run.checkpoint()
        puts.append((written, counting.created[len(written) :]))
        if run.attempt == 1:
            raise RuntimeError
        return len(text)

    puts: list[tuple[list[int], list[int]]] = []
    with testing(counting) as kit:
        trial = kit.start(keeps)
        counting.forget()
        kit.executions.log(trial.id).head()
        loaded = sum(counting.received)
        trial.resume()
        assert ended(trial).result == size

    assert acts == {"large": 1}
    (written, checkpoints), (replayed, _) = puts
    assert len(written) == 1
    assert max(checkpoints) < 2_000
    assert replayed == []
    assert loaded < 10_000
