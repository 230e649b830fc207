"""Writes of tasks that wait a moment for the checkpoint they lead to, to share its PUT."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from prefect_executions.langgraph.index import Writes

LINGER = 0.02  # seconds: the graph puts its checkpoint as soon as its tasks have ended


class _Batch:
    def __init__(self) -> None:
        self.writes: list[Writes] = []
        self.is_taken = False
        self.is_done = False
        self.failure: BaseException | None = None


class Gathering:
    """Writes that several threads want to store, which go into one entry."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._open = _Batch()

    def add(self, writes: Writes, write: Callable[[], None]) -> None:
        """Have writes stored; it is durable when this returns.

        Args:
            writes: They.
            write: Writes all that is gathered, if nobody else has taken it after a moment.

        Raises:
            BaseException: what failed to write it, in whichever thread.
        """
        with self._changed:
            batch = self._open
            batch.writes.append(writes)
            self._changed.wait_for(lambda: batch.is_taken, LINGER)
            is_left = not batch.is_taken
        if is_left:
            write()
        with self._changed:
            self._changed.wait_for(lambda: batch.is_done)
            if batch.failure is not None:
                raise batch.failure

    @contextmanager
    def taken(self) -> Iterator[list[Writes]]:
        """Take what is gathered; the body writes it, or fails to."""
        with self._changed:
            batch, self._open = self._open, _Batch()
            batch.is_taken = True
            self._changed.notify_all()
        try:
            yield batch.writes
        except BaseException as failure:
            batch.failure = failure
            raise
        finally:
            with self._changed:
                batch.is_done = True
                self._changed.notify_all()
