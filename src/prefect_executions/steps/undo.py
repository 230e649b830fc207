"""Undoing: what a roll-back has left to be done before the flow runs again."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions.errors import ReplayMismatch
from prefect_executions.log.journal import Record
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.step import Step, steps_named


def undo_sync(recorder: Recorder) -> None:
    """Undo what a roll-back has left to be undone, newest first.

    Raises:
        ReplayMismatch: this code has no such step.
    """
    for record in recorder.replay.to_undo():
        with recorder.replay.undoing(record):
            known, result = _to_undo(recorder, record)

            def undo(result: Any, known: Step[..., Any] = known) -> None:
                done = known.undo and known.undo(result)
                if inspect.isawaitable(done):
                    done = run_coro_as_sync(_await(done))
                _wait_for(done)

            _undo_task(known, undo)(result)
        recorder.record_undone(record)


async def undo_async(recorder: Recorder) -> None:
    """`undo_sync` for an async flow."""
    for record in recorder.replay.to_undo():
        with recorder.replay.undoing(record):
            known, result = await asyncio.to_thread(_to_undo, recorder, record)

            async def undo(result: Any, known: Step[..., Any] = known) -> None:
                done = known.undo and known.undo(result)
                if inspect.isawaitable(done):
                    done = await done
                await asyncio.to_thread(_wait_for, done)

            await _undo_task(known, undo)(result)
        await asyncio.to_thread(recorder.record_undone, record)


def _to_undo(recorder: Recorder, record: Record) -> tuple[Step[..., Any], Any]:
    """The step of a call that is to be undone, and its result."""
    named = steps_named(record.step)
    same = named.get(record.function or "")
    found = [step for step in [same] if step and step.undo] or [
        step for step in named.values() if step.undo
    ]
    if len(found) > 1:
        raise ReplayMismatch(
            record.step,
            f"a roll-back has left it to be undone. It was {record.function}, and of this code "
            "several functions are steps of this name: give the others another one.",
        )
    if not found:
        raise ReplayMismatch(
            record.step,
            "a roll-back has left it to be undone, and this code has no step of this name with "
            "`undo`. Bring it back; `undo=lambda result: None` undoes nothing.",
        )
    return found[0], found[0].recorded_result(recorder, record)


def _undo_task(known: Step[..., Any], undo: Callable[..., Any]) -> Any:
    return Task(undo, name=f"undo {known.name}", persist_result=False)


def _wait_for(done: Any) -> None:
    """Wait for what an `undo` has submitted; if that fails, so does the `undo`."""
    if isinstance(done, PrefectFuture | PrefectFutureList):
        done.result()


async def _await(outcome: Any) -> Any:
    return await outcome
