"""Calls to a server that may be away: none waits for long, and none is made while it is away."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from threading import Event, Lock, Thread, get_ident
from time import monotonic
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

CALLS = 256  # that are under way at once; further ones wait for these
FRESH_SECONDS = 10.0  # how long it is known that a server answers, without asking it
PAUSE_SECONDS = 1.0  # between two questions to a server that is away


class Circuit:
    """Calls to one server, which may be away; threads may share it.

    A call that gets no answer in time is given up. If none of the calls since it began got one
    either, the server counts as away: every call then fails at once, while a thread of this
    circuit asks the server every second, until it answers.

    A call that is given up goes on in a thread, until it ends by time-outs of its own: so it needs
    some, and what it was to do may still happen.

    Args:
        name: The server, for the log.
        seconds: How long a call waits for its answer.
        error: Makes the error of a call that is given up or not made, of the reason.
        ask: Asks the server for something small by a call through this circuit, in its thread.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        *,
        error: Callable[[str], Exception],
        ask: Callable[[], object],
    ) -> None:
        self.seconds = seconds
        self._name = name
        self._error = error
        self._ask = ask
        self._away = False
        self._heard_at = float("-inf")
        self._asker: int | None = None  # the thread that asks
        self._closed = Event()
        self._lock = Lock()
        self._pool = self._new_pool()

    @property
    def is_away(self) -> bool:
        """Whether the server is away, as far as is known."""
        return self._away

    def call(self, act: Callable[[], T], *, lost: tuple[type[Exception], ...] = ()) -> T:
        """Call a function that asks the server, and return what it returns.

        Args:
            act: The function.
            lost: An error with a cause of these types says that the server did not answer; any
                other error of the function is an answer.

        Raises:
            Exception: What the function raises, or the error that `error` makes.
        """
        began = monotonic()
        if get_ident() == self._asker:
            return self._heard(act, lost, began)
        with self._lock:
            if self._away:
                raise self._error("it is away; it is asked again every second")
            asked = self._pool.submit(copy_context().run, self._heard, act, lost, began)
        wait([asked], timeout=self.seconds)
        if asked.done() and not asked.cancelled():
            return asked.result()
        self._note_loss(began)
        raise self._error(f"no answer came for {self.seconds:g} s")

    def refresh(self) -> None:
        """Have the server asked if it was not heard for ten seconds; this waits for nothing."""
        with self._lock:
            is_known = not self._away and monotonic() - self._heard_at < FRESH_SECONDS
            if is_known or self._asker is not None or self._closed.is_set():
                return
            self._asker = 0  # no thread has this number
        Thread(target=copy_context().run, args=(self._ask_on,), daemon=True).start()

    def close(self) -> None:
        """Ask the server no more."""
        self._closed.set()
        with self._lock:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(CALLS, thread_name_prefix=f"executions-{self._name}")

    def _heard(self, act: Callable[[], T], lost: tuple[type[Exception], ...], began: float) -> T:
        """Call the function, and note whether the server has answered in time."""
        try:
            result = act()
        except Exception as error:
            if isinstance(error.__cause__, lost):
                self._note_loss(began)
            else:
                self._note_answer(began)
            raise
        self._note_answer(began)
        return result

    def _note_answer(self, began: float) -> None:
        now = monotonic()
        if now - began > self.seconds:
            return
        self._heard_at = now
        if self._away:
            self._away = False
            logger.warning("%s answers again", self._name)

    def _note_loss(self, began: float) -> None:
        with self._lock:
            if not self._away and self._heard_at <= began:
                self._away = True
                logger.error("%s does not answer", self._name)
                # Calls that hang must not take the threads of those that are made when it is back.
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = self._new_pool()
        self.refresh()

    def _ask_on(self) -> None:
        """Ask until the server answers."""
        self._asker = get_ident()
        while True:
            try:
                self._ask()
            except Exception as error:  # of any kind: without an answer all calls would be refused
                logger.debug("%s was asked in vain: %s", self._name, error)
            with self._lock:
                if not self._away or self._closed.is_set():
                    self._asker = None
                    return
            self._closed.wait(PAUSE_SECONDS)
