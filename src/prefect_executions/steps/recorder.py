"""What steps need of the attempt that they run in: whether they may begin, and where to record."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from threading import RLock
from typing import Any, Protocol

from prefect.context import FlowRunContext, TaskRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_executions.errors import NotAnExecution, ReplayMismatch
from prefect_executions.log.journal import Large, Outcome, Record
from prefect_executions.steps.in_flight import InFlight
from prefect_executions.steps.places import STEP
from prefect_executions.steps.replay import Call, Replay
from prefect_executions.steps.tries import EarlierTries

WAITERS = 256  # how many steps in other processes are waited for at once

_current: ContextVar["Recorder | None"] = ContextVar("current_recorder", default=None)

_entered: list["Recorder"] = []  # those of the executions that this process runs now


_watch: ContextVar[Callable[[str], object] | None] = ContextVar("watch_of_steps", default=None)


@contextmanager
def watched(before_step: Callable[[str], object]) -> Iterator[None]:
    """Call `before_step` with the name of each step that the body calls, before it does."""
    token = _watch.set(before_step)
    try:
        yield
    finally:
        _watch.reset(token)


class Journal(Protocol):
    """Where the records of an attempt are kept."""

    def require_open(self) -> None:
        """Check that the attempt has not ended, and is this process's.

        Raises:
            NotAnExecution: The attempt has ended, or this process was forked from its own.
        """
        ...

    def record(self, take: Callable[[], list[Record]]) -> None:
        """Write records, in the order in which they are taken."""
        ...

    def flush(self) -> None:
        """Write the records that could not be written before."""
        ...

    def large_result(self, where: Large) -> bytes:
        """Read a result that is kept outside the journal."""
        ...

    def is_pausing(self) -> bool:
        """Whether the flow leaves and is to go on later, here or in another process."""
        ...


class Recorder:
    """Matches the calls of one attempt with recorded ones, and records what they return.

    Args:
        journal: Where the records are kept.
        replay: The calls of the attempt.
        admit: Leaves the flow where nothing new may begin: the run is suspended, or out of time.
        refuse: Called with the name of a step that is not recorded; raises where it may not run.

    Attributes:
        in_flight: The calls that are being carried out.
    """

    def __init__(
        self,
        journal: Journal,
        replay: Replay,
        admit: Callable[[], None],
        refuse: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.replay = replay
        self.in_flight = InFlight()
        self._journal = journal
        self._admit = admit
        self.refuse = refuse
        self._lock = RLock()
        self._functions: dict[str, Any] = {}  # by the names of steps and flows
        self._resources = ExitStack()
        self._earlier_tries = EarlierTries(replay.again)

    def begin(
        self,
        step: str,
        key: str,
        *,
        inputs: str | None,
        is_keyed: bool,
        submitted: int | None = None,
        way_out: str = STEP,
    ) -> Call:
        """Number a call of a step; leave the flow where nothing new may begin.

        Args:
            step: The step's name.
            key: What identifies the call.
            inputs: The digest of the inputs of a call with a key of its own.
            is_keyed: Whether the call has a key of its own.
            submitted: When the call was submitted, if it waited for its inputs since.
            way_out: What tells the call from equal ones.

        Raises:
            AmbiguousCall: The call could be mistaken for an equal one.
            ReplayMismatch: Another call is recorded under its key.
            Pause: The run was suspended, cancelled or taken over.
            DurationExceeded: The execution is out of time.
            EffectRefused: It is not recorded, and effects are refused.
        """
        self._journal.require_open()
        if (watch := _watch.get()) is not None:
            watch(step)

        def begin() -> Call:
            return self.replay.begin(
                step,
                key,
                inputs=inputs,
                is_keyed=is_keyed,
                submitted=submitted,
                way_out=way_out,
            )

        call = begin() if is_keyed else self._earlier_tries.find(key, begin)
        if call.record is None:
            self.refuse(step)
        if call.record is None and submitted is None:
            self._admit()
        return call

    def promise(self, step: str) -> tuple[Call, int]:
        """Note that a call is submitted that waits for its inputs; see `Replay.promise`.

        Raises:
            Pause, DurationExceeded: See `begin`.
        """
        self._journal.require_open()
        self._admit()
        promise, submitted = self.replay.promise(step)
        self.in_flight.began(promise)
        return promise, submitted

    def claim_name(self, step: str, function: Any, decorator: str = "step") -> None:
        """Let a name stand for one function, among steps or among flows.

        Raises:
            ReplayMismatch: another one has been called under this name: what is recorded of one
                could be taken for the other's.
        """
        with self._lock:
            if self._functions.setdefault(f"{decorator} {step}", function) != function:
                raise ReplayMismatch(
                    step,
                    f"two functions are {decorator}s of this name in one flow, and what is "
                    "recorded of one could be taken for the other's. Give one of them another: "
                    f"@{decorator}(name=…).",
                )

    def require_open(self) -> None:
        """See `Journal.require_open`."""
        self._journal.require_open()

    def record(self, call: Call, outcome: Outcome, **fields: Any) -> None:
        """Record the outcome of a call; `fields` are others of `Record`."""
        self._journal.record(lambda: self.replay.ended(call, outcome, **fields))

    def record_child(self, call: Call, child: str) -> None:
        """Record that a call has begun or goes on as an execution, durably."""
        self.record(call, Outcome.WAITING, child=child)
        self._journal.flush()

    def record_undone(self, record: Record) -> None:
        """Record that a call was undone."""
        gone = replace(record, outcome=Outcome.UNDONE, result=None, large=None)
        self._journal.record(lambda: [gone])

    def record_rolled_back(self, call: Call) -> bool:
        """Record that a call is undone, durably; returns False if it was undone already."""
        self._journal.require_open()
        gone: list[Record] = []

        def take() -> list[Record]:
            gone.extend(self.replay.rolled_back(call))
            return gone

        self._journal.record(take)
        self._journal.flush()
        return bool(gone)

    def is_pausing(self) -> bool:
        """Whether the flow leaves and is to go on later."""
        return self._journal.is_pausing()

    def result_of(self, record: Record) -> bytes:
        """The recorded result of a call, as JSON; it is durable when this returns."""
        if self.replay.records.is_new(record):
            self._journal.flush()
        if record.large is not None:
            return self._journal.large_result(record.large)
        return record.result or b"null"

    @cached_property
    def threads(self) -> ThreadPoolTaskRunner[Any]:
        """Runs calls that can't run in other processes."""
        with self._lock:
            return self._resources.enter_context(ThreadPoolTaskRunner())

    @cached_property
    def waiters(self) -> ThreadPoolExecutor:
        """Threads that wait for calls in other processes."""
        with self._lock:
            threads = ThreadPoolExecutor(WAITERS, thread_name_prefix="execution-waiter")
            self._resources.callback(threads.shutdown, wait=False, cancel_futures=True)
            return threads

    def close(self) -> None:
        """Stop the threads."""
        self._resources.close()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Record the steps that the body calls."""
        token = _current.set(self)
        _entered.append(self)
        try:
            with self.replay.flow():
                yield
        finally:
            _entered.remove(self)
            _current.reset(token)


def recorder_of(step: str) -> Recorder | None:
    """The recorder of the execution that calls a step; None outside of executions.

    A plain thread does not have the context of the flow that started it. It may belong to an
    execution that runs in this process, so a step that is called in it is refused.

    Raises:
        NotAnExecution: It is called in a plain thread, or in a forked process.
    """
    recorder = _current.get()
    if recorder is not None:
        recorder.require_open()
    elif _entered and FlowRunContext.get() is None and TaskRunContext.get() is None:
        raise NotAnExecution(
            f"the step {step!r} is called in a thread that does not have the context of the flow, "
            "so that it would not be recorded. Use `.submit`, `.map` or `asyncio.to_thread`, or "
            "give each call to the thread a context: "
            "`pool.submit(contextvars.copy_context().run, step, …)`. To call the function outside "
            "of the execution, use `step.fn(…)`."
        )
    return recorder
