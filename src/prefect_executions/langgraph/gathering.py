"""Writes of tasks that wait a moment for the checkpoint they lead to, to share its PUT."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from prefect_executions.log.journal import Record

LINGER = 0.005  # seconds: the graph puts its checkpoint as soon as its tasks have ended


class _Batch:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_taken = False
        self.is_done = False
        self.failure: BaseException | None = None


class Gathering:
    """Notes that several threads want to write, which go into one entry."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._open = _Batch()

    def add(self, record: Record, write: Callable[[], None]) -> None:
        """Have a note written; it is durable when this returns.

        Args:
            record: The note.
            write: Writes all that is gathered, if nobody else has taken it after a moment.

        Raises:
            BaseException: what failed to write it, in whichever thread.
        """
        with self._changed:
            batch = self._open
            batch.records.append(record)
            self._changed.wait_for(lambda: batch.is_taken, LINGER)
            is_left = not batch.is_taken
        if is_left:
            write()
        with self._changed:
            self._changed.wait_for(lambda: batch.is_done)
            if batch.failure is not None:
                raise batch.failure

    @contextmanager
    def taken(self) -> Iterator[list[Record]]:
        """Take what is gathered; the body writes it, or fails to."""
        with self._changed:
            batch, self._open = self._open, _Batch()
            batch.is_taken = True
            self._changed.notify_all()
        try:
            yield batch.records
        except BaseException as failure:
            batch.failure = failure
            raise
        finally:
            with self._changed:
                batch.is_done = True
                self._changed.notify_all()
