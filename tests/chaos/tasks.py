"""The flows that chaos disturbs, which write what they do to a ledger apart from the log.

A step depends only on the execution's seed and its own number, so the result of an undisturbed run
is known without running it.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import sleep, time
from typing import Any

from prefect import flow
from pydantic import BaseModel

from prefect_executions import Run, execution, step

DATA = "EXECUTIONS_CHAOS_DATA"  # the directory of the ledgers, in the environment
EDITED = "edited"  # the label of a checkpoint that a person saves


class Work(BaseModel):
    """The state: how many steps were taken, a hash chain and notes of them, and who took each.

    A person's edit of a paused execution counts up `edits`; nothing else depends on that.
    """

    n: int = 0
    digest: str = ""
    notes: list[str] = []
    by: list[int] = []  # the attempt that took each step; nothing else depends on the attempt
    edits: int = 0

    def take(self, step: "Step", attempt: int) -> None:
        """Take the next step."""
        self.n = step.n
        self.digest = hashlib.sha256(f"{self.digest} {step.note}".encode()).hexdigest()
        self.notes.append(step.note)
        self.by.append(attempt)

    @property
    def fingerprint(self) -> str:
        """A text that differs for different states."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """One step of the work.

    Args:
        n: Its number, from 1.
        note: What it adds to the state.
        seconds: How long it takes.
        is_saved: Whether a checkpoint follows; otherwise the state is only published.
    """

    n: int
    note: str
    seconds: float
    is_saved: bool

    @classmethod
    def of(cls, seed: int, n: int) -> "Step":
        """Step `n` of the execution with this seed."""
        random = Random(f"{seed} {n}")
        note = random.randbytes(random.randrange(8, 64)).hex()
        return cls(n, note, random.uniform(0.05, 0.2), random.random() < 0.8)

    @property
    def label(self) -> str:
        """The label of its checkpoint."""
        return f"step {self.n}"


def undisturbed(seed: int, steps: int) -> Work:
    """The result of an undisturbed run."""
    work = Work()
    for n in range(1, steps + 1):
        work.take(Step.of(seed, n), attempt=1)
    return work


@step
def fetch(seed: int, n: int) -> str:
    """The note of a step, recorded before the state has it."""
    fetching(n)
    return Step.of(seed, n).note


@step
async def fetch_async(seed: int, n: int) -> str:
    """The same, async."""
    fetching(n)
    return Step.of(seed, n).note


@flow
@execution(state=Work, max_retries=1000, checkpoint_interval_seconds=1)
def working(seed: int, steps: int) -> str:
    """Take steps, and save or publish the state after each."""
    run = execution.current(Work)
    _begin(run)
    while run.state.n < steps:
        step = Step.of(seed, run.state.n + 1)
        _fetched(run, step, fetch(seed, step.n))
        sleep(step.seconds)
        _take(run, step)
        if step.is_saved:
            _saved(run, step, run.checkpoint(label=step.label))
        else:
            run.publish()
    return _end(run)


@flow
@execution(state=Work, max_retries=1000, checkpoint_interval_seconds=1)
async def working_async(seed: int, steps: int) -> str:
    """The same, async."""
    return await go_on(seed, steps, fetch_async)


async def go_on(seed: int, steps: int, fetch: Callable[[int, int], Awaitable[str]]) -> str:
    """Take steps whose notes are fetched by `fetch`."""
    run = execution.current(Work)
    _begin(run)
    while run.state.n < steps:
        step = Step.of(seed, run.state.n + 1)
        _fetched(run, step, await fetch(seed, step.n))
        await asyncio.sleep(step.seconds)
        _take(run, step)
        if step.is_saved:
            _saved(run, step, await run.acheckpoint(label=step.label))
        else:
            run.publish()
    return _end(run)


def fetching(n: int) -> None:
    """Note that the function of a step is called."""
    _write(execution.current(), "fetch", step=n)


def _begin(run: Run[Work]) -> None:
    """Note that a process goes on with an execution."""
    _write(run, "begin", step=run.state.n)


def _take(run: Run[Work], step: Step) -> None:
    """Write the side effect before the state has it."""
    _write(run, "effect", step=step.n)
    run.state.take(step, run.attempt)


def _fetched(run: Run[Work], step: Step, note: str) -> None:
    """Note that the result is durable, and so must not be fetched again."""
    assert note == step.note
    _write(run, "fetched", step=step.n)


def _saved(run: Run[Work], step: Step, checkpoint: str | None) -> None:
    """Note that a checkpoint is acknowledged."""
    _write(
        run,
        "ack",
        step=step.n,
        checkpoint=checkpoint,
        label=step.label,
        fingerprint=run.state.fingerprint,
    )


def _end(run: Run[Work]) -> str:
    """Note the result, and return it."""
    _write(run, "result", step=run.state.n, digest=run.state.digest)
    return run.state.digest


def _write(run: Run[Work], kind: str, **facts: Any) -> None:
    """Add a line to the ledger of an execution, in one write, so that it is never half there."""
    line = {"kind": kind, "attempt": run.attempt, "pid": os.getpid(), "at": time(), **facts}
    path = Path(os.environ[DATA]) / f"{run.id}.ledger"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)
