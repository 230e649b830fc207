"""After any crash each call gets its own result again; on a real Prefect server."""

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from prefect import flow, task
from prefect.flows import Flow

from memory import Count
from prefect_executions import execution, step
from prefect_executions.errors import AmbiguousCall
from prefect_executions.testkit import Crash, TestKit
from trials import act, acts, charge, done, ended, fails, join, later, plain

pytestmark = pytest.mark.long


@step
def outer(n: int) -> str:
    return plain(n) + plain(n + 1) + act(f"outer {n}")


@step
async def outer_later(n: int) -> str:
    return "".join(await asyncio.gather(later(n), later(n + 1))) + act(f"outer {n}")


@step(retries=1)
def stumbles(n: int) -> str:
    """Fail in the first try of each attempt, after some effects."""
    text = plain(n) + plain(n + 1)
    run = execution.current()
    if (run.id, run.attempt) not in stumbled:
        stumbled.add((run.id, run.attempt))
        raise RuntimeError("stumbled")
    return text + act(f"stumbles {n}")


stumbled: set[tuple[str, int]] = set()


@task
def ordinary(n: int) -> str:
    return plain(n) + plain(n + 1)


@flow
@execution
def loop() -> list[str]:
    return [plain(n) for n in range(3)]


@flow
@execution
async def gathering() -> list[str]:
    first = await later(0)
    return [first, *await asyncio.gather(later(1), later(2))]


@flow
@execution
def submitting() -> str:
    parts = [plain.submit(1), later.submit(2)]
    both = join.submit(parts)  # type: ignore[arg-type]  # Prefect lets futures stand for results
    return join.submit([both], end="!").result()  # type: ignore[list-item]


@flow
@execution
def mapping() -> list[str]:
    found = plain.map([1, 2])
    return join.map(found, end="?").result()  # type: ignore[arg-type]


@flow
@execution
def nesting() -> list[str]:
    return [outer(1), outer.submit(5).result()]


@flow
@execution
async def nesting_later() -> str:
    return "".join(await asyncio.gather(outer_later(1), later(5)))


@flow
def inner_flow(n: int) -> str:
    return plain(n) + plain.submit(n + 1).result()


@flow
@execution
def with_subflow() -> list[str]:
    return [inner_flow(3), plain(2)]


@flow
@execution
def with_tasks() -> list[str]:
    beside = ordinary.submit(5)
    return [plain(3), beside.result()]


@flow
@execution(state=Count)
def skipping() -> int:
    run = execution.current(Count)
    while run.state.n < 2:
        plain(run.state.n)
        run.state.n += 1
        run.checkpoint()
    return run.state.n


@flow
@execution
def falling_back() -> list[str]:
    said = []
    for n in (1, 2):
        try:
            said.append(fails(n))
        except RuntimeError:
            said.append(plain(n))
    return said


@flow
@execution
def stumbling() -> list[str]:
    return [stumbles(1)]


@flow
@execution
def with_keys() -> list[str]:
    """Calls with a key, which are found again by that key."""
    return [charge(1), plain(1), charge.submit(2).result(), charge(1)]


SEQUENTIAL = [loop, nesting, with_subflow, skipping, falling_back, stumbling, with_keys]
AT_ONCE = [gathering, submitting, mapping, nesting_later, with_tasks]


def name_of(flow: Flow[..., Any]) -> str:
    return flow.name


known: dict[str, tuple[Any, Counter[str], int]] = {}


def undisturbed(kit: TestKit, flow: Flow[..., Any]) -> tuple[Any, Counter[str], int]:
    """The result and the effects of a flow without crashes, and how many calls it records."""
    if flow.name not in known:
        trial = ended(kit.start(flow))
        known[flow.name] = trial.result, acts.copy(), len(done(kit, trial))
        assert set(acts.values()) == {1}
        acts.clear()
    return known[flow.name]


@pytest.mark.parametrize("flow", SEQUENTIAL, ids=name_of)
def test_each_effect_happens_once_if_the_process_dies_between_record_and_effect(
    kit: TestKit, flow: Flow[..., Any]
) -> None:
    """It dies after each record in turn."""
    result, effects, _ = undisturbed(kit, flow)

    with kit.crash_after(2):  # the attempt, a record
        trial = kit.start(flow)
    crashes = 0
    while trial.status == "failed":
        crashes += 1
        assert isinstance(trial.error, Crash)
        with kit.crash_after(2):
            trial.resume()

    assert acts == effects
    assert ended(trial).result == result
    assert crashes >= len(effects)


@pytest.mark.parametrize("flow", [*SEQUENTIAL, *AT_ONCE], ids=name_of)
def test_only_what_was_not_recorded_is_done_again(kit: TestKit, flow: Flow[..., Any]) -> None:
    """The process dies after an effect and before its record, for each record in turn."""
    result, effects, records = undisturbed(kit, flow)

    crashes = 0
    for crash in range(2, records + 2):  # the attempt comes first
        acts.clear()
        with kit.crash_before(crash):
            trial = kit.start(flow)
        if trial.status == "completed":  # some records have shared an entry
            break
        crashes += 1
        before, recorded = acts.copy(), done(kit, trial)
        trial.resume()

        assert ended(trial).result == result
        assert acts.keys() == effects.keys()
        assert acts.total() - before.total() == effects.total() - len(recorded)
        assert max(acts.values()) <= 2
        if flow in SEQUENTIAL:
            assert list(acts.values()).count(2) <= 1
    assert crashes > 1 if flow in AT_ONCE else crashes == records


def test_in_a_loop_of_equal_calls_each_gets_its_own_result_again(kit: TestKit) -> None:
    """An agent asks a model the same again and again, and each answer is different."""
    tickets = iter(range(100))

    @step
    def think() -> int:
        return next(tickets)

    @flow
    @execution
    def thinks() -> list[int]:
        return [think() for _ in range(3)]

    for at in range(3):
        tickets = iter(range(100))
        with kit.crash_before(2 + at):
            trial = kit.start(thinks)
        trial.resume()
        assert trial.result == [*range(at), *range(at + 1, 4)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_equal_call_of_another_round_is_refused_before_it_runs(kit: TestKit, kind: str) -> None:
    tickets = iter(range(100))

    @step
    def think() -> int:
        return next(tickets)

    @step
    async def think_later() -> int:
        return next(tickets)

    @flow
    @execution(state=Count)
    def thinks() -> list[int]:
        run = execution.current(Count)
        said = []
        while run.state.n < 3:
            plain(run.state.n)
            said.append(think())
            run.state.n += 1
            run.checkpoint()
        return said

    @flow
    @execution(state=Count)
    async def thinks_later() -> list[int]:
        run = execution.current(Count)
        said = []
        while run.state.n < 3:
            await later(run.state.n)
            said.append(await think_later())
            run.state.n += 1
            await run.acheckpoint()
        return said

    trial = kit.start(thinks if kind == "sync" else thinks_later)

    assert isinstance(trial.error, AmbiguousCall)
    assert next(tickets) == 1  # it was refused before it ran
    assert trial.state == {"n": 1}


def test_equal_calls_that_run_at_once_and_what_follows_of_them_stay_together(
    kit: TestKit,
) -> None:
    """The calls of `use` are distinguished by the call of `draw` whose result they get."""
    lots = iter(range(100))
    first_may_end = threading.Event()

    @step
    def draw() -> int:
        return next(lots)

    @step
    def use(lot: int) -> int:
        if lot == 0 and execution.current().attempt == 1:
            first_may_end.wait(20)
        act(f"use {lot}")
        return lot

    @flow
    @execution
    def draws() -> list[int]:
        drawn = []
        for _ in range(2):
            drawn.append(draw.submit())
            drawn[-1].wait()
        used = [use.submit(lot) for lot in drawn]  # type: ignore[arg-type]
        if execution.current().attempt == 1:
            used[1].wait()
            first_may_end.set()
        return [future.result() for future in used]

    with kit.crash_before(5):  # the attempt, two draws, the second use
        trial = kit.start(draws)
    assert isinstance(trial.error, Crash)
    assert [record.step for record in done(kit, trial)] == ["draw", "draw", "use"]

    trial.resume()

    assert ended(trial).result == [0, 1]
    assert acts == {"use 0": 2, "use 1": 1}


@pytest.mark.parametrize("options", [{"key": "poll"}, {"repeats": "reuse"}])
def test_a_key_or_reuse_makes_equal_calls_one(kit: TestKit, options: Any) -> None:
    @step(**options)
    def poll() -> int:
        act("poll")
        return 1

    @flow
    @execution
    def polls() -> list[int]:
        run = execution.current()
        said = []
        for n in range(3):
            said.append(poll())
            run.state["n"] = n
            run.checkpoint()
        return said

    assert ended(kit.start(polls)).result == [1, 1, 1]
    assert acts == {"poll": 1}


@pytest.mark.parametrize("kind", ["calls", "submits"])
def test_a_loop_of_tries_is_one_call(kit: TestKit, kind: str) -> None:
    @step
    def draw() -> int:
        act("draw")
        if acts["draw"] < 3:
            raise ConnectionError
        return acts["draw"]

    @flow
    @execution(max_retries=1)
    def tries() -> int:
        drawn = None
        while drawn is None:
            with suppress(ConnectionError):
                drawn = draw() if kind == "calls" else draw.submit().result()
        if execution.current().attempt == 1:
            raise RuntimeError
        return drawn

    assert ended(kit.start(tries)).result == 3
    assert acts == {"draw": 3}


def test_the_order_in_which_results_come_does_not_matter(kit: TestKit) -> None:
    @step
    def read(n: int) -> int:
        return n

    @step
    def charge(n: int) -> int:
        act(f"charge {n}")
        return n

    @flow
    @execution(max_retries=1)
    def charges() -> int:
        futures = [read.submit(n) for n in range(8)]
        if execution.current().attempt > 1:
            futures.reverse()
        total = sum(charge(future.result()) for future in futures)
        if execution.current().attempt == 1:
            raise RuntimeError
        return total

    assert ended(kit.start(charges)).result == 28
    assert acts == {f"charge {n}": 1 for n in range(8)}


def test_unknown_repeats_are_refused_when_the_step_is_made() -> None:
    with pytest.raises(ValueError, match="repeats: 'always'"):
        step(repeats="always")(plain.fn)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="one key"):
        step(key="a", repeats="reuse")(plain.fn)
