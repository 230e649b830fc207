"""Ending a flow's function from another thread, wherever it is."""

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable

from prefect.utilities.engine import is_prefect_sigterm_handler_installed


class Interrupted(BaseException):
    """What a function is ended by; not an error that the function may take for its own."""


class Interrupt:
    """A way to end the function that runs in a thread or in a task, once.

    Async functions are cancelled. Sync ones that run in the main thread under Prefect get SIGTERM,
    which Prefect turns into an exception, in the midst of a system call too. Other threads get an
    exception as soon as they run Python code again.
    """

    def __init__(self, act: Callable[[], object], take_back: Callable[[], object]) -> None:
        self._act = act
        self._take_back = take_back
        self._used = False

    @classmethod
    def of_this_thread(cls) -> "Interrupt":
        """An interrupt of the function that this thread runs next."""
        thread = threading.current_thread()

        def act() -> None:
            if thread is threading.main_thread() and is_prefect_sigterm_handler_installed():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupted)
                )

        return cls(act, lambda: None)

    @classmethod
    def of_this_task(cls) -> "Interrupt":
        """An interrupt of what this task awaits next."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        return cls(lambda: loop.call_soon_threadsafe(task.cancel), task.uncancel)

    def now(self) -> None:
        """End the function."""
        self._used = True
        self._act()

    def take_back(self) -> None:
        """Let the task go on, now that the function has ended."""
        if self._used:
            self._take_back()
