"""Steps in threads and processes that the flow has made itself."""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from multiprocessing.connection import Connection
from typing import Any

import pytest
from prefect import flow, task

from prefect_executions import execution
from prefect_executions.errors import NotAnExecution
from prefect_executions.testkit import TestKit
from trials import acts, done, ended, later, once, plain


def on_a_pool(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def on_a_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []

    def act() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def in_an_executor(call: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, call)

    return asyncio.run(main())


PLAIN = {"pool": on_a_pool, "thread": on_a_thread, "executor": in_an_executor}

CALLS: dict[str, Callable[[], Any]] = {
    "call": lambda: plain(1),
    "submit": lambda: plain.submit(1).result(),
    "map": lambda: plain.map([1]).result(),
    "async": lambda: asyncio.run(later(1)),
}


@pytest.mark.parametrize("where", PLAIN)
def test_a_step_on_a_plain_thread_is_refused_before_it_acts(kit: TestKit, where: str) -> None:
    for call in CALLS.values():
        trial = ended(once(kit, lambda call=call: PLAIN[where](call), max_retries=1), "failed")  # type: ignore[misc]

        assert isinstance(trial.error, NotAnExecution)
        assert "copy_context" in str(trial.error)
        assert trial.get().prefect.attempt == 1
    assert not acts


def test_an_async_flow_is_told_so_too(kit: TestKit) -> None:
    @flow
    @execution
    async def runs() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, plain, 1)

    trial = ended(kit.start(runs), "failed")

    assert isinstance(trial.error, NotAnExecution)
    assert not acts


@pytest.mark.parametrize("where", PLAIN)
def test_with_the_context_of_the_flow_it_is_recorded(kit: TestKit, where: str) -> None:
    def body() -> Any:
        context = copy_context()
        return PLAIN[where](lambda: context.run(plain, 1))

    trial = ended(once(kit, body))

    assert trial.result == "PLAIN 1"
    assert [record.step for record in done(kit, trial)] == ["plain"]


def test_other_flows_of_the_process_call_it_as_a_task(kit: TestKit) -> None:
    elsewhere = copy_context()  # knows the Prefect server, and no flow

    @flow
    def other() -> str:
        return plain(1)

    @task
    def alone() -> str:
        return plain(2)

    def body() -> list[str]:
        calls: list[Callable[[], str]] = [other, alone, lambda: plain.fn(3)]
        return [on_a_thread(lambda call=call: elsewhere.run(call)) for call in calls]  # type: ignore[misc]

    trial = ended(once(kit, body))

    assert trial.result == ["PLAIN 1", "PLAIN 2", "PLAIN 3"]
    assert done(kit, trial) == []
    assert plain(4) == "PLAIN 4"  # once it has ended, anywhere


@pytest.mark.parametrize("what", ["step", "submitted", "checkpoint", "thread"])
def test_a_forked_process_is_refused(kit: TestKit, what: str) -> None:
    def act(there: Connection) -> None:
        run = execution.current()
        acts: dict[str, Callable[[], Any]] = {
            "step": lambda: plain(1),
            "submitted": lambda: plain.submit(1),
            "checkpoint": run.checkpoint,
            "thread": lambda: on_a_thread(lambda: plain(1)),
        }
        try:
            there.send(f"done: {acts[what]()}")
        except NotAnExecution as refused:
            there.send(f"refused: {refused}")

    def body() -> Any:
        plain(0)
        here, there = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=act, args=(there,))
        child.start()
        answer = here.recv() if here.poll(60) else None
        child.join(60)
        return answer, plain(2)

    trial = ended(once(kit, body))

    answer, last = trial.result
    assert answer.startswith("refused: ")
    assert last == "PLAIN 2"
    assert [record.order for record in done(kit, trial)] == [1, 2]
