"""What writes an attempt's checkpoints and records to its log, in their order, when it is time."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Condition, RLock, Thread
from time import monotonic

from prefect_executions.errors import ExecutionNotFound, Superseded
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.telemetry import tracer

IN_FLIGHT = 16  # how many checkpoints may wait to be written,
RECORDS_IN_FLIGHT = 1000  # how many records of steps, and
BYTES_IN_FLIGHT = 64 << 20  # how many bytes of both, before the caller waits


class Durability(StrEnum):
    """When what is saved is durable."""

    SYNC = "sync"  # when the call that saves it returns
    ASYNC = "async"  # soon after it: written beside the flow
    EXIT = "exit"  # when the attempt ends or pauses, and at timed checkpoints


@dataclass(slots=True)
class _Checkpoint:
    state: bytes
    label: str | None
    seq: int | None = field(default=None, compare=False)  # once it is written


_Work = list[Record | _Checkpoint]  # what goes into one entry


class LogWriter:
    """Writes to the log of one attempt.

    What steps record and what is checkpointed is taken down in its order, and written in it, each
    checkpoint as one entry with what steps have recorded before it. What has been taken down by
    several threads while one of them wrote, shares the next entry.

    When the store's answer is lost, it is not known whether an entry was written. The same work
    that is tried again is the same entry, which is stored once; an entry of other work finds it.

    Args:
        log: The log.
        head: Its head, with the attempt.
        durability: When it is written.
        patiently: Carries out a write beside the flow, and tries again where that helps.
        tell: Called with the head of the log and the seconds that it took, once a checkpoint is
            written.
    """

    def __init__(
        self,
        log: ExecutionLog,
        head: Head,
        durability: Durability = Durability.SYNC,
        *,
        patiently: Callable[[Callable[[], None]], None] = lambda act: act(),
        tell: Callable[[Head, float], None] = lambda _, __: None,
    ) -> None:
        self.log = log
        self.durability = durability
        self.lost = False  # whether the log is another's, so that this process may not write
        self._head = head
        self._label: str | None = None
        self._patiently = patiently
        self._tell = tell
        self._writing = RLock()
        self._waiting: deque[Record | _Checkpoint] = deque()
        self._changed = Condition()  # guards what waits
        self._tried: dict[str, _Work] = {}  # by nonces: what was written after the head, perhaps
        self._failure: BaseException | None = None
        self._stopped = False
        self._thread: Thread | None = None

    @property
    def head(self) -> Head:
        """The log as far as it is written."""
        return self._head

    def is_saved(self, state: bytes, label: str | None = None) -> bool:
        """Whether `state` is what was checkpointed last, with this label if one is given."""
        with self._changed:
            newest = next((w for w in reversed(self._waiting) if isinstance(w, _Checkpoint)), None)
            last = newest.state if newest else self._head.state
            return last == state and label in (None, newest.label if newest else self._label)

    @property
    def is_idle(self) -> bool:
        """Whether all that was taken down is written, but for what is only of use with more."""
        with self._changed:
            return not any(
                isinstance(work, _Checkpoint) or work.outcome is not Outcome.BEGUN
                for work in self._waiting
            )

    def checkpoint(
        self,
        state: bytes,
        *,
        label: str | None = None,
        take: Callable[[], list[Record]] = list,
    ) -> int | None:
        """Save a state.

        Args:
            state: The state.
            label: Of the checkpoint.
            take: Gives what is recorded with it.

        Returns:
            The number of its entry; None if it is yet to be written.

        Raises:
            Superseded, ExecutionNotFound: the log is another's by now.
            StoreUnavailable: this one could not be written; or, with `ASYNC`, an earlier one, which
                is tried again, and this one was not taken down.
        """
        work = _Checkpoint(state, label)
        with self._changed:
            self._raise_failure()
            if self.durability is Durability.EXIT:
                kept = [other for other in self._waiting if isinstance(other, Record)]
                self._waiting = deque(kept)
            elif self.durability is Durability.ASYNC:
                self._changed.wait_for(self._has_room)
                self._raise_failure()
            self._waiting += [*take(), work]
        try:
            self._proceed()
        except Exception:  # who saves it learns of the failure, and decides what to do about it
            with self._changed:
                self._waiting = deque(other for other in self._waiting if other is not work)
            raise
        return work.seq

    def record(self, take: Callable[[], list[Record]]) -> None:
        """Take down what steps have come to, and write it. With `ASYNC` this waits for room.

        Args:
            take: Gives it; what several threads give is taken down in the order in which they do.

        Raises:
            Superseded, ExecutionNotFound, StoreUnavailable: see `checkpoint`. What was taken down
                stays so.
        """
        with self._changed:
            records = take()
            self._waiting.extend(records)
            self._raise_failure()
        if any(record.outcome is not Outcome.BEGUN for record in records):
            self._proceed()
            if self.durability is Durability.ASYNC:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    self._raise_failure()

    def flush(self) -> None:
        """Write all that was taken down.

        Raises:
            Superseded, ExecutionNotFound, StoreUnavailable: see `checkpoint`.
        """
        with self._changed:
            if not self.lost:
                self._failure = None
            self._raise_failure()
        if not self.is_idle:
            self._write_all()

    def append(self, write: Callable[[Head], Head]) -> None:
        """Append something else to the log, after all that was taken down.

        Args:
            write: Does it.
        """
        with self._writing:
            self.flush()
            with self._noting_loss():
                self._head = write(self._head)
            self._tried.clear()

    def close(self) -> None:
        """Write no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # ------------------------------------------------------------------ writing

    def _proceed(self) -> None:
        if self.durability is Durability.SYNC:
            self._write_all()
        elif self.durability is Durability.ASYNC:
            with self._changed:
                self._changed.notify_all()
                if self._thread is None:
                    self._thread = Thread(
                        target=copy_context().run,
                        args=(self._write_beside,),
                        name="execution-writer",
                        daemon=True,
                    )
                    self._thread.start()

    def _has_room(self) -> bool:
        states = [work.state for work in self._waiting if isinstance(work, _Checkpoint)]
        results = [work.result or b"" for work in self._waiting if isinstance(work, Record)]
        is_full = (
            len(states) >= IN_FLIGHT
            or len(results) >= RECORDS_IN_FLIGHT
            or sum(map(len, states)) + sum(map(len, results)) > BYTES_IN_FLIGHT
        )
        return not is_full or self._failure is not None or self._stopped

    def _write_beside(self) -> None:
        """Write whatever comes, in a thread of its own, until the writer is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopped or (self._waiting and self._failure is None)
                )
                if self._stopped:
                    return
            try:
                self._patiently(self._write_all)
            except BaseException as failure:  # whatever it is, the flow is to hear of it
                with self._changed:
                    self._failure = failure
                    self._changed.notify_all()

    def _write_all(self) -> None:
        with self._writing:
            while work := self._next():
                began = monotonic()
                with self._noting_loss():
                    head = self._write(work)
                self._written(head, began)

    def _next(self) -> _Work:
        """What goes into the next entry: up to a checkpoint."""
        with self._changed:
            work: _Work = []
            for item in self._waiting:
                work.append(item)
                if isinstance(item, _Checkpoint):
                    break
            return work

    def _write(self, work: _Work) -> Head:
        """Write an entry; returns the head after it, or after an earlier one that was in doubt."""
        entry = self._head.entry
        if entry.fenced:  # by this process: it has counted a retry, and leaves
            raise Superseded(self.log.execution_id, entry.attempt, "one that is to begin")
        nonces = self._nonces(work)
        records = [item for item in work if isinstance(item, Record)]
        last = work[-1]
        if not isinstance(last, _Checkpoint):
            return self.log.record(self._head, records, nonces=nonces)
        with tracer.start_as_current_span("checkpoint") as span:
            span.set_attribute("executions.id", self.log.execution_id)
            span.set_attribute("executions.state_bytes", len(last.state))
            return self.log.checkpoint(
                self._head, last.state, label=last.label, records=records, nonces=nonces
            )

    def _nonces(self, work: _Work) -> list[str]:
        """The nonces of what was written after the head, perhaps, and of this work."""
        known = (nonce for nonce, tried in self._tried.items() if tried == work)
        nonce = next(known, None) or self.log.new_nonce()
        self._tried.pop(nonce, None)
        for tried in self._tried.values():  # their states are not needed any more
            tried[:] = [w if isinstance(w, Record) else _Checkpoint(b"", w.label) for w in tried]
        self._tried[nonce] = work
        return [*self._tried]

    def _written(self, head: Head, began: float) -> None:
        """Take note of an entry that is written, and of those that are not."""
        work = self._tried[head.entry.nonce]
        self._tried.clear()
        self._head = head
        written = {id(item) for item in work}
        last = work[-1]
        with self._changed:
            # A checkpoint that was given up and is saved again is the next one that waits.
            first = next((item for item in self._waiting if isinstance(item, _Checkpoint)), None)
            if isinstance(last, _Checkpoint) and first == _Checkpoint(head.state, last.label):
                written.add(id(first))
                first.seq = head.entry.seq
            self._waiting = deque(item for item in self._waiting if id(item) not in written)
            self._changed.notify_all()
        if isinstance(last, _Checkpoint):
            self._label = last.label
            self._tell(head, monotonic() - began)

    def _raise_failure(self) -> None:
        """Raise what has failed beside the flow; from then on it is tried again."""
        failure = self._failure
        if failure is None:
            return
        if not self.lost:
            self._failure = None
            self._changed.notify_all()
        raise failure

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except (Superseded, ExecutionNotFound):
            self.lost = True
            raise
