"""Saving an attempt's checkpoints and records, and leaving where the log is another process's."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, RLock
from time import monotonic
from typing import Any, TypeVar

from prefect.exceptions import Pause
from prefect.logging import get_run_logger

from prefect_executions.errors import (
    ExecutionNotFound,
    NotAnExecution,
    PrefectUnavailable,
    StoreRefused,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.log.journal import Large, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.runtime.ownership import Ownership, OwnershipCheck
from prefect_executions.runtime.writer import Durability, LogWriter
from prefect_executions.steps.replay import Replay

R = TypeVar("R")

STORE_PATIENCE = 60.0  # seconds that a beginning or an end waits for a store or a Prefect
STORE_PAUSE = 2.0  # seconds between two tries


class Checkpointer:
    """Saves the checkpoints and the records of one attempt.

    Each save leaves the flow where the run is no longer this process's: it was suspended,
    cancelled or deleted, or another attempt has begun in the log.

    Args:
        writer: Writes to the log of the attempt.
        ownership: Whether this process still runs the flow run.
        replay: The calls of the attempt, to which it matters when a checkpoint is saved.

    Attributes:
        closed: Set when the attempt has ended.
    """

    def __init__(self, writer: LogWriter, ownership: Ownership, replay: Replay) -> None:
        self.closed = Event()
        self._writer = writer
        self._ownership = ownership
        self._replay = replay
        self._check = OwnershipCheck(ownership.check)
        self._published = writer.head.state
        self._lock = RLock()
        self._process = os.getpid()
        self._logger = get_run_logger()

    @property
    def head(self) -> Head:
        """The log as far as it is written."""
        return self._writer.head

    @property
    def log(self) -> ExecutionLog:
        """The log."""
        return self._writer.log

    @property
    def durability(self) -> Durability:
        """When what is saved is durable."""
        return self._writer.durability

    def require_open(self) -> None:
        """Check that the attempt has not ended, and is this process's.

        Raises:
            NotAnExecution: It has, or is not.
        """
        if os.getpid() != self._process:
            raise NotAnExecution(
                "this process was forked from the one that runs the execution, so nothing is "
                "recorded or saved here. Use steps in the flow's own process, and plain functions "
                "in the others; or submit steps with a task runner that has other processes, such "
                "as Prefect's `ProcessPoolTaskRunner`."
            )
        if self.closed.is_set():
            attempt, id_ = self.head.entry.attempt, self._writer.log.execution_id
            raise NotAnExecution(f"attempt {attempt} of {id_!r} has ended")

    def publish(self, state: bytes) -> None:
        """Let this state be what the next timed checkpoint saves.

        Raises:
            AmbiguousCall: It is another state, and only some of several equal calls have returned.
        """
        self._replay.saved(state)
        self._published = state

    def save(
        self,
        take: Callable[[], bytes],
        label: str | None = None,
        records: Sequence[Record] = (),
    ) -> int | None:
        """Save a checkpoint, and leave where the run is no longer this process's.

        Args:
            take: Encodes the state.
            label: The checkpoint's label.
            records: What is recorded with it.

        Returns:
            The number of its entry; None while it is yet to be written.
        """
        with self._lock:
            self.publish(take())
            self._check.start()
            with self.leaving():
                with self._yielding():
                    seq = self._save(label, records)
                self.check_signal()
                patient = self._writer.durability is Durability.SYNC
                self._try(lambda: self._check.finish(patient=patient))
            return seq

    def save_with(
        self, take: Callable[[], bytes], label: str, records: Callable[[], list[Record]]
    ) -> None:
        """Save a checkpoint and records in one entry; both are durable when this returns."""
        state = take()
        with self._lock, self.leaving(), self._yielding():
            self.publish(state)
            self._writer.checkpoint(state, label=label, take=records)
            self._writer.flush()

    def save_published(self) -> None:
        """Save what was published where no call asked for it; a failure is only logged."""
        if (failure := self._save_published(patience=0)) is not None:
            self._logger.warning("The published state could not be saved: %s", failure)

    def save_last(self, left: BaseException, *, patience: float | None = None) -> None:
        """Save what was published and recorded, as the flow leaves by `left`.

        If that fails, the log says so, and so does `left`.

        Args:
            left: What the flow's function has raised.
            patience: For how many seconds to wait for a store that is away; a minute by default.
        """
        if (failure := self._save_published(patience)) is not None:
            what = (
                "What this attempt did since the last save could not be saved as it ended, and is "
                f"done again if the execution goes on: {failure}"
            )
            left.add_note(what)
            self._logger.error("%s", what)

    def _save_published(self, patience: float | None) -> Exception | None:
        """Save what was published and recorded; returns why it could not be saved, if so."""
        if self._writer.lost or (self._writer.is_idle and self._writer.is_saved(self._published)):
            return None

        def save() -> None:
            self._save()
            self._writer.flush()

        try:
            patiently(save, patience)
            self._sweep_deleted()
        except (Superseded, ExecutionNotFound) as lost:
            self._logger.info("%s The published state is not saved.", lost)
        except Exception as failure:
            return failure
        return None

    def _save(self, label: str | None = None, records: Sequence[Record] = ()) -> int | None:
        """Save what was published.

        Raises:
            Superseded: Another process has taken the execution over.
            ExecutionNotFound: The execution was deleted.
        """
        with self._lock:
            if records or not self._writer.is_saved(self._published, label):
                return self._writer.checkpoint(
                    self._published, label=label, take=lambda: [*records]
                )
            return self.head.entry.continues_from if self._writer.is_idle else None

    # ------------------------------------------------------------------ records

    def record(self, take: Callable[[], list[Record]]) -> None:
        """Write records, in the order in which they are taken."""
        if os.getpid() != self._process:
            self.require_open()
        with self.leaving(), self._yielding():
            self._writer.record(take)

    def flush(self) -> None:
        """Write the records that could not be written before."""
        with self.leaving(), self._yielding():
            self._writer.flush()

    def large_result(self, where: Large) -> bytes:
        """Read a result that is kept outside the journal."""
        return self._writer.log.large_result(where)

    def append_retry(self, *, answers: str, reason: str) -> None:
        """Count a retry in the log; this attempt may then write no more.

        Args:
            answers: The id of the Running state that has failed, in hex.
            reason: What failed.
        """
        log = self._writer.log
        with self._yielding():
            self._writer.append(lambda head: log.retry(head, answers=answers, reason=reason))

    def append_result(self, result: Any, *, nonce: str) -> None:
        """Write the result to the log; this attempt may then write no more.

        Args:
            result: It, as a JSON value.
            nonce: The same when it is tried again.
        """
        log = self._writer.log
        with self.leaving(), self._yielding():
            self._writer.append(lambda head: log.result(head, result, nonce=nonce))

    # ------------------------------------------------------------------ leaving

    def check_signal(self) -> None:
        """Leave if Prefect has signalled that the run is suspended; sends no request."""
        self._ownership.check_signal()

    def is_pausing(self) -> bool:
        """Whether the flow leaves and is to go on later, here or in another process."""
        return self._ownership.is_pausing()

    def check_ownership(self) -> None:
        """Ask Prefect whether the run is still this process's, and leave if not."""
        with self.leaving():
            self._try(self._ownership.check)

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Where the body leaves the flow, let the flow's other threads leave, too.

        If the execution was deleted while this process was about to save, nothing stays in its log.
        """
        try:
            yield
        except Pause as pause:
            left = pause
            self._try(lambda: self._ownership.leave_by(left))
            self._sweep_deleted()
            raise

    @contextmanager
    def _yielding(self) -> Iterator[None]:
        """Leave where the body finds that the log is another process's."""
        try:
            yield
        except (Superseded, ExecutionNotFound) as lost:
            self._logger.info("%s This process ends.", lost)
            self._ownership.yield_run()

    def _try(self, check: Callable[[], None]) -> None:
        """Ask Prefect; go on without an answer, since the log fences all the same."""
        try:
            check()
        except PrefectUnavailable as silence:
            self._logger.warning("Could not ask Prefect for the run's state: %s", silence)

    def _sweep_deleted(self) -> None:
        """Remove what this process saved after the execution was deleted."""
        if self._ownership.is_deleted():
            self._writer.lost = True
            self._writer.log.sweep()

    def close(self) -> None:
        """Save nothing more; a task that outlives the flow can't either."""
        self.closed.set()
        self._writer.close()
        self._check.close()


def patiently(act: Callable[[], R], patience: float | None = None) -> R:
    """Call `act` until a store or a Prefect server that restarts has answered.

    Args:
        act: What is done.
        patience: For how many seconds; a minute by default.

    Raises:
        StoreUnavailable, PrefectUnavailable: It did not answer for that long.
        StoreRefused: The store has refused: waiting does not help.
    """
    deadline = monotonic() + (STORE_PATIENCE if patience is None else patience)
    while True:
        try:
            return act()
        except StoreRefused:
            raise
        except (StoreUnavailable, PrefectUnavailable) as away:
            if monotonic() >= deadline:
                raise
            get_run_logger().warning("%s Trying again.", away)
            Event().wait(STORE_PAUSE)
