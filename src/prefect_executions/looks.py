"""Looks at Prefect beside the writing: whether the run is still this process's."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from time import monotonic

LOOK_SECONDS = 1.0  # how often there is one, on average
LOOK_BURST = 10  # how many there may be at once before that counts
LOOK_PATIENCE = 5.0  # how long the answer is waited for


class Looks:
    """Carries out a check in a thread, and not every time: an allowance fills with time.

    Args:
        check: What is carried out.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._left = float(LOOK_BURST)
        self._counted_at = monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="execution-look")
        self._look: Future[None] | None = None
        self._is_new = False

    def start(self) -> None:
        """Begin a look, if one is allowed, and none is under way."""
        self._is_new = self._look is None and self._allowed()
        if self._is_new:
            self._look = self._thread.submit(copy_context().run, self._check)

    def finish(self, *, patient: bool) -> None:
        """Raise what the look has raised; one without an answer yet is left to the next call.

        Args:
            patient: Whether a look that has just begun is waited for.
        """
        look = self._look
        if look is None:
            return
        wait([look], timeout=LOOK_PATIENCE if patient and self._is_new else 0)
        if look.done():
            self._look = None
            look.result()

    def close(self) -> None:
        """Begin no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _allowed(self) -> bool:
        now = monotonic()
        self._left = min(LOOK_BURST, self._left + (now - self._counted_at) / LOOK_SECONDS)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
