"""A thread that does things at their times, beside whatever else the process does."""

import logging
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic

logger = logging.getLogger(__name__)


@dataclass
class _Chore:
    due: float
    act: Callable[[], None]
    every: float | None


class Pacer(Thread):
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
