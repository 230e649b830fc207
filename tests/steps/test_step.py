"""Steps: what they have done comes back, whatever has died since; on a real Prefect server."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from prefect import Task, allow_failure, flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict

from memory import Count
from prefect_executions import Run, execution, step
from prefect_executions.errors import (
    AnswerError,
    ExecutionConflict,
    InputError,
    ReplayMismatch,
    StateError,
    StoreUnavailable,
)
from prefect_executions.local import Stack
from prefect_executions.log.journal import Outcome, Record, decode
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.testkit import Crash, TestKit, Trial, testing
from stores import Counting, Fault, Faulty

acts: Counter[str] = Counter()  # what the world outside has seen
made: list[str] = []  # the same, in its order


def act(what: str) -> str:
    acts[what] += 1
    made.append(what)
    return what.upper()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    acts.clear()
    made.clear()


@pytest.fixture
def quick(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do without what Prefect takes its time for at each attempt.

    It takes leave of what tells it of pauses, and waits two seconds when SQLite is busy.
    """
    monkeypatch.setattr("prefect.flow_engine.observe_flow_run_suspension", lambda *_: nullcontext())
    monkeypatch.setattr("prefect.client.base.clamped_poisson_interval", lambda *_: 0.05)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture
def kit(quick: None) -> Iterator[TestKit]:
    with testing() as kit:
        yield kit


@pytest.fixture
def faulty() -> Faulty:
    return Faulty(Counting(MemoryObjects()))


@pytest.fixture
def faulty_kit(quick: None, faulty: Faulty) -> Iterator[TestKit]:
    with testing(faulty) as kit:
        yield kit


def journal(kit: TestKit, trial: Trial) -> list[Record]:
    return list(decode(kit.executions.log(trial.id).head().journal).values())


def done(kit: TestKit, trial: Trial) -> list[Record]:
    return [record for record in journal(kit, trial) if record.outcome is Outcome.DONE]


def ended(trial: Trial, status: str = "completed") -> Trial:
    assert trial.status == status, repr(trial.error)
    return trial


def twice(kit: TestKit, body: Callable[[], Any], **config: Any) -> tuple[Any, Any]:
    """What a flow comes to in its first attempt, and in a second one that repeats it."""
    seen = []

    @flow
    @execution(max_retries=1, **config)
    def repeats() -> None:
        seen.append(body())
        if execution.current().attempt == 1:
            raise RuntimeError("once more")

    ended(kit.start(repeats))
    first, second = seen
    return first, second


def once(kit: TestKit, body: Callable[[], Any], **config: Any) -> Trial:
    """A flow with this body."""

    @flow
    @execution(**config)
    def runs() -> Any:
        return body()

    return kit.start(runs)


# ---------------------------------------------------------------------- wherever it crashes


@step
def plain(n: int) -> str:
    return act(f"plain {n}")


@step
async def later(n: int) -> str:
    return act(f"later {n}")


@step
def join(parts: list[str], end: str = "") -> str:
    return act("join " + " ".join(parts) + end)


@step
def outer(n: int) -> str:
    return plain(n) + plain(n + 1) + act(f"outer {n}")


@step
async def outer_later(n: int) -> str:
    return "".join(await asyncio.gather(later(n), later(n + 1))) + act(f"outer {n}")


@step
def fails(n: int) -> str:
    raise RuntimeError(f"no luck with {n}")


@step(retries=1)
def stumbles(n: int) -> str:
    """Fail in the first try of each attempt, with something done."""
    text = plain(n) + plain(n + 1)
    run = execution.current()
    if (run.id, run.attempt) not in stumbled:
        stumbled.add((run.id, run.attempt))
        raise RuntimeError("stumbled")
    return text + act(f"stumbles {n}")


stumbled: set[tuple[str, int]] = set()


@step(key="order-{order}")
def charge(order: int, at: str = "") -> str:
    return act(f"charge {order}")


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
    """Which inputs the second attempt comes with is of no interest."""
    return [charge(1), plain(1), charge.submit(2).result(), charge(1)]


SEQUENTIAL = [loop, nesting, with_subflow, skipping, falling_back, stumbling, with_keys]
AT_ONCE = [gathering, submitting, mapping, nesting_later, with_tasks]


def name_of(flow: Flow[..., Any]) -> str:
    return flow.name


known: dict[str, tuple[Any, Counter[str], int]] = {}


def undisturbed(kit: TestKit, flow: Flow[..., Any]) -> tuple[Any, Counter[str], int]:
    """What a flow comes to and does, and how many calls it records, when nothing happens."""
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
    """However often: here at each record, one after the other."""
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


@pytest.mark.parametrize("flow", [*SEQUENTIAL, *AT_ONCE], ids=name_of)
def test_only_what_was_not_recorded_is_done_again(kit: TestKit, flow: Flow[..., Any]) -> None:
    """The process dies before a record, when the effect has happened; before each of them."""
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
    """As an agent asks a model again and again; each answer is another."""
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
def test_a_loop_that_skips_rounds_does_not_get_their_answers(kit: TestKit, kind: str) -> None:
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

    with kit.crash_before(7):  # the second round is done, and not saved
        trial = kit.start(thinks if kind == "sync" else thinks_later)
    assert trial.state == {"n": 1}
    trial.resume()

    assert ended(trial).result == [1, 2]


def test_equal_calls_that_run_at_once_and_what_follows_of_them_stay_together(
    kit: TestKit,
) -> None:
    """The calls of `use` are told apart by which call of `draw` they are given."""
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

    with kit.crash_before(5):  # the attempt, two lots, the use of the second
        trial = kit.start(draws)
    assert isinstance(trial.error, Crash)
    assert [record.step for record in done(kit, trial)] == ["draw", "draw", "use"]

    trial.resume()

    assert ended(trial).result == [0, 1]
    assert acts == {"use 0": 2, "use 1": 1}


# ---------------------------------------------------------------------- results


class Item(BaseModel):
    name: str
    price: float = 1.5


@dataclass
class Point:
    x: int
    at: datetime


WHEN = datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_results_come_back_with_their_type(kit: TestKit) -> None:
    def no_annotation() -> Any:
        return {"a": [1, 2.5, None, "é"]}

    def a_model() -> Item:
        return Item(name="bee")

    def a_dataclass() -> Point:
        return Point(1, WHEN)

    def nothing() -> None:
        act("nothing")

    def perhaps(name: str | None = None) -> Item | None:
        return Item(name=name) if name else None

    def a_list() -> list[Item]:
        return [Item(name="a"), Item(name="b", price=2.0)]

    def a_set_of_pairs() -> set[tuple[int, str]]:
        return {(1, "a"), (2, "b")}

    async def a_model_later() -> Item:
        return Item(name="later")

    del no_annotation.__annotations__["return"]
    steps = [
        step(fn) for fn in (no_annotation, a_model, a_dataclass, nothing, a_list, a_set_of_pairs)
    ]
    optional, later = step(perhaps), step(a_model_later)

    def body() -> list[Any]:
        direct = [each() for each in steps]  # type: ignore[operator]
        futures = [each.submit() for each in steps]  # type: ignore[attr-defined]
        return [
            *direct,
            *(future.result() for future in futures),
            optional(),
            optional("one"),
            asyncio.run(later()),
            later.submit().result(),
        ]

    first, second = twice(kit, body)

    assert first == second
    assert list(map(type, first)) == list(map(type, second))
    assert first[3:5] == [None, [Item(name="a"), Item(name="b", price=2.0)]]
    assert acts["nothing"] == 2  # direct and submitted, in one attempt


def test_annotations_may_be_strings(kit: TestKit) -> None:
    namespace: dict[str, Any] = {"Item": Item}
    exec(
        "from __future__ import annotations\n"
        "def listed(n: int) -> list[Item]:\n"
        "    return [Item(name=str(n))]\n",
        namespace,
    )
    listed = step(namespace["listed"])

    first, second = twice(kit, lambda: listed(1))

    assert second == first == [Item(name="1")]


@pytest.mark.parametrize(
    ("annotation", "result", "path"),
    [
        (Any, {"key": {1, 2}}, "the result of refused.key: "),
        (dict[str, Any], {"key": (1, 2)}, "the result of refused.key: "),
        (Item, {"name": "x"}, "the result of refused: "),
        (list[Item], [Item(name="x", price=float("nan"))], "the result of refused"),
        (Any, object(), "the result of refused: "),
    ],
)
def test_a_result_that_can_not_be_kept_is_refused_once(
    kit: TestKit, annotation: Any, result: Any, path: str
) -> None:
    def fn() -> Any:
        act("refused")
        return result

    fn.__annotations__["return"] = annotation
    refused = step(fn, name="refused")  # type: ignore[call-overload]

    trial = once(kit, refused, max_retries=3)

    assert isinstance(trial.error, StateError)
    assert str(trial.error).startswith(path)
    assert acts == {"refused": 1}
    assert ended(trial, "failed").get().prefect.attempt == 1


def test_a_step_whose_result_no_type_can_keep_names_itself_before_it_does_anything(
    kit: TestKit,
) -> None:
    class Odd:
        pass

    @step
    def odd() -> Odd:
        act("odd")
        return Odd()

    @step
    def unknown() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        act("unknown")

    trial = once(kit, odd)
    assert isinstance(trial.error, TypeError)
    assert "the result of odd can't be recorded" in str(trial.error)
    assert "`@task`" in str(trial.error)

    trial = once(kit, lambda: unknown.submit().result())
    assert isinstance(trial.error, TypeError)
    assert "unknown returns" in str(trial.error)
    assert not acts


def test_a_result_that_has_another_type_now_is_a_mismatch(kit: TestKit) -> None:
    def old() -> dict[str, str]:
        return {"name": "bee"}

    def new() -> int:
        return 1

    def body() -> Any:
        return step(name="made")(old if execution.current().attempt == 1 else new)()  # type: ignore[arg-type]

    trial = once(kit, lambda: [body(), fails(1)])
    trial.resume()

    assert isinstance(trial.error, ReplayMismatch)
    assert str(trial.error).startswith("The step 'made' can't be replayed: the result of made: ")
    assert "another name" in str(trial.error)


def test_a_large_result_costs_one_put_and_makes_nothing_else_larger(quick: None) -> None:
    counting = Counting(MemoryObjects())
    size = 2 << 20

    @step
    def large() -> str:
        act("large")
        return "".join(map(chr, (33 + n * 7 % 90 for n in range(size))))[::-1]

    @flow
    @execution(state=Count)
    def keeps() -> int:
        run = execution.current(Count)
        counting.forget()
        text = large()
        written = list(counting.created)
        for n in range(3):
            run.state.n = run.attempt * 10 + n
            run.checkpoint()
        puts.append((written, counting.created[len(written) :]))
        if run.attempt == 1:
            raise RuntimeError
        return len(text)

    puts: list[tuple[list[int], list[int]]] = []
    with testing(counting) as kit:
        trial = kit.start(keeps)
        counting.forget()
        kit.executions.log(trial.id).head()
        loaded = sum(counting.received)
        trial.resume()
        assert ended(trial).result == size

    assert acts == {"large": 1}
    (written, checkpoints), (replayed, _) = puts
    assert len(written) == 1
    assert max(checkpoints) < 2_000
    assert replayed == []
    assert loaded < 10_000


# ---------------------------------------------------------------------- the store


def test_a_step_costs_one_put_and_its_replay_none(quick: None) -> None:
    counting = Counting(MemoryObjects())
    puts = []

    def body() -> None:
        counting.forget()
        for n in range(5):
            plain(n)
        asyncio.run(later(1))
        puts.append(len(counting.created))

    with testing(counting) as kit:
        twice(kit, body)

    assert puts == [6, 0]


@dataclass
class Slow:
    """A store that writes what steps have recorded only when it is told."""

    inner: Objects
    go_on: threading.Event

    def create(self, key: str, data: bytes) -> None:
        if b'"kind":"steps"' in data:
            assert self.go_on.wait(20)
        self.inner.create(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_steps_that_end_together_share_an_entry(quick: None) -> None:
    counting, go_on = Counting(MemoryObjects()), threading.Event()
    all_here = threading.Barrier(8)

    @step
    def meets(n: int) -> int:
        all_here.wait(20)
        return n

    @flow
    @execution
    def fans_out() -> list[int]:
        counting.forget()
        futures = meets.map(range(8))
        writer = execution.current()._writer
        until = monotonic() + 20
        while len(writer._waiting) < 8 and monotonic() < until:
            sleep(0.01)
        go_on.set()
        return futures.result()

    with testing(Slow(counting, go_on)) as kit:
        trial = kit.start(fans_out)
        assert ended(trial).result == list(range(8))

    assert len(counting.created) <= 2  # the one that was being written, and the rest
    assert len(done(kit, trial)) == 8


@pytest.mark.parametrize("kind", ["plain", "keyed", "async", "submitted"])
def test_a_record_that_failed_is_tried_again_without_the_function(
    faulty_kit: TestKit, faulty: Faulty, kind: str
) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain.with_options(retries=1)(1),
        "keyed": lambda: charge.with_options(retries=1)(1),
        "async": lambda: asyncio.run(later.with_options(retries=1)(1)),
        "submitted": lambda: plain.with_options(retries=1).submit(1).result(),
    }

    def body() -> int:
        faulty.faults = [Fault.LOST]
        calls[kind]()
        return len(decode(execution.current()._writer.head.journal))

    trial = once(faulty_kit, body)

    assert ended(trial).result == 1  # it is durable when the call returns
    assert acts.total() == 1


def test_a_keyed_call_is_durable_when_it_returns_though_an_earlier_one_was_not(
    faulty_kit: TestKit, faulty: Faulty
) -> None:
    def body() -> int:
        faulty.faults = [Fault.LOST]
        with pytest.raises(StoreUnavailable):
            charge(1)
        charge(1)
        return len(decode(execution.current()._writer.head.journal))

    trial = once(faulty_kit, body)

    assert ended(trial).result == 1
    assert acts == {"charge 1": 1}


def test_a_record_that_was_written_twice_is_undone_once_or_not_at_all(
    faulty_kit: TestKit, faulty: Faulty
) -> None:
    """A checkpoint of another thread wrote it meanwhile: it is at that checkpoint."""

    @step(retries=1, undo=lambda result: act(f"undo {result}"))
    def acts_once() -> str:
        run = execution.current()
        if not acts:
            faulty.faults = [Fault.LOST]
        return act("once") + str(run.attempt)

    record_call = None

    def body() -> None:
        run = execution.current()
        nonlocal record_call
        original = run.record_call

        def then_checkpoint(call: Any, outcome: Any, **fields: Any) -> None:
            try:
                original(call, outcome, **fields)
            except StoreUnavailable:
                run.state["n"] = run.attempt
                run.checkpoint(label="meanwhile")
                raise

        run.record_call = then_checkpoint  # type: ignore[method-assign]
        acts_once()
        run.checkpoint(label="behind")
        if run.attempt == 1:
            raise RuntimeError

    trial = once(faulty_kit, body)
    meanwhile = next(c for c in trial.get().checkpoints if c.label == "meanwhile")
    answer = trial.resume(checkpoint_id=meanwhile.id)

    ended(trial)
    assert answer.steps_behind == []
    assert acts == {"once": 1}


# ---------------------------------------------------------------------- identity


def test_an_input_that_has_no_identity_is_refused_by_its_path(kit: TestKit, tmp_path: Any) -> None:
    @step
    def reads(file: Any, n: int = 1) -> int:
        act("reads")
        return n

    with (tmp_path / "file").open("w") as file:
        for value, path in [
            (file, "reads(file)"),
            ([{"x": lambda: 1}], 'reads(file[0]["x"])'),
        ]:
            trial = once(kit, lambda value=value: reads(value), max_retries=2)  # type: ignore[misc]
            assert isinstance(trial.error, InputError)
            assert trial.error.path == path
            assert "@step(key=" in str(trial.error)
            assert trial.get().prefect.attempt == 1
        keyed = reads.with_options(key="read-{n}")
        assert not acts
        assert twice(kit, lambda: keyed(file, 2)) == (2, 2)
    assert acts == {"reads": 1}


def test_a_key_is_made_of_what_the_step_is_given(kit: TestKit) -> None:
    """Not of the future, state or annotation that stands for it, and is another in each attempt."""

    @step(key="send-{order.name}")
    def send(order: Item) -> str:
        return act(f"send {order.name}")

    @step
    def fetch(name: str) -> Item:
        return Item(name=name)

    @task
    def fetch_anew(name: str) -> Item:
        return Item(name=name)

    def body() -> list[Any]:
        return [
            send.submit(fetch.submit("a")).result(),  # type: ignore[arg-type]
            send.submit(fetch_anew.submit("b")).result(),  # type: ignore[arg-type]
            send(fetch("c", return_state=True)),  # type: ignore[arg-type]
            send(allow_failure(fetch.submit("d"))),  # type: ignore[arg-type]
            send.map([Item(name="e"), Item(name="f")]).result(),
        ]

    first, second = twice(kit, body)

    assert first == second == ["SEND A", "SEND B", "SEND C", "SEND D", ["SEND E", "SEND F"]]
    assert set(acts.values()) == {1}


def test_a_key_that_shows_an_address_is_refused(kit: TestKit) -> None:
    @step(key="x-{it}")
    def takes(it: Any) -> None:
        act("takes")

    trial = once(kit, lambda: takes(object()))

    assert isinstance(trial.error, InputError)
    assert "takes(key): a value of type object shows where it is in memory" in str(trial.error)
    assert not acts


def test_a_key_names_inputs_that_there_are() -> None:
    for key in ("x-{name}", "x-{}", "x-{n"):
        with pytest.raises(ValueError, match="the key"):

            @step(key=key)
            def acts_on(n: int) -> None: ...


def test_mismatches_name_the_step_and_are_not_tried_again(kit: TestKit) -> None:
    other = step(name="other", key="order-{order}")(charge.fn)
    at_once = threading.Barrier(2)

    @step(key="one")
    def meets() -> None:
        at_once.wait(2)

    def other_inputs() -> None:
        charge(1, at="noon")
        charge(1, at="midnight")

    def another_step() -> None:
        charge(1)
        other(1)

    def twice_at_once() -> None:
        for future in [meets.submit(), meets.submit()]:
            future.result()

    for body, name, problem in [
        (other_inputs, "charge", "other inputs"),
        (another_step, "other", "that of a recorded call of 'charge'"),
        (twice_at_once, "meets", "twice at once"),
    ]:
        acts.clear()
        at_once.reset()
        trial = once(kit, body, max_retries=2)
        if body is twice_at_once:
            assert type(trial.error).__name__ in ("ReplayMismatch", "BrokenBarrierError")
            continue
        assert isinstance(trial.error, ReplayMismatch)
        assert trial.error.step == name
        assert problem in str(trial.error)
        assert trial.get().prefect.attempt == 1
        assert acts == {"charge 1": 1}


def test_a_key_twice_at_once_is_a_mismatch(kit: TestKit) -> None:
    release = threading.Event()
    begun = threading.Event()

    @step(key="one")
    def held() -> None:
        begun.set()
        assert release.wait(20)

    def body() -> str:
        first = held.submit()
        assert begun.wait(20)
        with pytest.raises(ReplayMismatch, match="'held' can't be replayed: it is called twice"):
            held()
        release.set()
        first.result()
        held()  # one after the other is no mistake
        return "fine"

    assert ended(once(kit, body)).result == "fine"


# ---------------------------------------------------------------------- as Prefect's tasks


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


def test_options_can_be_changed_and_the_rest_stays(kit: TestKit) -> None:
    undone = []
    tries = Counter[int]()

    def undo(result: str) -> None:
        undone.append(result)

    @step(key="k-{n}", undo=undo, tags=["old"], retry_delay_seconds=0)
    def original(n: int) -> str:
        tries[n] += 1
        if tries[n] < 3:
            raise RuntimeError
        return f"{n}"

    changed = original.with_options(name="changed", retries=2, tags=["new"])

    assert (original.name, original.retries, original.tags) == ("original", 0, {"old"})
    assert (changed.name, changed.retries, changed.tags) == ("changed", 2, {"new"})
    assert (changed.key, changed.undo) == ("k-{n}", undo)
    assert changed.with_options(timeout_seconds=3).timeout_seconds == 3.0
    assert original.with_options(undo=None).undo is None
    original.with_options()  # and takes its name back
    trial = once(kit, lambda: [changed(1), fails(1)])
    assert [(r.step, r.undo) for r in done(kit, trial)] == [("changed", True)]
    trial.resume(checkpoint_id="ckpt_000000")
    assert undone == ["1"]
    assert tries == {1: 4}


class Office:
    @step
    @staticmethod
    def write(n: int) -> str:
        return act(f"write {n}")

    @step
    @classmethod
    def count(cls, n: int) -> str:
        return act(f"{cls.__name__} counts {n}")


def test_a_step_can_be_a_method(kit: TestKit) -> None:
    class Shop(BaseModel):
        model_config = ConfigDict(ignored_types=(Task,))
        name: str

        @step
        def sell(self, n: int) -> str:
            return act(f"{self.name} sells {n}")

        @step(key="{self.name}-{n}")
        def order(self, n: int) -> str:
            return act(f"{self.name} orders {n}")

        @step
        async def close(self) -> str:
            return act(f"{self.name} closes")

    @dataclass
    class Till:
        n: int

        @step
        def add(self, n: int) -> str:
            return act(f"{self.n} + {n}")

    def body() -> list[Any]:
        a, b = Shop(name="a"), Shop(name="b")
        sell = a.sell
        return [
            b.sell(1),
            sell(1),  # bound before the other was asked
            a.sell.submit(2).result(),
            Till(3).add.map([3, 4]).result(),
            a.order(1),
            a.order.with_options(retries=1)(2),
            asyncio.run(b.close()),
        ]

    first, second = twice(kit, body)

    assert first == second
    assert first[:2] == ["B SELLS 1", "A SELLS 1"]
    assert set(acts.values()) == {1}
    acts.clear()

    first, second = twice(kit, lambda: [Office.write(1), Office().write(2), Office.count(3)])
    assert first == second == ["WRITE 1", "WRITE 2", "OFFICE COUNTS 3"]
    assert set(acts.values()) == {1}


def test_outside_an_execution_a_step_is_an_ordinary_task(quick: None) -> None:
    @step(key="{n}", undo=print)
    def any_result(n: int) -> Any:
        act(f"{n}")
        return {n, n + 1}  # which nobody records

    @flow
    def ordinary_flow() -> list[Any]:
        return [any_result(1), any_result.submit(1).result(), *any_result.map([1, 2]).result()]

    assert ordinary_flow() == [{1, 2}, {1, 2}, {1, 2}, {2, 3}]
    assert any_result(1) == {1, 2}
    assert acts == {"1": 4, "2": 1}


def test_what_other_processes_do_is_recorded_here(kit: TestKit, tmp_path: Path) -> None:
    """Each effect is a line in a file: the processes share nothing else with the test."""
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


def test_of_several_steps_of_one_name_the_right_one_is_undone(kit: TestKit) -> None:
    def right() -> Any:
        @step(name="ambiguous", undo=lambda _: act("right"))
        def mine() -> int:
            return 1

        return mine

    def wrong() -> Any:
        @step(name="ambiguous", undo=lambda _: act("wrong"))
        def other() -> int:
            return 1

        return other

    called = [right(), wrong()]

    @flow
    @execution
    def one_of_them() -> None:
        called[0]()
        if execution.current().attempt == 1:
            execution.current().pause("A look")

    trial = kit.start(one_of_them)
    trial.resume(checkpoint_id="ckpt_000000")
    ended(trial)
    assert acts == {"right": 1}


def test_two_functions_of_one_name_are_refused(kit: TestKit) -> None:
    def named(text: str) -> Any:
        if text == "a":

            @step(name="same", undo=print)
            def first() -> str:
                return "first"

            return first

        @step(name="same", undo=print)
        def second() -> str:
            return "second"

        return second

    @flow
    @execution
    def mixed() -> None:
        named("a")()
        named("a")()
        named("b")()

    assert isinstance(kit.start(mixed).error, ReplayMismatch)


def test_few_threads_are_enough(kit: TestKit) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    @execution
    def narrow() -> list[str]:
        found = plain.map([1, 2])
        return join.map(found).result()  # type: ignore[arg-type]

    assert len(ended(kit.start(narrow)).result) == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_step_that_runs_out_of_time_keeps_its_place(kit: TestKit, kind: str) -> None:
    """What was recorded behind it comes back, though it succeeds in the next attempt."""

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
    """What it waited for had failed; in the next attempt that does not."""

    @step
    def flaky() -> None:
        if execution.current().attempt == 1:
            raise RuntimeError

    def body() -> None:
        before = flaky.submit()
        before.wait()
        plain(1, wait_for=[before])  # to Prefect that is no failure
        plain(2)

    twice(kit, body)

    assert made == ["plain 2", "plain 1"]


def test_what_can_not_be_a_step_says_why() -> None:
    def generates() -> Any:
        yield 1

    with pytest.raises(TypeError, match="take `@task` away"):
        step(task(lambda: None))
    with pytest.raises(TypeError, match="'generates' is a generator"):
        step(generates)
    with pytest.raises(ValueError, match="so Prefect can't cache it too"):
        step(persist_result=True)(act)


# ---------------------------------------------------------------------- undoing


@step(undo=lambda result: act(f"undo {result}"))
def undoable(n: int) -> str:
    return act(f"do {n}")


@flow
@execution(state=Count)
def undoing() -> None:
    """In the first attempt, and the first after each roll-back, it fails at the end."""
    run = execution.current(Count)
    undoable(1)
    plain(1)
    run.state.n = 1
    run.checkpoint(label="middle")
    undoable(2)
    undoable(3)
    run.state.n = 2
    run.checkpoint(label="late")
    if run.attempt < 3:
        raise RuntimeError


def labelled(trial: Trial, label: str) -> str:
    return next(c.id for c in trial.get().checkpoints if c.label == label)


def test_a_roll_back_undoes_what_lies_behind_it_newest_first_and_once(kit: TestKit) -> None:
    trial = kit.start(undoing)
    assert made == ["do 1", "plain 1", "do 2", "do 3"]
    made.clear()

    answer = trial.resume(checkpoint_id=labelled(trial, "middle"))

    assert [(s.step, s.undo) for s in answer.steps_behind] == [("undoable", True)] * 2
    assert made == ["undo DO 3", "undo DO 2", "do 2", "do 3"]
    made.clear()
    again = trial.resume(checkpoint_id="ckpt_000000")
    assert [s.step for s in again.steps_behind] == ["undoable", "undoable", "plain", "undoable"]
    assert made == ["undo DO 3", "undo DO 2", "undo DO 1", "do 1", "plain 1", "do 2", "do 3"]
    ended(trial)


def test_the_log_warns_of_what_lies_behind(kit: TestKit, caplog: pytest.LogCaptureFixture) -> None:
    trial = kit.start(undoing)
    with caplog.at_level("WARNING", "prefect_executions.executions.executions"):
        trial.resume(checkpoint_id="ckpt_000000")

    said = [record.getMessage() for record in caplog.records]
    [warned] = [message for message in said if " goes back" in message]
    assert warned == (
        f"{trial.id} goes back. Behind ckpt_000000 lie steps whose effects have happened: "
        "undoable (will be undone), undoable (will be undone), plain, undoable (will be undone)"
    )


def test_what_was_undone_before_a_crash_is_not_undone_again(kit: TestKit) -> None:
    trial = kit.start(undoing)
    made.clear()

    with kit.crash_before(3):  # the attempt, the first that is undone
        trial.resume(checkpoint_id="ckpt_000000")
    assert made == ["undo DO 3", "undo DO 2"]
    trial.resume()

    assert made[2:5] == ["undo DO 2", "undo DO 1", "do 1"]


def test_rolled_forward_again_what_was_undone_is_done_again(kit: TestKit) -> None:
    trial = kit.start(undoing)
    late = labelled(trial, "late")
    with kit.crash_after(2):  # the attempt, the newest is undone
        trial.resume(checkpoint_id="ckpt_000000")
    assert made[4:] == ["undo DO 3"]

    trial.resume(checkpoint_id=late)

    assert made[5:] == ["do 3"]  # the others were not undone yet
    ended(trial)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_can_be_called_can_undo(kit: TestKit, kind: str) -> None:
    @step
    def refund(result: str) -> None:
        act(f"step {result}")

    @step
    async def refund_later(result: str) -> None:
        act(f"async step {result}")

    async def forget(result: str) -> None:
        act(f"async {result}")

    class Forgets:
        async def __call__(self, result: str) -> None:
            act(f"object {result}")

    def fn(n: int) -> str:
        return f"{n}"

    undos: list[Callable[[Any], Any]] = [
        refund,
        refund_later,
        forget,
        lambda result: forget(f"lambda {result}"),
        lambda result: refund.submit(f"submitted {result}"),
        lambda result: refund.map([f"mapped {result}"]),
        Forgets(),
        lambda result: refund_later(f"lambda {result}"),
    ]
    steps: Any = [step(fn, name=f"with undo {n}", undo=undo) for n, undo in enumerate(undos)]  # type: ignore[call-overload]

    @flow
    @execution
    def sync_flow() -> None:
        for n, each in enumerate(steps):
            each(n)
        if execution.current().attempt == 1:
            raise RuntimeError

    @flow
    @execution
    async def async_flow() -> None:
        for n, each in enumerate(steps):
            each(n)
        if execution.current().attempt == 1:
            raise RuntimeError

    trial = kit.start(sync_flow if kind == "sync" else async_flow)
    trial.resume(checkpoint_id="ckpt_000000")

    ended(trial)
    assert made == [
        *("async step lambda 7", "object 6", "step mapped 5", "step submitted 4"),
        *("async lambda 3", "async 2", "async step 1", "step 0"),
    ]


def test_an_undo_that_fails_is_tried_again(kit: TestKit) -> None:
    broken = [True]

    @step
    def refund(result: str) -> None:
        if broken and result == "1":
            broken.pop()
            raise RuntimeError("no refund")
        act(f"refund {result}")

    @step(undo=lambda result: refund.submit(result))
    def buy(n: int) -> str:
        return f"{n}"

    trial = once(kit, lambda: [buy(1), buy(2), execution.current().attempt == 1 and fails(1)])
    trial.resume(checkpoint_id="ckpt_000000")
    assert "no refund" in str(trial.error)
    trial.resume()

    ended(trial)
    assert made == ["refund 2", "refund 1"]


def test_what_an_undo_calls_has_nothing_to_do_with_what_the_flow_calls(kit: TestKit) -> None:
    """Here the undoing of a call, and the call itself when it is made again, call the same."""

    @step
    def log(text: str) -> str:
        return act(text)

    @step(undo=lambda _: log("same"))
    def buy(n: int) -> str:
        return log("same")

    def body() -> None:
        run = execution.current()
        log("first")
        run.state["n"] = 1
        run.checkpoint(label="start")
        for n in range(3):
            log(f"{n}")
        futures = [buy.submit(n) for n in range(2)]
        for future in futures:
            future.result()
        if run.attempt < 3:
            raise RuntimeError

    trial = once(kit, body)
    assert acts == {"first": 1, "0": 1, "1": 1, "2": 1, "same": 2}
    acts.clear()
    trial.resume(checkpoint_id=labelled(trial, "start"))
    assert acts == {"0": 1, "1": 1, "2": 1, "same": 4}
    acts.clear()
    trial.resume()
    ended(trial)
    assert not acts


def test_what_can_not_be_undone_any_more_is_a_mismatch(kit: TestKit) -> None:
    name = "renamed since"
    gone: Any = step(lambda: None, name=name, undo=print)  # type: ignore[call-overload]

    trial = once(kit, lambda: [gone(), fails(1)], max_retries=0)
    gone.with_options(undo=None)
    trial.resume(checkpoint_id="ckpt_000000")

    assert isinstance(trial.error, ReplayMismatch)
    assert trial.error.step == name
    assert "undo=lambda result: None" in str(trial.error)


# ---------------------------------------------------------------------- ambiguous calls


def test_equal_calls_around_a_checkpoint_are_warned_of_once(
    kit: TestKit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @step
    def poll() -> int:
        return 1

    @step(key="poll")
    def keyed() -> int:
        return 1

    def body() -> None:
        run = execution.current()
        for n in range(3):
            poll()
            keyed()
            plain(n)
            run.state["n"] = n
            run.checkpoint()

    warned = []

    def warn(text: str, *args: Any) -> None:
        warned.append(text % args)

    original = execution.current

    def watched() -> None:
        run = original()
        monkeypatch.setattr(run._logger, "warning", warn)
        body()

    ended(once(kit, watched))

    assert len(warned) == 1
    assert "'poll' is called again with the same inputs after a checkpoint" in warned[0]


# ---------------------------------------------------------------------- leaving


@pytest.mark.parametrize("where", ["flow", "thread", "subflow"])
def test_a_pause_lets_what_runs_end_and_nothing_new_begin(kit: TestKit, where: str) -> None:
    ready, release = threading.Barrier(3), threading.Event()

    @step
    def slow(n: int) -> str:
        text = act(f"slow {n}")
        if execution.current().attempt == 1:
            ready.wait(20)
            assert release.wait(20)
        return text + plain(n)

    @step
    def saves() -> str:
        try:
            execution.current().checkpoint(label="here")
        finally:
            release.set()
        return "saved"

    @flow
    def sub() -> None:
        saves()

    @flow
    @execution
    def pauses() -> list[str]:
        run = execution.current()
        futures: list[PrefectFuture[str]] = [slow.submit(n) for n in (1, 2)]
        if run.attempt == 1:
            ready.wait(20)
            run.state["n"] = 1
            if where == "flow":
                try:
                    run.checkpoint(label="here")
                finally:
                    release.set()
            elif where == "subflow":
                sub()
            else:
                saves.submit().wait()
        return [future.result() for future in futures]

    with kit.pause_at("here"):
        trial = kit.start(pauses)
    assert ended(trial, "paused").state == {"n": 1}
    assert acts == {"slow 1": 1, "slow 2": 1}

    trial.resume()

    assert ended(trial).result == ["SLOW 1PLAIN 1", "SLOW 2PLAIN 2"]
    assert acts == {"slow 1": 2, "slow 2": 2, "plain 1": 1, "plain 2": 1}


def test_what_ran_as_the_run_was_paused_is_recorded(kit: TestKit) -> None:
    ready, release = threading.Barrier(3), threading.Event()

    @step
    def slow(n: int) -> str:
        if execution.current().attempt == 1:
            ready.wait(20)
            assert release.wait(20)
        return act(f"slow {n}")

    @flow
    @execution
    def pauses() -> list[str]:
        run = execution.current()
        futures = [slow.submit(n) for n in (1, 2)]
        if run.attempt == 1:
            ready.wait(20)
            try:
                run.checkpoint(label="here")
            finally:
                release.set()
        return [future.result() for future in futures]

    with kit.pause_at("here"):
        trial = kit.start(pauses)
    ended(trial, "paused")
    trial.resume()

    assert ended(trial).result == ["SLOW 1", "SLOW 2"]
    assert acts == {"slow 1": 1, "slow 2": 1}


class Approval(BaseModel):
    yes: bool


@pytest.mark.parametrize("kind", ["direct", "submitted", "async"])
def test_a_step_can_ask_pause_and_save(kit: TestKit, kind: str) -> None:
    @step
    def approve() -> bool:
        run = execution.current()
        plain(1)
        run.state["asks"] = True
        run.checkpoint()
        answer = run.ask(Approval, prompt="Shall we?")
        run.pause("Have a look")
        return answer.yes

    @step
    async def approve_later() -> bool:
        run = execution.current()
        await later(1)
        run.state["asks"] = True
        await run.acheckpoint()
        answer = await run.aask(Approval, prompt="Shall we?")
        await run.apause("Have a look")
        return answer.yes

    @flow
    @execution
    def asks() -> list[Any]:
        said = approve() if kind == "direct" else approve.submit().result()
        return [said, plain(2)]

    @flow
    @execution
    async def asks_later() -> list[Any]:
        return [await approve_later(), plain(2)]

    trial = kit.start(asks_later if kind == "async" else asks)
    assert ended(trial, "paused").state == {"asks": True}
    trial.resume(input={"yes": True})
    ended(trial, "paused")
    trial.resume()

    assert ended(trial).result == [True, "PLAIN 2"]
    assert list(acts.values()) == [1, 1]


# ---------------------------------------------------------------------- asking


def test_an_answer_that_does_not_fit_changes_nothing(kit: TestKit) -> None:
    @flow
    @execution
    def asks() -> list[bool]:
        run = execution.current()
        said = []
        for n in range(2):
            plain(n)
            said.append(run.ask(Approval, prompt="The same question").yes)
        return said

    trial = kit.start(asks)
    before = ended(trial, "paused").get()
    for wrong in ({"yes": "perhaps"}, {}, None):
        with pytest.raises(AnswerError):
            trial.resume(input=wrong)
    after = trial.get()
    assert (after.prefect, after.checkpoints) == (before.prefect, before.checkpoints)

    trial.resume(input={"yes": False})
    ended(trial, "paused")
    assert acts == {"plain 0": 1, "plain 1": 1}
    trial.resume(input={"yes": True})

    assert ended(trial).result == [False, True]
    assert acts == {"plain 0": 1, "plain 1": 1}
    with pytest.raises(ExecutionConflict):
        trial.resume()


# ---------------------------------------------------------------------- durability


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_what_is_written_late_may_be_done_again_but_keeps_its_order(
    quick: None, durability: Any
) -> None:
    counting = Counting(MemoryObjects())

    @step
    def think() -> int:
        act("think")
        return acts["think"]

    @flow
    @execution(durability=durability)
    def thinks() -> list[int]:
        run = execution.current()
        found = [think() for _ in range(3)]
        if run.attempt == 1:
            until = monotonic() + 20
            while durability == "async" and not run._writer.is_idle and monotonic() < until:
                sleep(0.01)
            kit.crash()
        found += [think() for _ in range(2)]
        run.pause("A look")
        return [*found, think()]

    with testing(counting) as kit:
        trial = kit.start(thinks)
        kept = len(done(kit, trial))
        trial.resume()
        ended(trial, "paused")
        before = acts["think"]
        assert len(done(kit, trial)) == 5  # at a pause all is durable
        trial.resume()
        ended(trial)

    assert kept == (3 if durability == "async" else 0)
    expected = [1, 2, 3, 4, 5] if durability == "async" else [4, 5, 6, 7, 8]
    assert trial.result == [*expected, before + 1]
    assert acts["think"] == before + 1
    assert len(done(kit, trial)) == 7  # the pause, too


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_failure_leaves_all_that_was_done_durable(kit: TestKit, durability: Any) -> None:
    def body() -> str:
        text = plain(1) + plain.submit(2).result()
        if execution.current().attempt == 1:
            raise RuntimeError
        return text

    trial = once(kit, body, durability=durability)
    trial.resume()

    assert ended(trial).result == "PLAIN 1PLAIN 2"
    assert acts == {"plain 1": 1, "plain 2": 1}


# ---------------------------------------------------------------------- the test kit


def test_a_process_that_dies_as_it_begins_may_be_resumed(kit: TestKit) -> None:
    for crash in (kit.crash_before, kit.crash_after):
        acts.clear()
        with crash(1):
            trial = kit.start(loop)
        assert isinstance(trial.error, Crash)
        assert (ended(trial, "failed").result, dict(acts)) == (None, {})
        assert "failed, " in repr(trial)
        trial.resume()
        assert len(ended(trial).result) == 3


def test_a_dead_process_writes_no_more_while_the_next_one_runs(kit: TestKit) -> None:
    """A thread of it that goes on, that is."""
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


# ---------------------------------------------------------------------- futures that are left alone


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_flow_returns_is_recorded_before_the_flow_ends(kit: TestKit, kind: str) -> None:
    @step
    def outer(n: int) -> str:
        sleep(0.1)  # the flow has returned by now
        return plain(n)

    @flow
    @execution(durability="exit")
    def returns() -> Any:
        return [outer.submit(n) for n in range(2)]

    @flow
    @execution(durability="exit")
    async def returns_later() -> Any:
        return [outer.submit(n) for n in range(2)]

    trial = ended(kit.start(returns if kind == "sync" else returns_later))

    assert acts == {"plain 0": 1, "plain 1": 1}
    assert len(done(kit, trial)) == 4


def test_nothing_new_begins_once_a_submitted_step_has_asked(kit: TestKit) -> None:
    class Yes(BaseModel):
        yes: bool

    @step
    def asks() -> bool:
        return execution.current().ask(Yes, prompt="?").yes

    @flow
    @execution
    def asks_beside() -> bool:
        asked = asks.submit()
        while execution.current().attempt == 1 and not asked._wrapped_future.done():  # type: ignore[attr-defined]
            sleep(0.01)
        plain(1)
        return asked.result()

    trial = kit.start(asks_beside)
    ended(trial, "paused")
    assert not acts

    with pytest.raises(AnswerError, match="is a list; give an object"):
        trial.resume(input=[1])
    trial.resume(input={"yes": True})
    assert ended(trial).result is True
    assert acts == {"plain 1": 1}
