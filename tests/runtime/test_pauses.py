"""Questions and pauses of a flow without a deployment, whose process waits for the answers."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from threading import Event
from typing import Any, Literal
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from pydantic import BaseModel

from memory import kinds
from prefect_executions import execution, step
from prefect_executions.errors import ExecutionConflict, PrefectUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import read_form
from prefect_executions.prefect.resume_form import GOES_ON
from prefect_executions.runtime import waiting
from prefect_executions.testkit import MemoryStore
from stores import Faulty
from world import eventually


class Approval(BaseModel):
    decision: Literal["yes", "no"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_executions.runtime.waiting.PAUSED_PAUSE", 0.05)


class Running:
    """A flow that runs beside the test."""

    def __init__(self, prefect: SyncPrefectClient, flow: Any) -> None:
        self.prefect = prefect
        self.ids: list[str] = []
        self._pool = ThreadPoolExecutor(1)
        call = (lambda: asyncio.run(flow(self))) if flow.isasync else (lambda: flow(self))
        self.result: Future[Any] = self._pool.submit(copy_context().run, call)

    def until_paused(self, message: str) -> FlowRun:
        def look() -> FlowRun | None:
            assert not self.result.done(), self.result.exception()
            run = self.prefect.read_flow_run(UUID(self.ids[0][5:])) if self.ids else None
            state = run.state if run else None
            return run if state and state.is_paused() and state.message == message else None

        found: FlowRun = eventually(look, f"paused: {message}")
        return found

    def answer(self, run: FlowRun, given: Any) -> None:
        """Resume the run as soon as its form is there."""

        def accepted() -> bool:
            return self.prefect.resume_flow_run(run.id, given).status.value == "ACCEPT"

        eventually(accepted, "the answer is taken")


def pausing(store: MemoryStore) -> Any:
    """A flow that pauses once."""

    @flow(validate_parameters=False)
    @execution(store=store)
    def pauses(running: Running) -> str:
        run = execution.current()
        running.ids.append(run.id)
        run.pause("A moment")
        return run.id

    return pauses


def test_a_question_is_waited_for(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    effects = []

    @step
    def effect(name: str) -> str:
        effects.append(name)
        return name

    @flow(validate_parameters=False)
    @execution(store=store)
    def asking(running: Running) -> list[str]:
        run = execution.current()
        running.ids.append(run.id)
        effect("before")
        said = [run.ask(Approval, prompt="Shall we?").decision for _ in range(2)]
        run.pause("A moment")
        effect("after")
        return said

    running = Running(prefect, asking)
    for decision in ("yes", "no"):
        run = running.until_paused("Shall we?")
        assert run.state is not None
        assert run.state.name == "Paused"
        assert prefect.resume_flow_run(run.id).status.value != "ACCEPT"
        running.answer(run, {"decision": decision})
    run = running.until_paused("A moment")
    running.answer(run, None)

    assert running.result.result(timeout=60) == ["yes", "no"]
    assert effects == ["before", "after"]
    assert kinds(objects, running.ids[0]).count("attempt") == 1


def test_a_question_outlives_a_prefect_that_is_away(
    stack: Stack, store: MemoryStore, prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process could continue with the answer."""
    running = Running(prefect, pausing(store))
    run = running.until_paused("A moment")
    told, read = Event(), waiting.find_run

    def away(*_: Any) -> Any:
        told.set()
        monkeypatch.setattr(waiting, "find_run", read)
        raise PrefectUnavailable("it restarts")

    monkeypatch.setattr(waiting, "AWAY_PAUSE", 0.01)
    monkeypatch.setattr(waiting, "find_run", away)
    assert told.wait(60)
    running.answer(run, None)

    assert running.result.result(timeout=60) == running.ids[0]


def test_one_that_waits_in_its_process_offers_no_way_back_and_takes_none(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    running = Running(prefect, pausing(store))
    run = running.until_paused("A moment")
    assert run.state is not None
    state = run.state
    form = eventually(lambda: read_form(prefect, run.id, state), "its form is there")
    assert form == GOES_ON
    executions = Executions(objects, FlowRuns(prefect))

    with pytest.raises(ExecutionConflict, match="no deployment"):
        executions.resume(running.ids[0], checkpoint_id="ckpt_000000")

    assert "rollback" not in kinds(objects, running.ids[0])
    running.answer(run, None)
    assert running.result.result(timeout=60) == running.ids[0]


def test_an_async_flow_waits_too_and_its_loop_goes_on(
    stack: Stack, store: MemoryStore, prefect: SyncPrefectClient
) -> None:
    ticks = []

    @flow(validate_parameters=False)
    @execution(store=store)
    async def asking(running: Running) -> str:
        run = execution.current()
        running.ids.append(run.id)

        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.02)

        ticking = asyncio.create_task(tick())
        answer = await run.aask(Approval, prompt="Shall we?")
        ticking.cancel()
        return answer.decision

    running = Running(prefect, asking)
    run = running.until_paused("Shall we?")
    seen = len(ticks)
    eventually(lambda: len(ticks) > seen, "the loop goes on")
    running.answer(run, {"decision": "yes"})
    assert running.result.result(timeout=60) == "yes"


def test_a_time_without_zone_is_refused(stack: Stack, store: MemoryStore) -> None:
    @flow
    @execution(store=store)
    def pausing() -> None:
        execution.current().pause("why", until=datetime(2027, 1, 1))

    with pytest.raises(ValueError, match=r"until: .* has no time zone"):
        pausing()
