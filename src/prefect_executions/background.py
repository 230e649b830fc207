"""What happens beside the program: a thread that does things at their times, and a throttle."""

import logging
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock, Thread
from time import monotonic
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)


@dataclass
class _Chore:
    due: float
    act: Callable[[], None]
    every: float | None


class Scheduler(Thread):
    """Calls functions at their times in one daemon thread, until it is stopped.

    The thread starts with the first function; threads may share the pacer.

    A function that takes long delays the others of the same pacer; what one raises is logged.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        super().__init__(target=copy_context().run, args=(self._pace,), name=name, daemon=True)
        self._chores: list[_Chore] = []
        self._changed = Event()
        self._adding = Lock()
        self._ended = False

    def every(self, seconds: float, act: Callable[[], None], *, at_once: bool = False) -> None:
        """Call `act` every so many seconds, from now on or after the first such time."""
        self._add(_Chore(monotonic() + (0 if at_once else seconds), act, seconds))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` once."""
        self._add(_Chore(monotonic() + seconds, act, None))

    def stop(self) -> None:
        """Call nothing more, also of what is added later; what is called just now goes on."""
        self._ended = True
        self._changed.set()

    def _add(self, chore: _Chore) -> None:
        with self._adding:
            self._chores.append(chore)
            self._changed.set()
            if self.ident is None and not self._ended:
                self.start()

    def _pace(self) -> None:
        while True:
            self._changed.clear()
            if self._ended:
                return
            chore = min(self._chores, key=lambda chore: chore.due, default=None)
            pause = None if chore is None else max(0, chore.due - monotonic())
            if self._changed.wait(pause) or chore is None:
                continue
            if chore.every is None:
                self._chores.remove(chore)
            else:
                chore.due = monotonic() + chore.every
            try:
                chore.act()
            except Exception:
                logger.exception("%s: what was due has failed", self.name)


K = TypeVar("K", bound=Hashable)


class Throttle(Generic[K]):
    """Acts on each key that has changed, once in so many seconds at most; threads may share it.

    Args:
        later: Calls a function after so many seconds: `Scheduler.after`.
        act: What is done; it raises nothing.
        every: Seconds between two acts on a key.
        first: Seconds between a change and the act on it, where none was just before.
        clock: Seconds that go on.
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
        self._acted: dict[K, float] = {}  # when, oldest first
        self._closed = False

    def changed(self, key: K) -> None:
        """Act on a key, as soon as that may be; at once when this was closed."""
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
        """Act on what waits, at once; from now on nothing does."""
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
