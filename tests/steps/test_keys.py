"""Which inputs and keys a step accepts, and when they are a mismatch."""

import threading
from typing import Any

import pytest
from prefect import allow_failure, task

from prefect_executions import step
from prefect_executions.errors import (
    InputError,
    ReplayMismatch,
)
from prefect_executions.testkit import TestKit
from trials import Item, act, acts, charge, ended, once, twice


def test_an_input_that_has_no_identity_is_refused_by_its_path(kit: TestKit, tmp_path: Any) -> None:
    @step
    def reads(file: Any, n: int = 1) -> int:
        act("reads")
        return n

    with (tmp_path / "file").open("w") as file:
        for value, path in [
            (file, "reads(file)"),
            ([{"x": lambda: 1}], 'reads(file[0]["x"])'),
        ]:
            trial = once(kit, lambda value=value: reads(value), max_retries=2)  # type: ignore[misc]
            assert isinstance(trial.error, InputError)
            assert trial.error.path == path
            assert "@step(key=" in str(trial.error)
            assert trial.get().prefect.attempt == 1
        keyed = reads.with_options(key="read-{n}")
        assert not acts
        assert twice(kit, lambda: keyed(file, 2)) == (2, 2)
    assert acts == {"reads": 1}


def test_a_key_is_made_of_what_the_step_is_given(kit: TestKit) -> None:
    """A future, state or annotation in its place would differ in each attempt."""

    @step(key="send-{order.name}")
    def send(order: Item) -> str:
        return act(f"send {order.name}")

    @step
    def fetch(name: str) -> Item:
        return Item(name=name)

    @task
    def fetch_again(name: str) -> Item:
        return Item(name=name)

    def body() -> list[Any]:
        return [
            send.submit(fetch.submit("a")).result(),  # type: ignore[arg-type]
            send.submit(fetch_again.submit("b")).result(),  # type: ignore[arg-type]
            send(fetch("c", return_state=True)),  # type: ignore[arg-type]
            send(allow_failure(fetch.submit("d"))),  # type: ignore[arg-type]
            send.map([Item(name="e"), Item(name="f")]).result(),
        ]

    first, second = twice(kit, body)

    assert first == second == ["SEND A", "SEND B", "SEND C", "SEND D", ["SEND E", "SEND F"]]
    assert set(acts.values()) == {1}


def test_a_key_that_shows_an_address_is_refused(kit: TestKit) -> None:
    @step(key="x-{it}")
    def takes(it: Any) -> None:
        act("takes")

    trial = once(kit, lambda: takes(object()))

    assert isinstance(trial.error, InputError)
    assert "takes(key): a value of type object shows where it is in memory" in str(trial.error)
    assert not acts


def test_a_key_names_inputs_that_there_are() -> None:
    for key in ("x-{name}", "x-{}", "x-{n"):
        with pytest.raises(ValueError, match="the key"):

            @step(key=key)
            def acts_on(n: int) -> None: ...


def test_mismatches_name_the_step_and_are_not_tried_again(kit: TestKit) -> None:
    other = step(name="other", key="order-{order}")(charge.fn)
    at_once = threading.Barrier(2)

    @step(key="one")
    def meets() -> None:
        at_once.wait(2)

    def other_inputs() -> None:
        charge(1, at="noon")
        charge(1, at="midnight")

    def another_step() -> None:
        charge(1)
        other(1)

    def twice_at_once() -> None:
        for future in [meets.submit(), meets.submit()]:
            future.result()

    for body, name, problem in [
        (other_inputs, "charge", "other inputs"),
        (another_step, "other", "that of a recorded call of 'charge'"),
        (twice_at_once, "meets", "twice at once"),
    ]:
        acts.clear()
        at_once.reset()
        trial = once(kit, body, max_retries=2)
        if body is twice_at_once:
            assert type(trial.error).__name__ in ("ReplayMismatch", "BrokenBarrierError")
            continue
        assert isinstance(trial.error, ReplayMismatch)
        assert trial.error.step == name
        assert problem in str(trial.error)
        assert trial.get().prefect.attempt == 1
        assert acts == {"charge 1": 1}


def test_a_key_twice_at_once_is_a_mismatch(kit: TestKit) -> None:
    release = threading.Event()
    begun = threading.Event()

    @step(key="one")
    def held() -> None:
        begun.set()
        assert release.wait(20)

    def body() -> str:
        first = held.submit()
        assert begun.wait(20)
        with pytest.raises(ReplayMismatch, match="'held' can't be replayed: it is called twice"):
            held()
        release.set()
        first.result()
        held()  # a second call after the first has ended is fine
        return "fine"

    assert ended(once(kit, body)).result == "fine"
