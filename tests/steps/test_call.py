"""Calls of steps as task runs: states, futures, task runners and timeouts."""

import asyncio
import os
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest
from prefect import flow, unmapped
from prefect.client.orchestration import get_client
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from prefect_executions import execution, step
from prefect_executions.testkit import TestKit
from trials import act, acts, done, ended, join, made, plain, twice


@pytest.mark.events
def test_a_replayed_call_is_in_a_state_that_says_so(kit: TestKit) -> None:
    states = []
    task_runs = []

    @step
    def shown(n: int) -> int:
        return n * 10

    def body() -> list[int]:
        state = shown(1, return_state=True)
        submitted = shown.submit(2, return_state=True)
        future = shown.submit(3)
        future.wait()
        mapped = shown.map([4, 5], return_state=True)
        states.append([s.name for s in (state, submitted, future.state, *mapped)])
        task_runs.append(future.task_run_id)
        return [s.result() for s in (state, submitted, future.state, *mapped)]

    first, second = twice(kit, body)

    assert first == second == [10, 20, 30, 40, 50]
    assert states == [["Completed"] * 5, ["Replayed"] * 5]
    with get_client(sync_client=True) as client:
        until = monotonic() + 60
        while monotonic() < until:
            try:
                state = client.read_task_run(task_runs[1]).state
            except Exception:
                state = None
            if state is not None and state.is_final():
                break
            sleep(0.1)
    assert state is not None
    assert state.name == "Replayed"
    assert "the function was not run" in (state.message or "")


def test_what_a_step_waits_for_has_ended(kit: TestKit) -> None:
    go_on = threading.Event()

    @step
    def first() -> None:
        assert go_on.wait(20)
        act("first")

    def body() -> None:
        before = first.submit()
        after = plain.submit(2, wait_for=[before])
        go_on.set()
        after.wait()
        plain(3, wait_for=[after])

    twice(kit, body)

    assert made == ["first", "plain 2", "plain 3"]


def test_what_other_processes_do_is_recorded_here(kit: TestKit, tmp_path: Path) -> None:
    """Each effect is a line in a file, as the processes share nothing else with the test."""
    file = tmp_path / "effects"

    @step
    def far(n: int, file: Path) -> int:
        with file.open("a") as lines:
            lines.write(f"{n} {os.getpid()}\n")
        return 10 * n

    @step(key="far-{n}")
    def keyed(n: int, file: Path) -> int:
        with file.open("a") as lines:
            lines.write(f"{n} {os.getpid()}\n")
        if n == 6:
            raise RuntimeError("six")
        return 10 * n

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    @execution(max_retries=1)
    def in_processes() -> list[int]:
        found = [far.submit(1, file).result(), *far.map([2, 3], file=unmapped(file)).result()]
        found.append(far.submit(found[0], file).result())
        found.append(keyed.submit(5, file).result())
        assert keyed.submit(6, file, return_state=True).is_failed()
        if execution.current().attempt == 1:
            raise RuntimeError
        return found

    trial = ended(kit.start(in_processes))

    assert trial.result == [10, 20, 30, 100, 50]
    lines = [line.split() for line in file.read_text().splitlines()]
    assert sorted(int(n) for n, _ in lines) == [1, 2, 3, 5, 6, 6, 10]
    assert f"{os.getpid()}" not in [pid for _, pid in lines]
    assert len(done(kit, trial)) == 5


def test_few_threads_are_enough(kit: TestKit) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    @execution
    def narrow() -> list[str]:
        found = plain.map([1, 2])
        return join.map(found).result()  # type: ignore[arg-type]

    assert len(ended(kit.start(narrow)).result) == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_step_that_runs_out_of_time_keeps_its_place(kit: TestKit, kind: str) -> None:
    """Calls recorded after it are replayed, although it succeeds in the next attempt."""

    @step(timeout_seconds=1)
    def hangs() -> str:
        if execution.current().attempt == 1:
            sleep(3)
        return act("hangs")

    @step(timeout_seconds=1)
    async def hangs_later() -> str:
        if execution.current().attempt == 1:
            await asyncio.sleep(3)
        return act("hangs")

    async def body() -> str:
        try:
            return hangs() if kind == "sync" else await hangs_later()
        except TimeoutError:
            return "late"
        finally:
            plain(1)

    seen = []

    @flow
    @execution(max_retries=1)
    def waits() -> None:
        if kind == "sync":
            try:
                seen.append(hangs())
            except TimeoutError:
                seen.append("late")
            plain(1)
        else:
            seen.append(asyncio.run(body()))
        if execution.current().attempt == 1:
            raise RuntimeError

    ended(kit.start(waits))

    assert seen == ["late", "HANGS"]
    assert acts == {"plain 1": 1, "hangs": 1}


def test_what_never_began_keeps_its_place(kit: TestKit) -> None:
    """The call that it waited for failed, and succeeds in the next attempt."""

    @step
    def flaky() -> None:
        if execution.current().attempt == 1:
            raise RuntimeError

    def body() -> None:
        before = flaky.submit()
        before.wait()
        plain(1, wait_for=[before])  # Prefect does not count this as a failure
        plain(2)

    twice(kit, body)

    assert made == ["plain 2", "plain 1"]
