"""The execution that a flow run is, from inside: its state, its checkpoints, its endings."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from prefect.exceptions import Pause
from prefect.logging import get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel

from prefect_executions.background import Scheduler
from prefect_executions.errors import (
    CorruptEntry,
    DurationExceeded,
    ExecutionError,
    ExecutionNotFound,
    InputError,
    NotAnExecution,
    PrefectUnavailable,
    ReplayMismatch,
    StateError,
    StoreUnavailable,
    Superseded,
    UnsuitableStore,
)
from prefect_executions.ids import checkpoint_id
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.models import ExecutionConfig, OnTimeout, Status, require_label
from prefect_executions.prefect.pauses import Form
from prefect_executions.prefect.resume_form import CHOICES, GOES_ON, resume_form
from prefect_executions.prefect.states import STATUS_OF_TYPE
from prefect_executions.runtime.interrupts import Interrupt
from prefect_executions.runtime.ownership import Ownership, OwnershipCheck
from prefect_executions.runtime.pauses import Pauses
from prefect_executions.runtime.writer import Durability, LogWriter
from prefect_executions.serialization import JsonType
from prefect_executions.steps.replay import Call, Replay

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")
S = TypeVar("S")

WAITERS = 256  # how many steps that are done in other processes are waited for at once
STORE_PATIENCE = 60.0  # how long a beginning or a retry waits for a store or a Prefect that is away
STORE_PAUSE = 2.0  # between two tries of these
EXIT_PATIENCE = 30.0  # how long a flow that is out of time may take to end: as long as Prefect's

# Errors that another attempt would only meet again.
_NEVER_MENDS = (
    StateError,
    InputError,
    ReplayMismatch,
    CorruptEntry,
    NotAnExecution,
    UnsuitableStore,
    DurationExceeded,
)

_current: ContextVar["Run[Any] | None"] = ContextVar("current_execution", default=None)


@contextmanager
def entered(run: "Run[Any]") -> Iterator[None]:
    """Let `current_run` be this one."""
    token = _current.set(run)
    try:
        with run.replay.flow():
            yield
    finally:
        _current.reset(token)


def find_run() -> "Run[Any] | None":
    """The execution that this code runs in, if it runs in one."""
    return _current.get()


def current_run() -> "Run[Any]":
    """The execution that this code runs in.

    Raises:
        NotAnExecution: it runs in none.
    """
    run = _current.get()
    if run is None:
        raise NotAnExecution(
            "no execution runs here; call this inside a flow decorated with `@flow` above "
            "`@execution`"
        )
    return run


class Run(Generic[S]):
    """The execution that a flow run is, seen from inside.

    Attributes:
        id: The execution's id.
        attempt: How many processes have begun to run it, this one included.
        config: What it runs with: its own settings, and the flow's where it has none.
        state: The state; change it in place or assign another, then call `checkpoint`.
        state_type: Its type.
        replay: What steps have recorded.
    """

    def __init__(
        self,
        writer: LogWriter,
        state_type: JsonType[S],
        ownership: Ownership,
        config: ExecutionConfig,
        state: S,
        *,
        ended: Callable[[Status, str | None], None] = lambda _, __: None,
    ) -> None:
        head = writer.head
        self.id = writer.log.execution_id
        self.attempt = head.entry.attempt
        self.config = config
        self.state: S = state
        self.state_type = state_type
        self._writer = writer
        self.replay = Replay(head.journal, has_checkpoint=head.entry.continues_from > 0)
        self._published = head.state
        self._continues_from = head.entry.continues_from
        self._ownership = ownership
        self._resume_form = lambda: resume_form(writer.log.read(checkpoints=CHOICES))
        self._ended = ended
        self._waits = Pauses(
            self.replay,
            ownership,
            save=self._save_with,
            record=self._record,
            pause=self._pause,
            resume_form=self._resume_form if ownership.can_be_rescheduled else lambda: GOES_ON,
        )
        self._resources = ExitStack()
        self._lock = threading.RLock()
        self._looks = OwnershipCheck(ownership.check)
        self._logger = get_run_logger()
        self._overdue = False
        self._closed = threading.Event()

    @property
    def resumed_from(self) -> str | None:
        """The checkpoint that this attempt continued from; None when it began at the beginning."""
        return checkpoint_id(self._continues_from) if self._continues_from else None

    def checkpoint(self, *, label: str | None = None) -> str | None:
        """Save the state; it is durable when this returns, unless the durability is another.

        Here a pause takes effect too: if the run has been suspended, cancelled, deleted or taken
        over by another process, this leaves the flow, with the state saved where that is still
        allowed. A state that has not changed costs nothing, unless the label is a new one.

        Args:
            label: What people see in the list of checkpoints; up to 200 characters.

        Returns:
            The checkpoint's id, or that of the one which has this state already; None while it is
            yet to be written, with `durability="async"` or `"exit"`.

        Raises:
            StateError: part of the state can't be kept; the path is named, and nothing was saved.
            StoreUnavailable: the store did not answer; whether the state was saved is not known.
                With `durability="async"`, it was an earlier one that could not be saved, and is
                tried again; this one was not taken.
            DurationExceeded: the execution is out of time; the state is saved.
        """
        with self._lock:
            self._require_open()
            if label is not None:
                require_label(label)
            self._published = self.state_type.dump(self.state)
            self._looks.start()
            with self._leaving():
                with self._yielding():
                    seq = self._save(label)
                self._ownership.check_signal()
                patient = self._writer.durability is Durability.SYNC
                self._heed(lambda: self._looks.finish(patient=patient))
            self.require_time()
            return None if seq is None else checkpoint_id(seq)

    async def acheckpoint(self, *, label: str | None = None) -> str | None:
        """`checkpoint` for async flows: the event loop goes on while the state is saved.

        The state is taken in a thread: do not change it until this returns.
        """
        return await asyncio.to_thread(self.checkpoint, label=label)

    def publish(self) -> None:
        """Say that the state is consistent as it is now: it may be saved, when it is time.

        It costs no request, in sync and async flows, and is not durable when it returns. The state
        as it was published last is saved every `checkpoint_interval_seconds`, whatever the flow
        does meanwhile, and when the flow ends early: by a failure, SIGTERM, a cancellation, a pause
        or for want of time. A pause takes effect here too, as soon as Prefect has told of it.

        Raises:
            StateError: part of the state can't be kept; the path is named.
            DurationExceeded: the execution is out of time; the state is saved.
        """
        self._require_open()
        self._published = self.state_type.dump(self.state)
        self._ownership.check_signal()
        self.require_time()

    # ------------------------------------------------------------------ waiting for people

    def pause(
        self,
        reason: str | None = None,
        *,
        until: datetime | timedelta | None = None,
        on_timeout: Literal["resume", "fail", "terminate"] = "resume",
    ) -> None:
        """Save the state, and pause: the process ends, until somebody resumes the execution.

        The flow then runs again, comes here, and goes on: each pause is one, like a step. Without a
        deployment the process waits here.

        Args:
            reason: What people see.
            until: When it ends by itself: a time with its zone, or from now on. A supervisor sees
                to it, within a minute.
            on_timeout: What becomes of the execution then.

        Raises:
            ValueError: `until` has no zone.
            StateError, StoreUnavailable: the state could not be saved; nothing is paused.
        """
        self._require_open()
        self._waits.pause(reason, until, OnTimeout(on_timeout)).returned()

    async def apause(
        self,
        reason: str | None = None,
        *,
        until: datetime | timedelta | None = None,
        on_timeout: Literal["resume", "fail", "terminate"] = "resume",
    ) -> None:
        """`pause` for async flows."""
        self._require_open()
        policy = OnTimeout(on_timeout)
        call = await asyncio.to_thread(self._waits.pause, reason, until, policy)
        call.returned()

    def ask(self, model: type[M], *, prompt: str) -> M:
        """Ask a person: save the state, and pause until somebody answers.

        The answer is given in the Resume form of the Prefect UI, or by `POST …/resume` with
        `input`. The flow then runs again, comes here, and gets it; it is recorded, so each question
        is asked once. Without a deployment the process waits here.

        Args:
            model: What is asked: its fields are those of the form.
            prompt: What stands above the form; Markdown.

        Returns:
            The answer.

        Raises:
            StateError, StoreUnavailable: the state could not be saved; nothing is asked.
            ReplayMismatch: the recorded answer does not fit the model any more.
        """
        self._require_open()
        answer, call = self._waits.ask(model, prompt)
        call.returned()
        return answer

    async def aask(self, model: type[M], *, prompt: str) -> M:
        """`ask` for async flows."""
        self._require_open()
        answer, call = await asyncio.to_thread(self._waits.ask, model, prompt)
        call.returned()
        return answer

    # ------------------------------------------------------------------ steps

    def begin_call(self, step: str, key: str, *, inputs: str | None, is_keyed: bool) -> Call:
        """A step is called; leave before it does anything new if Prefect has said so.

        Args:
            step: Its name.
            key: What identifies the call.
            inputs: For a key of its own: the digest of its inputs.
            is_keyed: Whether it has a key of its own.
        """
        self._require_open()
        call = self.replay.begin(step, key, inputs=inputs, is_keyed=is_keyed)
        if call.record is None:
            self._ownership.check_signal()
            self.require_time()
            if self.replay.is_ambiguous(call):
                self._logger.warning(
                    "The step %r is called again with the same inputs after a checkpoint. If this "
                    "flow skips what its state says is done, an attempt that continues from there "
                    "gets the result of the first such call: give the step a key, or an input that "
                    "tells the calls apart.",
                    step,
                )
        return call

    @cached_property
    def threads(self) -> ThreadPoolTaskRunner[Any]:
        """Runs what can't be done in other processes."""
        with self._lock:
            return self._resources.enter_context(ThreadPoolTaskRunner())

    @cached_property
    def waiters(self) -> ThreadPoolExecutor:
        """Threads that wait for what is done in other processes."""
        with self._lock:
            threads = ThreadPoolExecutor(WAITERS, thread_name_prefix="execution-waiter")
            self._resources.callback(threads.shutdown, wait=False, cancel_futures=True)
            return threads

    def record_call(self, call: Call, outcome: Outcome, **fields: Any) -> None:
        """Record what has become of a call; other fields are those of `Record`."""
        self._record(lambda: self.replay.ended(call, outcome, **fields))

    def flush(self) -> None:
        """Write what was recorded and could not be written."""
        with self._leaving(), self._yielding():
            self._writer.flush()

    def result_of(self, record: Record) -> bytes:
        """The result that was recorded of a call, as JSON."""
        if record.large is not None:
            return self._writer.log.large_result(record.large)
        return record.result or b"null"

    def undone(self, record: Record) -> None:
        """A call has been undone."""
        gone = replace(record, outcome=Outcome.UNDONE, result=None, large=None)
        self._record(lambda: [gone])

    def _record(self, take: Callable[[], list[Record]]) -> None:
        with self._leaving(), self._yielding():
            self._writer.record(take)

    def _pause(self, key: str, reason: str | None, form: Form) -> None:
        with self._leaving():
            self._ownership.pause(key, reason, form)

    def _save_with(self, label: str, take: Callable[[], list[Record]]) -> None:
        """Save the state and records in one entry, and wait until it is durable."""
        data = self.state_type.dump(self.state)
        with self._lock, self._leaving(), self._yielding():
            self._published = data
            self.replay.saved()
            self._writer.checkpoint(data, label=label, take=take)
            self._writer.flush()

    # ------------------------------------------------------------------ saving

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise NotAnExecution(f"attempt {self.attempt} of {self.id!r} has ended")

    def _save(self, label: str | None = None) -> int | None:
        """Save what was published; the number of its entry, if that is known.

        Raises:
            Superseded: another process has taken the execution over.
            ExecutionNotFound: it has been deleted.
        """
        with self._lock:
            if not self._writer.is_saved(self._published, label):
                self.replay.saved()
                return self._writer.checkpoint(self._published, label=label)
            return self._writer.head.entry.continues_from if self._writer.is_idle else None

    def _save_aside(self, *, patient: bool = False) -> None:
        """Save what was published where nobody asked for it; the flow goes on, or ends, anyhow.

        Args:
            patient: Whether to wait for a store that is away.
        """
        if self._writer.lost or (self._writer.is_idle and self._writer.is_saved(self._published)):
            return

        def save() -> None:
            self._save()
            self._writer.flush()

        try:
            patiently(save) if patient else save()
            self._sweep_deleted()
        except (Superseded, ExecutionNotFound) as lost:
            self._logger.info("%s The published state is not saved.", lost)
        except Exception as failure:
            self._logger.warning("The published state could not be saved: %s", failure)

    @contextmanager
    def _yielding(self) -> Iterator[None]:
        """Leave if the body meets that the log is another's."""
        try:
            yield
        except (Superseded, ExecutionNotFound) as lost:
            self._logger.info("%s This process ends.", lost)
            self._ownership.yield_run()

    # ------------------------------------------------------------------ looking at Prefect

    def _heed(self, check: Callable[[], None]) -> None:
        """Leave if `check` says so. Without an answer go on: the log fences all the same."""
        try:
            check()
        except PrefectUnavailable as silence:
            self._logger.warning("Could not ask Prefect for the run's state: %s", silence)

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """When the body leaves the flow: let the flow leave from another thread of it, too.

        If the execution was deleted, log and all, while this process was about to save, leave
        nothing in the log.
        """
        try:
            yield
        except Pause as pause:
            left = pause
            self._heed(lambda: self._ownership.leave_by(left))
            self._sweep_deleted()
            raise

    def _sweep_deleted(self) -> None:
        """If the execution was deleted, remove what this process has saved since."""
        if self._ownership.is_deleted():
            self._writer.lost = True
            self._writer.log.sweep()

    # ------------------------------------------------------------------ beginning and ending

    def start(self, pacer: Scheduler, interrupt: Interrupt) -> None:
        """Begin what happens beside the flow: timed checkpoints, and the end of its time.

        Args:
            pacer: Does it.
            interrupt: Ends the flow's function, wherever it is.

        Raises:
            DurationExceeded: no time is left.
        """
        if (seconds := self.config.checkpoint_interval_seconds) is not None:
            pacer.every(seconds, self._save_aside)
        if (limit := self.config.max_duration_seconds) is not None:
            left = limit - self._ownership.active_seconds() + self._dead_seconds
            if left <= 0:
                self._overdue = True
                self.require_time()
            pacer.after(left, lambda: self._expire(pacer, interrupt, limit))

    def _expire(self, pacer: Scheduler, interrupt: Interrupt, limit: float) -> None:
        """End the flow, unless Prefect knows of a pause meanwhile that this process has waited."""
        left = 0.0
        try:
            left = limit - self._ownership.active_seconds_now() + self._dead_seconds
        except PrefectUnavailable as silence:
            self._logger.warning("Could not ask Prefect for the run's active time: %s", silence)
        if left > 1:
            pacer.after(left, lambda: self._expire(pacer, interrupt, limit))
            return
        self._overdue = True
        self._save_aside()
        if interrupt.now():
            pacer.after(EXIT_PATIENCE, self._end_process)

    def require_time(self) -> None:
        """Go on only as long as `max_duration_seconds` lets it.

        Raises:
            DurationExceeded: the time is over.
        """
        if self._overdue:
            raise self._out_of_time()

    @property
    def _dead_seconds(self) -> float:
        return self._writer.head.entry.dead_seconds

    def _out_of_time(self) -> DurationExceeded:
        return DurationExceeded(self.id, self.config.max_duration_seconds or 0)

    def _end_process(self) -> None:
        """End the process of a flow that does not end by itself, if it is Prefect's to end."""
        self._logger.error("%s It did not stop in %.0f s.", self._out_of_time(), EXIT_PATIENCE)
        try:
            self._ownership.fail(f"{self._out_of_time()}")
        except (ExecutionError, Pause) as error:
            self._logger.error("Prefect could not be told: %s", error)
        if os.environ.get("PREFECT__FLOW_RUN_ID") == str(self._ownership.run.id):
            os._exit(1)

    def finish(self) -> None:
        """The function has returned: save what it left, and leave if the run was taken away."""
        patiently(self.checkpoint)
        with self._leaving(), self._yielding():
            patiently(self._writer.flush)
        self.disown()
        self._ended(Status.COMPLETED, None)

    def disown(self) -> None:
        """Leave if the run is no longer this process's: its result or failure counts no more."""
        with self._leaving():
            self._heed(self._ownership.check)

    def fail(self, failure: BaseException) -> None:
        """The function has raised: save what it published, and let it be tried again if it may.

        Returns when this process shall try again; a worker does where there is one.

        Args:
            failure: What it raised: an error, or what ends a process.
        """
        try:
            self._fail(failure)
        except Pause as pause:
            if pause.state is not None:
                self._ended(STATUS_OF_TYPE[pause.state.type], pause.state.message)
            raise
        except Exception as error:
            self._ended(Status.FAILED, f"{type(error).__name__}: {error}")
            raise

    def _fail(self, failure: BaseException) -> None:
        self._save_aside(patient=isinstance(failure, Pause))
        if isinstance(failure, Pause):
            self._complete_pause()
            raise failure
        if self._overdue and not isinstance(failure, DurationExceeded):
            self.disown()
            raise self._out_of_time() from failure
        if not isinstance(failure, Exception):
            raise failure
        self.disown()
        retries, most = self._writer.head.entry.retries, self.config.max_retries or 0
        if retries >= most or isinstance(failure, _NEVER_MENDS):
            raise failure
        reason = f"{type(failure).__name__}: {failure}"[:500]
        log, answers = self._writer.log, self._ownership.attempt_id
        with self._yielding():
            try:
                patiently(
                    lambda: self._writer.append(
                        lambda head: log.retry(head, answers=answers, reason=reason)
                    )
                )
            except StoreUnavailable as away:
                if self._ownership.can_be_rescheduled:  # a supervisor counts the retry
                    why = f"{reason}. {away}"
                    patiently(lambda: self._ownership.give_up(why))
                raise
            self._retry(f"Retry {retries + 1} of {most} after {reason}")

    def _complete_pause(self) -> None:
        """Let the Resume form offer what was just saved; where that fails, a supervisor does it."""
        try:
            self._ownership.complete_pause(self._resume_form)
        except ExecutionError as failure:
            self._logger.info("The Resume form is left to the supervisor: %s", failure)

    def _retry(self, message: str) -> None:
        delay = timedelta(seconds=self.config.retry_delay_seconds or 0)
        self._logger.warning("%s", message)
        if self._ownership.can_be_rescheduled:
            patiently(lambda: self._ownership.retry_elsewhere(delay, message))
        self._ownership.retry_here(delay, message, self._closed.wait)

    def on_close(self, close: Callable[[], object]) -> None:
        """Let `close` call this, too."""
        self._resources.callback(close)

    def close(self) -> None:
        """Let go of what the run holds; a task that outlives the flow can't save any more."""
        self._closed.set()
        self._writer.close()
        self._looks.close()
        self._resources.close()


def patiently(act: Callable[[], R]) -> R:
    """Do what has to be done; wait for a store or a Prefect server that is just being restarted."""
    deadline = monotonic() + STORE_PATIENCE
    while True:
        try:
            return act()
        except (StoreUnavailable, PrefectUnavailable) as away:
            if monotonic() > deadline:
                raise
            get_run_logger().warning("%s Trying again.", away)
            threading.Event().wait(STORE_PAUSE)
