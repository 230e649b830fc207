"""`testing()`: crashes and pauses where a test plans them."""

import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import BaseModel

from prefect_executions import Run, execution
from prefect_executions.testkit import Crash, TestKit, testing
from trials import acts, ended, plain


@flow
@execution
def calls() -> list[str]:
    return [plain(n) for n in range(3)]


@pytest.mark.parametrize("pause_first", [True, False])
def test_a_pause_and_a_crash_can_be_planned_together(kit: TestKit, pause_first: bool) -> None:
    @flow
    @execution
    def labelled() -> None:
        run = execution.current()
        for n in range(run.state.get("n", -1) + 1, 3):
            run.state["n"] = n
            run.checkpoint(label=f"{n}")

    pause, crash = kit.pause_at("0"), kit.crash_after(3)
    with pause if pause_first else crash, crash if pause_first else pause:
        trial = kit.start(labelled)
        assert (trial.status, trial.state) == ("paused", {"n": 0})
        trial.resume()  # the attempt is the third entry
        assert isinstance(trial.error, Crash)
        trial.resume()

    assert (trial.status, trial.state) == ("completed", {"n": 2})


def test_a_process_that_dies_as_it_begins_may_be_resumed(kit: TestKit) -> None:
    for crash in (kit.crash_before, kit.crash_after):
        acts.clear()
        with crash(1):
            trial = kit.start(calls)
        assert isinstance(trial.error, Crash)
        assert (ended(trial, "failed").result, dict(acts)) == (None, {})
        assert "failed, " in repr(trial)
        trial.resume()
        assert len(ended(trial).result) == 3


@pytest.mark.parametrize("error", [ValueError, Crash])
def test_an_async_flow_that_raises_has_no_result(kit: TestKit, error: type[BaseException]) -> None:
    @flow
    @execution
    async def raising() -> int:
        raise error("It is broken")

    trial = kit.start(raising)

    assert isinstance(trial.error, error)
    assert trial.result is None


def test_a_dead_process_writes_no_more_while_the_next_one_runs(kit: TestKit) -> None:
    """One of its threads is still running."""
    released = threading.Event()
    outcome: list[BaseException | None] = []

    @flow
    @execution
    def leaves_a_thread() -> int:
        run = execution.current()
        if run.attempt == 1:
            thread = threading.Thread(target=copy_context().run, args=(go_on, run))
            thread.start()
            threads.append(thread)
            plain(1)
        return run.attempt

    def go_on(run: Run[Any]) -> None:
        released.wait(20)
        try:
            run.checkpoint(label="from beyond")
        except BaseException as error:
            outcome.append(error)

    threads: list[threading.Thread] = []
    with kit.crash_after(2):
        trial = kit.start(leaves_a_thread)
    trial.resume()
    released.set()
    threads[0].join(20)
    assert ended(trial).result == 2
    assert len(outcome) == 1
    assert "from beyond" not in [checkpoint.label for checkpoint in trial.get().checkpoints]


def test_parameters_and_state_may_be_what_the_flow_takes(kit: TestKit) -> None:
    class Start(BaseModel):
        n: int = 1

    @flow
    @execution(state=Start)
    def takes(where: Path, start: Start) -> int:
        assert isinstance(where, Path)
        return start.n + execution.current(Start).state.n

    assert kit.start(takes, state=Start(n=2), where=Path("a"), start=Start(n=3)).result == 5


def test_the_kit_is_not_taken_for_tests() -> None:
    for name in (testing, TestKit):
        assert name.__test__ is False  # type: ignore[attr-defined]
