"""Flows that run an agent, and fail once, so that they run it again."""

from collections.abc import Callable
from typing import Any

from prefect import flow
from pydantic_ai import Agent

from prefect_executions import execution
from prefect_executions.pydantic_ai import ExecutionsDurability
from prefect_executions.testkit import TestKit, Trial
from trials import ended


def durable(model: Any, **options: Any) -> Agent[Any, Any]:
    """An agent with this model, and nothing else that could differ."""
    options = {"name": "guide", "capabilities": [ExecutionsDurability()]} | options
    return Agent(model, **options)


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
