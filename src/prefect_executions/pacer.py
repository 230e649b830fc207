"""A thread that does things at their times, beside whatever else the process does."""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic


@dataclass
class _Chore:
    due: float
    act: Callable[[], None]
    every: float | None


class Pacer:
    """Calls functions at their times in one daemon thread, until it is stopped.

    A function that takes long delays the others; one that raises is logged by nobody and ends the
    thread, so let it raise nothing.
    """

    def __init__(self) -> None:
        self._chores: list[_Chore] = []
        self._changed = Event()
        self._stopped = False
        self._thread = Thread(
            target=copy_context().run, args=(self._run,), name="execution-pacer", daemon=True
        )

    def every(self, seconds: float, act: Callable[[], None], *, at_once: bool = False) -> None:
        """Call `act` every so many seconds, from now on or after the first such time."""
        self._add(_Chore(monotonic() + (0 if at_once else seconds), act, seconds))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` once."""
        self._add(_Chore(monotonic() + seconds, act, None))

    def stop(self) -> None:
        """Let nothing more be called; what is being called just now goes on to its end."""
        self._stopped = True
        self._changed.set()

    def _add(self, chore: _Chore) -> None:
        self._chores.append(chore)
        self._changed.set()
        if not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            self._changed.clear()
            chore = min(self._chores, key=lambda chore: chore.due, default=None)
            if self._changed.wait(None if chore is None else max(0, chore.due - monotonic())):
                continue
            if chore is None:
                continue
            if chore.every is None:
                self._chores.remove(chore)
            else:
                chore.due = monotonic() + chore.every
            chore.act()
