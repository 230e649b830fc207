"""The flows that the end-to-end tests deploy; the tests decide by files what they do next."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from prefect import flow, task
from pydantic import BaseModel

from prefect_executions import Run, execution, step

DATA = Path(os.environ.get("EXECUTIONS_TEST_DATA", "."))


class Count(BaseModel):
    n: int = 0
    attempts: list[int] = []


def trace(run: Run[Count]) -> Path:
    """The file to which a run writes a line for each side effect."""
    return DATA / f"{run.id}.trace"


def gate(run_id: str, attempt: int, n: int) -> Path:
    """The file that lets an attempt take step `n`."""
    return DATA / f"{run_id}.{attempt}.{n}.gate"


def published(execution_id: str) -> Path:
    return DATA / f"{execution_id}.published"


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
    """Save once, fail in the first attempt, and succeed in the second."""
    run = execution.current(Count)
    _step(run)
    run.checkpoint()
    if run.attempt == 1:
        raise RuntimeError("once")
    return run.state.n


@flow
@execution(state=Count)
def publishing(seconds: float) -> None:
    """Publish a state without saving it, and then sleep."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    published(run.id).touch()
    sleep(seconds)
    run.state.n = -1  # never published


@flow
@execution(state=Count)
async def publishing_async(seconds: float) -> None:
    """The same, async."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    published(run.id).touch()
    await asyncio.sleep(seconds)
    run.state.n = -1


@flow
@execution(state=Count)
def stubborn(seconds: float) -> None:
    """Publish, and then ignore all signals to end."""
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
    """Count and publish without end."""
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
    """Publish once, and then call tasks without end."""
    run = execution.current(Count)
    _step(run)
    run.publish()
    while True:
        pausing_here(0.05)


class Approval(BaseModel):
    decision: Literal["yes", "no"]
    by: str = "nobody"


class Note(BaseModel):
    text: str = "nothing"


@step
def effect(name: str) -> str:
    """Leave a line in a file, slowly."""
    run = execution.current()
    with (DATA / f"{run.id}.effects").open("a") as file:
        file.write(f"{name}\n")
    return name.upper()


@step
def reverse_effect(result: str) -> None:
    """Leave another line."""
    with (DATA / f"{execution.current().id}.effects").open("a") as file:
        file.write(f"undo {result}\n")


@step(undo=lambda result: reverse_effect(result))
def reversible(name: str) -> str:
    """An effect that can be undone."""
    return effect.fn(name)


@flow
@execution(state=Count)
def asking(rounds: int = 2) -> list[str]:
    """Ask in a loop, between effects; then ask something that needs no answer."""
    run = execution.current(Count)
    said = []
    for n in range(rounds):
        effect(f"before {n}")
        answer = run.ask(Approval, prompt=f"Shall we go on with {n}?")
        said.append(f"{answer.decision} by {answer.by}")
        effect(f"after {n}")
    said.append(run.ask(Note, prompt="Anything else?").text)
    run.state.n = len(said)
    return said


@flow
@execution(state=Count)
async def asking_async() -> list[str]:
    """The same, async, and once."""
    run = execution.current(Count)
    effect("before")
    answer = await run.aask(Approval, prompt="Shall we?")
    await run.apause("Have a look")
    effect("after")
    return [answer.decision, answer.by]


@flow
@execution(state=Count)
def pausing(seconds: float | None, on_timeout: Literal["resume", "fail", "terminate"]) -> int:
    """Do, pause twice, do."""
    run = execution.current(Count)
    effect("first")
    run.state.n += 1
    until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    # From the top, `n` is another number each time: only their keys say which pause is which.
    run.pause("Have a look", until=until, on_timeout=on_timeout, key="first")
    effect("second")
    run.state.n += 1
    run.pause("Have another look", key="second")
    effect("third")
    return run.attempt


@flow
@execution(state=Count)
def undoing() -> list[str]:
    """Three effects, two of which can be undone; then wait for people."""
    run = execution.current(Count)
    done = []
    for name in ("one", "two", "three"):
        done.append(effect(name) if name == "two" else reversible(name))
        run.state.n += 1
        run.checkpoint(label=name)
    run.pause("All done", key="done")  # `n` is another number each time
    return done


@flow
@execution
def amid_steps(of: str) -> list[str]:
    """Three effects, each when the test opens the gate for it; a child of the execution `of`."""
    found = []
    for n in (1, 2, 3):
        while not gate(of, 1, n).exists():
            sleep(0.02)
        found.append(effect(f"child {n}"))
        published(of).touch()  # the step is recorded
    return found


@flow
@execution
def calling_child() -> str:
    """An effect, a child, and an effect that tells what the child has returned."""
    effect("before")
    return effect("after " + ", ".join(amid_steps(execution.current().id)))


class Numbers(BaseModel):
    read: list[str] = []
    total: int = 0


@flow
@execution(state=Numbers)
def adding(pages: int) -> int:
    """Read pages of numbers, and add what has been read; a page may come damaged."""
    run = execution.current(Numbers)
    listed = DATA / "damaged-pages"
    damaged = {int(page) for page in listed.read_text().split()} if listed.exists() else set()
    while len(run.state.read) < pages:
        page = len(run.state.read) + 1
        run.state.read.append("??" if page in damaged else f"{page}")
        run.checkpoint(label=f"page {page}")
    for page, number in enumerate(run.state.read, 1):
        if not number.isdigit():
            raise ValueError(f"page {page} is damaged: {number!r} is no number")
        run.state.total += int(number)
    return run.state.total
