"""Acting on what changes: not too often, and always after the last change."""

from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Throttle(Generic[K]):
    """Acts on each key that has changed, once in so many seconds at most; threads may share it.

    Args:
        later: Calls a function after so many seconds: `Pacer.after`.
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
