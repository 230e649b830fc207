"""When calls are recorded, what that costs, and what happens when the store fails."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import pytest
from prefect import flow

from prefect_executions import execution, step
from prefect_executions.errors import (
    StoreUnavailable,
)
from prefect_executions.log.journal import decode
from prefect_executions.steps.recorder import recorder_of
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.testkit import TestKit, testing
from stores import Counting, Fault, Faulty
from trials import act, acts, charge, done, ended, later, once, plain, twice


def test_a_step_costs_one_put_and_its_replay_none(quick: None) -> None:
    counting = Counting(MemoryObjects())
    puts = []

    def body() -> None:
        counting.forget()
        for n in range(5):
            plain(n)
        asyncio.run(later(1))
        puts.append(len(counting.created))

    with testing(counting) as kit:
        twice(kit, body)

    assert puts == [6, 0]


@dataclass
class Slow:
    """A store that writes entries of steps only after `go_on` is set."""

    inner: Objects
    go_on: threading.Event

    def create(self, key: str, data: bytes) -> None:
        if b'"kind":"steps"' in data:
            assert self.go_on.wait(20)
        self.inner.create(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_steps_that_end_together_share_an_entry(quick: None) -> None:
    counting, go_on = Counting(MemoryObjects()), threading.Event()
    all_here = threading.Barrier(8)

    @step
    def meets(n: int) -> int:
        all_here.wait(20)
        return n

    @flow
    @execution
    def fans_out() -> list[int]:
        counting.forget()
        futures = meets.map(range(8))
        writer = execution.current()._checkpoints._writer
        until = monotonic() + 20
        while len(writer._waiting) < 8 and monotonic() < until:
            sleep(0.01)
        go_on.set()
        return futures.result()

    with testing(Slow(counting, go_on)) as kit:
        trial = kit.start(fans_out)
        assert ended(trial).result == list(range(8))

    assert len(counting.created) <= 3  # the entry that was being written, the rest, the result
    assert len(done(kit, trial)) == 8


@pytest.mark.parametrize("kind", ["plain", "keyed", "async", "submitted"])
def test_a_record_that_failed_is_tried_again_without_the_function(
    faulty_kit: TestKit, faulty: Faulty, kind: str
) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain.with_options(retries=1)(1),
        "keyed": lambda: charge.with_options(retries=1)(1),
        "async": lambda: asyncio.run(later.with_options(retries=1)(1)),
        "submitted": lambda: plain.with_options(retries=1).submit(1).result(),
    }

    def body() -> int:
        faulty.faults = [Fault.LOST]
        calls[kind]()
        return len(decode(execution.current()._checkpoints._writer.head.journal))

    trial = once(faulty_kit, body)

    assert ended(trial).result == 1  # it is durable when the call returns
    assert acts.total() == 1


def test_a_keyed_call_is_durable_when_it_returns_though_an_earlier_one_was_not(
    faulty_kit: TestKit, faulty: Faulty
) -> None:
    def body() -> int:
        faulty.faults = [Fault.LOST]
        with pytest.raises(StoreUnavailable):
            charge(1)
        charge(1)
        return len(decode(execution.current()._checkpoints._writer.head.journal))

    trial = once(faulty_kit, body)

    assert ended(trial).result == 1
    assert acts == {"charge 1": 1}


def test_a_record_that_was_written_twice_is_undone_once_or_not_at_all(
    faulty_kit: TestKit, faulty: Faulty
) -> None:
    """A checkpoint of another thread writes the record first, so it belongs to that checkpoint."""

    @step(retries=1, undo=lambda result: act(f"undo {result}"))
    def acts_once() -> str:
        run = execution.current()
        if not acts:
            faulty.faults = [Fault.LOST]
        return act("once") + str(run.attempt)

    def body() -> None:
        run = execution.current()
        recorder = recorder_of("any")
        assert recorder is not None
        original = recorder.record

        def then_checkpoint(call: Any, outcome: Any, **fields: Any) -> None:
            try:
                original(call, outcome, **fields)
            except StoreUnavailable:
                run.state["n"] = run.attempt
                run.checkpoint(label="meanwhile")
                raise

        recorder.record = then_checkpoint  # type: ignore[method-assign]
        acts_once()
        run.checkpoint(label="behind")
        if run.attempt == 1:
            raise RuntimeError

    trial = once(faulty_kit, body)
    meanwhile = next(c for c in trial.get().checkpoints if c.label == "meanwhile")
    answer = trial.resume(checkpoint_id=meanwhile.id)

    ended(trial)
    assert answer.steps_behind == []
    assert acts == {"once": 1}


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_what_is_written_late_may_be_done_again_but_keeps_its_order(
    quick: None, durability: Any
) -> None:
    counting = Counting(MemoryObjects())

    @step
    def think() -> int:
        act("think")
        return acts["think"]

    @flow
    @execution(durability=durability)
    def thinks() -> list[int]:
        run = execution.current()
        found = [think() for _ in range(3)]
        if run.attempt == 1:
            until = monotonic() + 20
            while (
                durability == "async"
                and not run._checkpoints._writer.is_idle
                and monotonic() < until
            ):
                sleep(0.01)
            kit.crash()
        found += [think() for _ in range(2)]
        run.pause("A look")
        return [*found, think()]

    with testing(counting) as kit:
        trial = kit.start(thinks)
        kept = len(done(kit, trial))
        trial.resume()
        ended(trial, "paused")
        before = acts["think"]
        assert len(done(kit, trial)) == 5  # everything is durable at a pause
        trial.resume()
        ended(trial)

    assert kept == (3 if durability == "async" else 0)
    expected = [1, 2, 3, 4, 5] if durability == "async" else [4, 5, 6, 7, 8]
    assert trial.result == [*expected, before + 1]
    assert acts["think"] == before + 1
    assert len(done(kit, trial)) == 7  # the pause as well


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_failure_leaves_all_that_was_done_durable(kit: TestKit, durability: Any) -> None:
    def body() -> str:
        text = plain(1) + plain.submit(2).result()
        if execution.current().attempt == 1:
            raise RuntimeError
        return text

    trial = once(kit, body, durability=durability)
    trial.resume()

    assert ended(trial).result == "PLAIN 1PLAIN 2"
    assert acts == {"plain 1": 1, "plain 2": 1}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_flow_returns_is_recorded_before_the_flow_ends(kit: TestKit, kind: str) -> None:
    @step
    def outer(n: int) -> str:
        sleep(0.1)  # the flow has returned by now
        return plain(n)

    @flow
    @execution(durability="exit")
    def returns() -> Any:
        return [outer.submit(n) for n in range(2)]

    @flow
    @execution(durability="exit")
    async def returns_later() -> Any:
        return [outer.submit(n) for n in range(2)]

    trial = ended(kit.start(returns if kind == "sync" else returns_later))

    assert acts == {"plain 0": 1, "plain 1": 1}
    assert len(done(kit, trial)) == 4
