"""What is raised in a task group acts as outside one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from prefect import flow
from prefect.flows import Flow
from pydantic import BaseModel

from prefect_executions import execution
from prefect_executions.errors import StateError
from prefect_executions.testkit import Crash, TestKit
from trials import acts, done, ended, later

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])

Act = Callable[[], Awaitable[Any]]


class Answer(BaseModel):
    text: str


async def in_asyncio(*tasks: Act) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(task()) for task in tasks]  # type: ignore[arg-type,var-annotated]
    return [task.result() for task in made]


async def in_anyio(*tasks: Act) -> list[Any]:
    results: dict[int, Any] = {}

    async def run(n: int, task: Act) -> None:
        results[n] = await task()

    async with anyio.create_task_group() as group:
        for n, task in enumerate(tasks):
            group.start_soon(run, n, task)
    return [results[n] for n in sorted(results)]


async def nested(*tasks: Act) -> list[Any]:
    [results] = await in_asyncio(lambda: in_anyio(*tasks))
    assert isinstance(results, list)
    return results


GROUPS = {"asyncio": in_asyncio, "anyio": in_anyio, "nested": nested}


def flow_of(kind: str, body: Callable[[], Awaitable[Any]], **config: Any) -> Flow[Any, Any]:
    @flow
    @execution(**config)
    def sync_flow() -> Any:
        return asyncio.run(body())  # type: ignore[arg-type]

    @flow
    @execution(**config)
    async def async_flow() -> Any:
        return await body()

    return sync_flow if kind == "sync" else async_flow


@KINDS
@pytest.mark.parametrize("group", GROUPS)
def test_a_question_in_a_group_is_one(kit: TestKit, group: str, kind: str) -> None:
    async def asks() -> str:
        return (await execution.current().aask(Answer, prompt="What?")).text

    async def body() -> list[Any]:
        return await GROUPS[group](lambda: later(1), asks)

    trial = ended(kit.start(flow_of(kind, body)), "paused")
    trial.resume(input={"text": "this"})

    assert ended(trial).result == ["LATER 1", "this"]


@KINDS
def test_a_pause_beside_a_failure_is_a_pause(
    kit: TestKit, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Though there are retries; what else was raised is said."""

    async def body() -> str:
        run = execution.current()
        both = asyncio.Event()

        async def pauses() -> None:
            try:
                await run.apause("Is all well?")
            finally:
                both.set()

        async def fails() -> None:
            try:
                await both.wait()
            finally:
                if run.attempt == 1:
                    raise RuntimeError("no luck")

        await in_asyncio(pauses, fails)
        return "done"

    with caplog.at_level(logging.WARNING):
        trial = ended(kit.start(flow_of(kind, body, max_retries=1)), "paused")
        assert "RuntimeError('no luck')" in caplog.text
        trial.resume()

    assert ended(trial).get().prefect.attempt == 2
    assert trial.result == "done"


@KINDS
@pytest.mark.parametrize("group", GROUPS)
def test_errors_in_a_group_use_a_retry(kit: TestKit, group: str, kind: str) -> None:
    acts.clear()

    async def fails() -> str:
        if execution.current().attempt == 1:
            raise RuntimeError("no luck")
        return "luck"

    async def body() -> list[Any]:
        return [await later(1), *await GROUPS[group](fails)]

    trial = ended(kit.start(flow_of(kind, body, max_retries=1)))

    assert trial.result == ["LATER 1", "luck"]
    assert acts == {"later 1": 1}
    assert len(done(kit, trial)) == 1


@KINDS
@pytest.mark.parametrize("group", GROUPS)
def test_what_never_mends_does_not_mend_in_a_group(kit: TestKit, group: str, kind: str) -> None:
    async def fails() -> None:
        execution.current().state["socket"] = object()
        await execution.current().acheckpoint()

    async def body() -> list[Any]:
        return await GROUPS[group](fails)

    trial = ended(kit.start(flow_of(kind, body, max_retries=1)), "failed")

    assert isinstance(trial.error, ExceptionGroup)
    assert trial.error.subgroup(StateError) is not None
    assert trial.get().prefect.attempt == 1


@KINDS
def test_a_process_that_dies_in_a_group_is_dead(kit: TestKit, kind: str) -> None:
    async def body() -> list[Any]:
        async def dies() -> None:
            if execution.current().attempt == 1:
                kit.crash()

        return await in_anyio(dies)

    trial = kit.start(flow_of(kind, body))

    assert isinstance(trial.error, Crash)
