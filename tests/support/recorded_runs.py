"""Flows that run an agent of the OpenAI Agents SDK, and fail once, so that they run it again."""

from collections.abc import Callable
from typing import Any

from agents import Agent
from prefect import flow

from prefect_executions import execution
from prefect_executions.openai_agents import run
from prefect_executions.testkit import TestKit, Trial
from trials import ended


def flow_of(make: Callable[[], Agent[Any]], **options: Any) -> Any:
    """A flow that runs an agent, which is made anew in each attempt, as in each process."""

    @flow
    @execution(**options)
    async def runs() -> Any:
        return (await run(make(), "hi")).final_output

    return runs


def run_twice(kit: TestKit, body: Callable[[], Any]) -> tuple[Any, Any, Trial]:
    """What an async body returns in a first attempt that fails, and in a second one."""
    seen = []

    @flow
    @execution(max_retries=1)
    async def repeats() -> None:
        seen.append(await body())
        if execution.current().attempt == 1:
            raise RuntimeError("again")

    trial = ended(kit.start(repeats))
    first, second = seen
    return first, second, trial
