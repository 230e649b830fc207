"""Steps that are being carried out when an attempt ends."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import flow
from prefect.exceptions import Pause
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.errors import NotAnExecution
from prefect_executions.runtime import attempt, pauses
from prefect_executions.steps.in_flight import InFlight
from prefect_executions.testkit import TestKit
from trials import act, acts, done, ended, plain

DURABILITIES = pytest.mark.parametrize("durability", ["sync", "async", "exit"])
WAYS = pytest.mark.parametrize("way", ["fail", "pause", "ask"])

settling = threading.Event()  # an attempt waits for its steps


class Answer(BaseModel):
    text: str = "well"


@pytest.fixture(autouse=True)
def noting_settling(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settle = InFlight.settle

    def noted(self: InFlight, *args: Any, **kwargs: Any) -> list[str]:
        settling.set()
        return settle(self, *args, **kwargs)

    settling.clear()
    monkeypatch.setattr(InFlight, "settle", noted)
    for module in (attempt, pauses):
        monkeypatch.setattr(module, "SETTLE_PATIENCE", 600.0)  # nothing here takes it all
    yield
    settling.set()


begun = threading.Event()


@step
def slow(n: int) -> str:
    begun.set()
    assert settling.wait(60)
    return act(f"slow {n}")


@step
async def slow_async(n: int) -> str:
    begun.set()
    assert await asyncio.to_thread(settling.wait, 60)
    return act(f"slow {n}")


@step
def outer() -> str:
    begun.set()
    assert settling.wait(60)
    return plain(1)


@DURABILITIES
@WAYS
def test_a_submitted_step_that_ends_after_its_flow_is_recorded(
    kit: TestKit, way: str, durability: Any
) -> None:
    """What it calls, too."""
    begun.clear()

    @flow
    @execution(max_retries=1, durability=durability)
    def sync_flow() -> list[str]:
        run = execution.current()
        futures = [slow.submit(1), outer.submit()]
        assert begun.wait(60)
        if way == "fail" and run.attempt == 1:
            raise RuntimeError("no luck")
        if way == "pause":
            run.pause("Is all well?")
        if way == "ask":
            run.ask(Answer, prompt="How is it?")
        return [future.result() for future in futures]

    trial = kit.start(sync_flow)
    if way != "fail":
        assert len(done(kit, ended(trial, "paused"))) == 3
        trial.resume()

    assert ended(trial).result == ["SLOW 1", "PLAIN 1"]
    assert acts == {"slow 1": 1, "plain 1": 1}


@DURABILITIES
@WAYS
def test_an_async_step_that_ends_after_its_flow_is_recorded(
    kit: TestKit, way: str, durability: Any
) -> None:
    """The event loop goes on meanwhile."""

    @flow
    @execution(max_retries=1, durability=durability)
    async def async_flow() -> str:
        run = execution.current()

        async def leaves() -> None:
            await asyncio.to_thread(begun.wait, 60)
            if way == "fail" and run.attempt == 1:
                raise RuntimeError("no luck")
            if way == "pause":
                await run.apause("Is all well?")
            if way == "ask":
                await run.aask(Answer, prompt="How is it?")

        text, _ = await asyncio.gather(slow_async(1), leaves())
        return text

    begun.clear()
    trial = kit.start(async_flow)
    if way != "fail":
        assert len(done(kit, ended(trial, "paused"))) == 1
        trial.resume()

    assert ended(trial).result == "SLOW 1"
    assert acts == {"slow 1": 1}


def test_two_steps_that_both_pause_do_not_wait_for_each_other(kit: TestKit) -> None:
    both = threading.Barrier(2)

    @step
    def pauses_too(n: int) -> int:
        if execution.current().attempt == 1:
            both.wait(60)
        execution.current().pause(f"{n}")
        return n

    @flow
    @execution
    def runs() -> list[int]:
        return [future.result() for future in [pauses_too.submit(n) for n in (1, 2)]]

    trial = ended(kit.start(runs), "paused")
    while trial.status == "paused":
        trial.resume()

    assert ended(trial).result == [1, 2]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_step_that_takes_too_long_is_left(
    kit: TestKit, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attempt, "SETTLE_PATIENCE", 0.1)
    begun.clear()

    @step
    def until_the_end() -> None:
        run = execution.current()
        begun.set()
        try:
            while run.attempt == 1:
                run.publish()
        except (NotAnExecution, Pause):
            act("left")

    def body() -> int:
        future = until_the_end.submit()
        assert begun.wait(60)
        if execution.current().attempt == 1:
            raise RuntimeError("no luck")
        future.result()
        return execution.current().attempt

    @flow
    @execution(max_retries=1)
    def sync_flow() -> int:
        return body()

    @flow
    @execution(max_retries=1)
    async def async_flow() -> int:
        return await asyncio.to_thread(body)

    trial = ended(kit.start(sync_flow if kind == "sync" else async_flow))

    assert trial.result == 2
    assert acts == {"left": 1}
    assert "'until_the_end' has not ended" in caplog.text


def test_a_submitted_step_does_not_begin_after_the_end(kit: TestKit) -> None:
    begun.clear()
    attempts: list[int] = []

    @step
    def second() -> None:
        attempts.append(execution.current().attempt)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))  # type: ignore[arg-type]
    @execution(max_retries=1)
    def runs() -> None:
        futures: list[Any] = [slow.submit(1), second.submit()]
        assert begun.wait(60)
        if execution.current().attempt == 1:
            raise RuntimeError("no luck")
        for future in futures:
            future.result()

    ended(kit.start(runs))
    assert acts == {"slow 1": 1}
    assert attempts == [2]
