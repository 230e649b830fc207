"""Background work: functions at their times, a throttle, and threads for async flows."""

import logging
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock, Thread
from time import monotonic
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

THREADS = 64  # how many calls of `in_thread` an event loop has under way, but for those that wait

R = TypeVar("R")

_limiter: RunVar[CapacityLimiter] = RunVar("executions_in_thread")

logger = logging.getLogger(__name__)


@dataclass
class _Job:
    due: float
    act: Callable[[], None]
    every: float | None


class Scheduler(Thread):
    """Calls functions at their times, in one daemon thread, until it is stopped.

    The thread starts with the first function. Threads may share the scheduler. A function that
    takes long delays the others; if one raises, the error is logged.

    Args:
        name: The name of the thread.
    """

    def __init__(self, name: str) -> None:
        super().__init__(target=copy_context().run, args=(self._work,), name=name, daemon=True)
        self._jobs: list[_Job] = []
        self._changed = Event()
        self._adding = Lock()
        self._ended = False

    def every(self, seconds: float, act: Callable[[], None], *, at_once: bool = False) -> None:
        """Call `act` every so many seconds, for the first time at once or after that time."""
        self._add(_Job(monotonic() + (0 if at_once else seconds), act, seconds))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` once, after so many seconds."""
        self._add(_Job(monotonic() + seconds, act, None))

    def stop(self) -> None:
        """Call no more functions, not even new ones. A call that has begun still finishes."""
        self._ended = True
        self._changed.set()

    def _add(self, job: _Job) -> None:
        with self._adding:
            self._jobs.append(job)
            self._changed.set()
            if self.ident is None and not self._ended:
                self.start()

    def _work(self) -> None:
        while True:
            self._changed.clear()
            if self._ended:
                return
            job = min(self._jobs, key=lambda job: job.due, default=None)
            pause = None if job is None else max(0, job.due - monotonic())
            if self._changed.wait(pause) or job is None:
                continue
            if job.every is None:
                self._jobs.remove(job)
            else:
                job.due = monotonic() + job.every
            try:
                job.act()
            except Exception:
                logger.exception("%s: a function has failed", self.name)


K = TypeVar("K", bound=Hashable)


class Throttle(Generic[K]):
    """Calls a function for each key that changes, at most once in so many seconds.

    Threads may share it.

    Args:
        later: Calls a function after so many seconds, like `Scheduler.after`.
        act: The function, called with the key. It must not raise.
        every: Seconds between two calls for a key.
        first: Seconds between a change and its call, when there was no call just before.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], None],
        act: Callable[[K], None],
        *,
        every: float,
        first: float = 0.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._later = later
        self._act = act
        self._every = every
        self._first = first
        self._clock = clock
        self._lock = Lock()
        self._waiting: set[K] = set()
        self._acted: dict[K, float] = {}  # the time of the last call, oldest first
        self._closed = False

    def changed(self, key: K) -> None:
        """Note that a key has changed, and call `act` as soon as it may be; after `close`, now."""
        with self._lock:
            if key in self._waiting:
                return
            now = self._clock()
            while self._acted and next(iter(self._acted.values())) + self._every <= now:
                del self._acted[next(iter(self._acted))]
            self._waiting.add(key)
            acted = self._acted.get(key)
            delay = self._first if acted is None else max(acted + self._every - now, 0.0)
            closed = self._closed
        if closed:
            self._act_on(key)
        else:
            self._later(delay, partial(self._act_on, key))

    def close(self) -> None:
        """Call `act` now for all keys that wait. From now on no key waits."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for key in waiting:
            self._act_on(key)

    def _act_on(self, key: K) -> None:
        with self._lock:
            if key not in self._waiting:
                return
            self._waiting.discard(key)
            self._acted.pop(key, None)
            self._acted[key] = self._clock()
        self._act(key)


async def in_thread(act: Callable[..., R], *args: object, waits: bool = False) -> R:
    """Call a function that blocks, in a thread which no other code can use up.

    The threads of `asyncio.to_thread` are few, and the flow's own calls may hold all of them. These
    end with the event loop. When this is cancelled the call goes on, and nobody waits for it.

    Args:
        act: The function.
        args: What it is called with.
        waits: Whether it waits for people, so that it is not to keep others from being called.
    """
    if waits:
        limiter = CapacityLimiter(1)
    elif (found := _limiter.get(None)) is not None:
        limiter = found
    else:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await to_thread.run_sync(partial(act, *args), limiter=limiter, abandon_on_cancel=True)
