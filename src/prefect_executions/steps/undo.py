"""Undoing: what a roll-back has left to be done before the flow runs again."""

import inspect
from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions.background import in_thread
from prefect_executions.log.journal import Record
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.step import Step
from prefect_executions.steps.undoable import find_undoable


def undo_sync(recorder: Recorder) -> None:
    """Undo what a roll-back has left to be undone, newest first.

    Raises:
        ReplayMismatch: this code does not have one of the steps, or can't tell which it was;
            nothing is undone.
    """
    for record, known in _plan(recorder):
        with recorder.replay.undoing(record):
            result = known.recorded_result(recorder, record)

            def undo(result: Any, known: Step[..., Any] = known) -> None:
                done = known.undo and known.undo(result)
                if inspect.isawaitable(done):
                    done = run_coro_as_sync(_await(done))
                _wait_for(done)

            _undo_task(known, undo)(result)
        recorder.record_undone(record)


async def undo_async(recorder: Recorder) -> None:
    """`undo_sync` for an async flow."""
    for record, known in _plan(recorder):
        with recorder.replay.undoing(record):
            result = await in_thread(known.recorded_result, recorder, record)

            async def undo(result: Any, known: Step[..., Any] = known) -> None:
                done = known.undo and known.undo(result)
                if inspect.isawaitable(done):
                    done = await done
                await in_thread(_wait_for, done, waits=True)

            await _undo_task(known, undo)(result)
        await in_thread(recorder.record_undone, record)


def _plan(recorder: Recorder) -> list[tuple[Record, Step[..., Any]]]:
    """What is to be undone, and the steps that do it; known before anything is undone."""
    plan = [(record, find_undoable(record)) for record in recorder.replay.records.to_undo]
    for record, _ in plan:
        recorder.refuse(f"undo {record.step}")
    return plan


def _undo_task(known: Step[..., Any], undo: Callable[..., Any]) -> Any:
    return Task(undo, name=f"undo {known.name}", persist_result=False)


def _wait_for(done: Any) -> None:
    """Wait for what an `undo` has submitted; if that fails, so does the `undo`."""
    if isinstance(done, PrefectFuture | PrefectFutureList):
        done.result()


async def _await(outcome: Any) -> Any:
    return await outcome
