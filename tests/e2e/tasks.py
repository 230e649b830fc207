"""The flows that the end-to-end tests deploy; what they do next, the tests decide by files."""

import asyncio
import os
from pathlib import Path
from time import monotonic, sleep

from prefect import flow, task
from pydantic import BaseModel

from prefect_executions import Run, execution

DATA = Path(os.environ.get("EXECUTIONS_TEST_DATA", "."))


class Count(BaseModel):
    n: int = 0
    attempts: list[int] = []


def trace(run: Run[Count]) -> Path:
    """The file that a run writes its side effects to: a line each."""
    return DATA / f"{run.id}.trace"


def gate(run_id: str, attempt: int, n: int) -> Path:
    """The file that lets an attempt take step `n`."""
    return DATA / f"{run_id}.{attempt}.{n}.gate"


def _step(run: Run[Count]) -> None:
    run.state.n += 1
    run.state.attempts.append(run.attempt)
    with trace(run).open("a") as file:
        file.write(f"{run.attempt} {run.state.n} {os.getpid()}\n")


@flow
@execution(state=Count)
def counting(to: int, seconds: float = 0.2) -> int:
    """Count, with a checkpoint for each number; no Prefect task anywhere."""
    run = execution.current(Count)
    while run.state.n < to:
        sleep(seconds)
        _step(run)
        run.checkpoint(label=f"n = {run.state.n}")
    return run.state.n


@flow
@execution(state=Count)
async def counting_async(to: int) -> int:
    """The same, async."""
    run = execution.current(Count)
    while run.state.n < to:
        _step(run)
        await run.acheckpoint(label=f"n = {run.state.n}")
    return run.state.n


@flow
@execution(state=Count)
def gated(to: int) -> int:
    """Count, each number when the test opens the gate for it."""
    run = execution.current(Count)
    while run.state.n < to:
        while not gate(run.id, run.attempt, run.state.n + 1).exists():
            sleep(0.02)
        _step(run)
        run.checkpoint(label=f"n = {run.state.n}")
    return run.state.n


@flow
@execution(state=Count)
def failing(message: str) -> None:
    """Save once, then fail."""
    run = execution.current(Count)
    _step(run)
    run.checkpoint()
    raise RuntimeError(message)


@flow
@execution(state=Count, max_retries=1)
def failing_once() -> int:
    """Save once, fail in the first attempt, and say what it is in the second."""
    run = execution.current(Count)
    _step(run)
    run.checkpoint()
    if run.attempt == 1:
        raise RuntimeError("once")
    return run.state.n


@flow
@execution(state=Count)
def publishing(seconds: float) -> None:
    """Publish a state that nobody saves, and then do nothing but sleep."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    sleep(seconds)
    run.state.n = -1  # never published


@flow
@execution(state=Count)
async def publishing_async(seconds: float) -> None:
    """The same, async."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    await asyncio.sleep(seconds)
    run.state.n = -1


@flow
@execution(state=Count)
def stubborn(seconds: float) -> None:
    """Publish, and then take no hint to end."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    ends = monotonic() + seconds
    while monotonic() < ends:
        try:
            sleep(0.1)
        except BaseException as hint:
            print(f"not now, {hint!r}")


@flow
@execution(state=Count)
def publishing_on(seconds: float = 0.05) -> None:
    """Count and publish, for ever."""
    run = execution.current(Count)
    while True:
        _step(run)
        run.publish()
        sleep(seconds)


@task
def pausing_here(seconds: float) -> None:
    """Prefect ends a suspended flow where it calls a task."""
    sleep(seconds)


@flow
@execution(state=Count)
def publishing_before_tasks() -> None:
    """Publish once, and then call tasks for ever."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    while True:
        pausing_here(0.05)
