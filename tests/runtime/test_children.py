"""Executions in executions: a child is the same execution whenever its parent runs again."""

import asyncio
from typing import Any

import pytest
from prefect import flow, task
from pydantic import BaseModel

from families import (
    PAID,
    child,
    children,
    clear,
    done,
    fail,
    failing,
    ids,
    later,
    parent,
    pay,
)
from prefect_executions import execution, step
from prefect_executions.errors import InputError, QuestionNotFound
from prefect_executions.log.journal import Outcome
from prefect_executions.testkit import TestKit, Trial


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    clear()


def test_a_child_that_failed_is_continued_when_its_parent_is_tried_again(kit: TestKit) -> None:
    failing["b"] = 1

    trial = kit.start(parent)
    first = dict(children(kit, trial))
    trial.resume()

    assert trial.status == "completed", trial
    assert done == PAID
    assert list(first.values()) == [Outcome.DONE, Outcome.WAITING]
    assert children(kit, trial) == dict.fromkeys(first, Outcome.DONE)
    assert ids == [*first, list(first)[1]]
    assert {kit.executions.get(id_).status for id_ in first} == {"completed"}


def test_a_child_that_has_returned_gives_its_recorded_result(kit: TestKit) -> None:
    failing["end"] = 1

    trial = kit.start(parent)
    trial.resume()

    assert trial.result == [f"paid {what}" for what in PAID]
    assert len(ids) == 2
    assert done == PAID


@pytest.mark.parametrize("points", [6, pytest.param(None, marks=pytest.mark.long)])
def test_wherever_a_parent_with_children_dies_nothing_is_paid_twice(
    kit: TestKit, points: int | None
) -> None:
    def check(_: Trial) -> None:
        assert done == PAID
        assert len(set(ids)) == 2

    survival = kit.crash_everywhere(
        parent, before=clear, check=check, points=points, lose_writes=False
    )

    assert any("nested" in point for point in survival.points)


# ---------------------------------------------------------------------- what a child asks


class Colour(BaseModel):
    name: str


@flow
@execution
def asks() -> str:
    return execution.current().ask(Colour, prompt="Which colour?").name


@flow
@execution
def waits() -> str:
    return pay(asks())


def test_what_a_child_asks_is_asked_by_its_parent_too(kit: TestKit) -> None:
    trial = kit.start(waits)
    (id_,) = children(kit, trial)

    asked = kit.executions.question(trial.id)

    assert asked == kit.executions.question(id_)
    assert (asked.execution_id, asked.prompt) == (id_, "Which colour?")
    trial.resume(input={"name": "red"})
    assert trial.result == "paid red"
    with pytest.raises(QuestionNotFound):
        kit.executions.question(trial.id)


# ---------------------------------------------------------------------- which child it is


@flow
@execution
def equal() -> list[str]:
    found = [*child("x"), *child("x")]
    fail("end")
    return found


def test_equal_children_are_told_apart_by_their_places(kit: TestKit) -> None:
    failing["x"] = 0
    failing["end"] = 1

    trial = kit.start(equal)
    trial.resume()

    assert trial.status == "completed", trial
    assert len(ids) == len(set(ids)) == 2
    assert done == {"x 1": 2, "x 2": 2}


@flow
@execution
def tries() -> list[str]:
    while True:
        try:
            return child("x")
        except RuntimeError:
            pay("once more")


def test_a_child_that_is_called_until_it_returns_is_one(kit: TestKit) -> None:
    failing["x"] = 1

    trial = kit.start(tries)

    assert trial.result == ["paid x 1", "paid x 2"]
    assert done == {"x 1": 1, "once more": 1, "x 2": 1}
    assert len(set(ids)) == 1


@flow
@execution
def swapped() -> list[str]:
    names = ["a", "b"] if execution.current().attempt == 1 else ["b", "a"]
    return [text for name in names for text in child(name)]


def test_children_may_be_called_in_another_order(kit: TestKit) -> None:
    """Prefect itself would give a call the run of the one that was made in its place."""
    failing["b"] = 1

    trial = kit.start(swapped)
    trial.resume()

    assert trial.result == ["paid b 1", "paid b 2", "paid a 1", "paid a 2"]
    assert set(done.values()) == {1}
    assert len(set(ids)) == 2


@flow
@execution
async def at_once() -> list[list[str]]:
    found: list[list[str]] = await asyncio.gather(later("a"), later("b"))
    fail("end")
    return found


@pytest.mark.parametrize("what", ["a", "end"])
def test_children_at_once_are_each_continued(kit: TestKit, what: str) -> None:
    failing[what] = 1

    trial = kit.start(at_once)
    trial.resume()

    assert trial.result == [["paid a 1", "paid a 2"], ["paid b 1", "paid b 2"]]
    assert done == {"a 1": 1, "a 2": 1, "b 1": 1, "b 2": 1}
    assert len(set(ids)) == 2


@task(retries=1)
def around(name: str) -> list[str]:
    return child(name)


@step
def calls_child(name: str) -> list[str]:
    return child(name)


@flow
def plain_flow(name: str) -> list[str]:
    return child(name)


@flow
@execution
def middle(name: str) -> list[str]:
    return child(name)


@pytest.mark.parametrize("call", [around, calls_child, plain_flow, middle], ids=lambda c: c.name)
def test_a_child_is_found_inside_what_calls_it(kit: TestKit, call: Any) -> None:
    @flow(name=f"calls {call.name}")
    @execution
    def calls() -> list[str]:
        found: list[str] = call("x")
        return found

    failing["x"] = 2

    trial = kit.start(calls)
    while trial.status == "failed":
        trial.resume()

    assert trial.result == ["paid x 1", "paid x 2"]
    assert done == {"x 1": 1, "x 2": 1}
    assert len(set(ids)) == 1


@flow
@execution
def takes(value: Any) -> None:
    pay("never")


def test_an_input_without_a_stable_identity_is_refused(kit: TestKit) -> None:
    @flow
    @execution
    def gives() -> None:
        takes(object())

    trial = kit.start(gives)

    assert isinstance(trial.error, InputError)
    assert f"{trial.error}".startswith("takes(value): a value of type object has no stable")
    assert "@step" not in f"{trial.error}"
    assert not done


# ---------------------------------------------------------------------- what it gives


class Note(BaseModel):
    text: str


@flow
@execution
def writes() -> Note:
    return Note(text=pay("note"))


@flow
@execution
def keeps_nothing() -> object:
    ids.append(execution.current().id)
    return [pay("kept"), object][0]


@flow
@execution
def cannot_be_kept() -> Any:
    ids.append(execution.current().id)
    return {pay("of a set"), len}


def test_a_result_comes_back_with_its_type_and_one_that_can_not_be_kept_is_made_anew(
    kit: TestKit,
) -> None:
    @flow
    @execution
    def reads() -> list[Any]:
        found = [writes(), keeps_nothing(), cannot_be_kept()]
        fail("end")
        return [*map(str, found)]

    failing["end"] = 1

    trial = kit.start(reads)
    trial.resume()

    assert trial.status == "completed", trial
    assert trial.result[:2] == ["text='paid note'", "paid kept"]
    assert done == {"note": 1, "kept": 1, "of a set": 1}
    assert len(set(ids)) == 2


hooked: list[str] = []


@flow(retries=1, on_completion=[lambda *_: hooked.append("completed")])
@execution
def with_hooks(name: str) -> list[str]:
    return child(name)


@with_hooks.on_failure
def note_failure(*_: Any) -> None:
    hooked.append("failed")


def test_the_runs_around_a_child_call_no_hooks_and_are_not_tried_again(kit: TestKit) -> None:
    @flow
    @execution
    def calls() -> list[str]:
        found = with_hooks("x")
        fail("end")
        return found

    hooked.clear()
    failing.update({"x": 3, "end": 1})

    trial = kit.start(calls)
    assert (trial.status, hooked, failing["x"]) == ("failed", ["failed"], 1)
    trial.resume()
    assert (trial.status, hooked, failing["x"]) == ("failed", ["failed"] * 2, 0)
    trial.resume()
    trial.resume()

    assert trial.status == "completed", trial
    assert hooked == ["failed", "failed", "completed"]
    assert done == {"x 1": 1, "x 2": 1}
