"""Programs of steps, drawn by hypothesis: run as Prefect runs them, and killed at their writes.

A program is what a flow's function might do: a list of steps, steps in steps, transactions and
threads. Each of its calls stands for a piece of work, which the program does not see: its inputs
are those of other calls, too. Every call has to give the result of its own work.

The steps, the tasks, the transactions and the recorder are the real ones. The log is a list, so
that a program is run in milliseconds. `World` is what outlives a process: the log, and what has
happened outside.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from threading import RLock
from typing import Any, Literal

from prefect.transactions import transaction

from prefect_executions import step
from prefect_executions.log.journal import Large, Outcome, Record, decode, encode
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.replay import Replay


class Killed(BaseException):
    """The process dies."""


class Wrong(AssertionError):
    """A call got the result of other work, or recorded work was done again."""


class Failed(Exception):
    """What leaves a transaction; where the flow does not catch it, another process tries again."""


class World:
    """What outlives a process.

    Args:
        deaths: At which write each process dies, from 1: before it, if it is negative.

    Attributes:
        effects: How often each piece of work has an effect now: it was done, and not undone.
        failed: The transactions that have failed once.
        wrong: What went wrong in hooks.
    """

    def __init__(self, deaths: list[int]) -> None:
        self.records: list[Record] = []
        self.effects: Counter[str] = Counter()
        self.failed: set[str] = set()
        self.wrong: list[str] = []
        self._deaths = list(deaths)

    def next_death(self) -> int:
        return self._deaths.pop(0) if self._deaths else 0

    def recorded(self) -> Counter[str]:
        """The pieces of work that are recorded as done."""
        known = decode(encode(self.records)).values()
        return Counter(
            (record.result or b"").decode() for record in known if record.outcome is Outcome.DONE
        )

    def run(self, program: "Body") -> Any:
        """Run a program to its end, in as many processes as it takes."""
        while True:
            process = Process(self)
            try:
                found = copy_context().run(process.run, program)
            except (Killed, Failed):
                continue
            if self.wrong:
                raise Wrong(self.wrong[0])
            return found


class Process:
    """One process of a program; it keeps the journal, and dies at a write."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._lock = RLock()
        self._writes = world.next_death()
        self._is_dead = False
        replay = Replay(decode(encode(world.records)))
        self._recorder = Recorder(self, replay, self.require_open)

    def run(self, program: "Body") -> Any:
        token = _process.set(self)
        try:
            with self._recorder.entered():
                return run(program, "0")
        finally:
            _process.reset(token)

    # ------------------------------------------------------------------ the journal

    def require_open(self) -> None:
        if self._is_dead:
            raise Killed

    def record(self, take: Callable[[], list[Record]]) -> None:
        with self._lock:
            self.require_open()
            records = take()
            if not records:
                return
            if self._writes < 0:
                self._writes += 1
                self._die_at(0)
            self.world.records += records
            if self._writes > 0:
                self._writes -= 1
                self._die_at(0)

    def _die_at(self, left: int) -> None:
        if self._writes == left:
            self._is_dead = True
            raise Killed

    def flush(self) -> None:
        self.require_open()

    def large_result(self, _: Large) -> bytes:
        raise NotImplementedError

    def is_pausing(self) -> bool:
        return False

    # ------------------------------------------------------------------ what happens outside

    def act(self, work: str) -> None:
        """Do a piece of work; it must not be recorded as done."""
        with self._lock:
            self.require_open()
            if self.world.recorded()[f'"{work}"']:
                raise Wrong(f"{work} was done again")
            self.world.effects[work] += 1

    def undo(self, work: str) -> None:
        """Undo a piece of work; it must not be recorded as done any more."""
        with self._lock:
            self.require_open()
            if self.world.recorded()[f'"{work}"']:  # what a hook raises, Prefect only logs
                self.world.wrong.append(f"{work} was undone, and is recorded as done")
            self.world.effects[work] -= 1


_process: ContextVar[Process] = ContextVar("process")
_work: ContextVar[tuple[str, "Body"]] = ContextVar("work")
_lane: ContextVar[str] = ContextVar("lane", default="")
_undoes_all: ContextVar[bool] = ContextVar("undoes_all", default=False)


@step
def pay(n: int, lane: str) -> str:
    work, _ = _work.get()
    _process.get().act(work)
    return work


@step
def outer(n: int, lane: str) -> Any:
    work, body = _work.get()
    return run(body, work)


# ---------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Pay:
    """A call of a step.

    Args:
        n: Its input.
        has_hook: Whether it is undone when a transaction around it fails.
    """

    n: int
    has_hook: bool = False

    def run(self, work: str) -> Any:
        process, call = _process.get(), pay
        if self.has_hook or _undoes_all.get():
            call = pay.with_options(on_rollback=[lambda _: process.undo(work)])
        return _called(call, self.n, work, ())


@dataclass(frozen=True)
class Outer:
    """A call of a step that makes calls."""

    n: int
    body: "Body"

    def run(self, work: str) -> Any:
        found = _called(outer, self.n, work, self.body)
        if found != expected(self.body, work):
            raise Wrong(f"{work} got {found}")
        return found


@dataclass(frozen=True)
class Transaction:
    """A transaction.

    Args:
        fails: Whether it fails once, at its end: with the flow, or in a loop of tries, in which all
            that it does is undone. Such a loop is in no other transaction and no step: Prefect
            rolls back what is around a transaction that it has rolled back.
        body: What is done in it.
    """

    fails: Literal["flow", "try"] | None
    body: "Body"

    def run(self, work: str) -> Any:
        if self.fails != "try":
            return self._tried(work)
        token = _undoes_all.set(True)
        try:
            return self._tried(work)
        except Failed:
            return self._tried(work)
        finally:
            _undoes_all.reset(token)

    def _tried(self, work: str) -> Any:
        failed = _process.get().world.failed
        with transaction():
            found = run(self.body, work)
            if self.fails is not None and work not in failed:
                failed.add(work)
                raise Failed
        return found


@dataclass(frozen=True)
class Threads:
    """Threads of the flow's own, with its context; no call in one is equal to one in another."""

    bodies: "tuple[Body, ...]"

    def run(self, work: str) -> Any:
        with ThreadPoolExecutor(len(self.bodies)) as pool:
            futures = [
                pool.submit(copy_context().run, _in_lane, body, f"{work}.{n}")
                for n, body in enumerate(self.bodies)
            ]
        return [future.result() for future in futures]


Node = Pay | Outer | Transaction | Threads
Body = tuple[Node, ...]


def run(body: Body, work: str) -> list[Any]:
    return [node.run(f"{work}.{n}") for n, node in enumerate(body)]


def _in_lane(body: Body, work: str) -> list[Any]:
    _lane.set(work)
    return run(body, work)


def _called(call: Any, n: int, work: str, body: Body) -> Any:
    token = _work.set((work, body))
    try:
        found = call(n, _lane.get())
    finally:
        _work.reset(token)
    if isinstance(found, str) and found != work:
        raise Wrong(f"{work} got the result of {found}")
    return found


def expected(body: Body, work: str) -> list[Any]:
    """What a program comes to when nothing goes wrong."""
    found: list[Any] = []
    for n, node in enumerate(body):
        here = f"{work}.{n}"
        if isinstance(node, Pay):
            found.append(here)
        elif isinstance(node, Threads):
            found.append([expected(each, f"{here}.{m}") for m, each in enumerate(node.bodies)])
        else:
            found.append(expected(node.body, here))
    return found


def works(found: Any) -> list[str]:
    """The pieces of work in what a program comes to."""
    if isinstance(found, str):
        return [found]
    return [work for each in found for work in works(each)]
