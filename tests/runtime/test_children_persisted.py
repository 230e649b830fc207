"""Children whose results Prefect persists, in flows that Prefect tries again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from families import child, clear, done, fail, failing, ids, later
from prefect_executions import execution
from prefect_executions.testkit import TestKit

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def nothing_done(tmp_path: Path) -> Iterator[None]:
    clear()
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: str(tmp_path)}):
        yield


RESULTS = [["paid b 1", "paid b 2"], ["paid a 1", "paid a 2"]]
PAID_ONCE = {"a 1": 1, "a 2": 1, "b 1": 1, "b 2": 1}


def names() -> list[str]:
    """The children in the order in which this try calls them."""
    return ["a", "b"] if failing["end"] else ["b", "a"]


@pytest.mark.parametrize("where", ["flow", "task", "execution", "nested"])
def test_a_child_is_not_given_the_persisted_result_of_another(kit: TestKit, where: str) -> None:
    kept = child.with_options(persist_result=True)

    def body() -> list[Any]:
        found = [kept(name) for name in names()]
        fail("end")
        return found

    around: dict[str, Any] = {
        "flow": flow(name="around", retries=1)(body),
        "task": task(name="around", retries=1)(body),
        "execution": body,
        "nested": flow(name="around", retries=1)(execution(body)),
    }

    @flow(retries=1 if where == "execution" else 0)
    @execution
    def calls() -> list[Any]:
        found: list[Any] = around[where]()
        return found

    failing["end"] = 1

    trial = kit.start(calls)

    assert trial.status == "completed", trial
    assert trial.result == RESULTS
    assert done == PAID_ONCE
    assert len(set(ids)) == 2


def test_an_async_child_is_not_either(kit: TestKit) -> None:
    kept = later.with_options(persist_result=True)

    @flow(retries=1)
    async def around() -> list[Any]:
        found = [await kept(name) for name in names()]
        await asyncio.to_thread(fail, "end")
        return found

    @flow
    @execution
    async def calls() -> list[Any]:
        return await around()

    failing["end"] = 1

    trial = kit.start(calls)

    assert trial.result == RESULTS
    assert done == PAID_ONCE


def test_of_a_child_in_the_flow_of_an_execution_prefect_persists_the_result(
    kit: TestKit, tmp_path: Path
) -> None:
    kept = child.with_options(persist_result=True)

    @flow
    @execution
    def calls() -> list[Any]:
        found: list[Any] = kept("a")
        return found

    kit.start(calls)

    assert list(tmp_path.iterdir())
