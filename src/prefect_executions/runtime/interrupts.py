"""Ending a flow's function from another thread, wherever it is."""

import asyncio
import ctypes
import os
import signal
import threading
from time import monotonic, sleep
from typing import Protocol

from prefect.exceptions import TerminationSignal
from prefect.utilities.engine import is_prefect_sigterm_handler_installed

_ARRIVES = 1.0  # seconds in which an exception reaches the thread that it was sent to


class Interrupt(Protocol):
    """A way to end a function that is running; it hits nothing before it and nothing after it."""

    def arm(self) -> None:
        """The function begins."""
        ...

    def now(self) -> bool:
        """End the function, from another thread; whether it was running."""
        ...

    def disarm(self, ended_by: BaseException | None = None) -> None:
        """The function has ended, by its return or by this exception."""
        ...


class Interrupted(BaseException):
    """What a function is ended by; not an error that the function may take for its own."""


class ThreadInterrupt:
    """An interrupt of what the thread that makes it calls.

    In the main thread under Prefect it is SIGTERM, which Prefect turns into an exception, in the
    midst of a system call too. Other threads get an exception as soon as they run Python code.
    """

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._lock = threading.Lock()
        self._armed = False
        self._sent = False

    def arm(self) -> None:
        """See `Interrupt.arm`."""
        self._armed = True

    def now(self) -> bool:
        """See `Interrupt.now`."""
        with self._lock:
            if not self._armed:
                return False
            self._sent = True
            if self._thread is threading.main_thread() and is_prefect_sigterm_handler_installed():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(Interrupted)
                )
            return True

    def disarm(self, ended_by: BaseException | None = None) -> None:
        """See `Interrupt.disarm`; an exception that is on its way is waited for and swallowed."""
        try:
            with self._lock:
                self._armed = False
            ends = monotonic() + _ARRIVES
            arrived = isinstance(ended_by, Interrupted | TerminationSignal)
            while self._sent and not arrived and monotonic() < ends:
                sleep(0.01)
        except (Interrupted, TerminationSignal):
            if not self._sent:
                raise
        self._armed = self._sent = False


class TaskInterrupt:
    """An interrupt of what the task that makes it awaits: its cancellation."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._armed = False
        self._sent = False

    def arm(self) -> None:
        """See `Interrupt.arm`."""
        self._armed = True

    def now(self) -> bool:
        """See `Interrupt.now`."""
        if self._armed:
            self._loop.call_soon_threadsafe(self._cancel)
        return self._armed

    def _cancel(self) -> None:
        if self._armed:
            self._sent = self._task.cancel()

    def disarm(self, ended_by: BaseException | None = None) -> None:  # noqa: ARG002
        """See `Interrupt.disarm`."""
        self._armed = False
        if self._sent:
            self._sent = False
            self._task.uncancel()
