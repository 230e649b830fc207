"""One attempt of an execution, in one process: it begins, ends, fails, or is tried again."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import uuid4

from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.logging import get_run_logger

from prefect_executions.background import Scheduler
from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.errors import (
    DurationExceeded,
    ExecutionError,
    NotAnExecution,
    StateError,
    StoreUnavailable,
)
from prefect_executions.prefect.artifacts import AttemptPage
from prefect_executions.prefect.states import STATUS_OF_TYPE
from prefect_executions.prefect.temporary_server import restart_if_interrupted
from prefect_executions.runtime.checkpoints import Checkpointer, patiently
from prefect_executions.runtime.effects import EffectGuard
from prefect_executions.runtime.failures import FailedResult, never_mends
from prefect_executions.runtime.flow_timeout import FlowTimeout
from prefect_executions.runtime.interrupts import Interrupt
from prefect_executions.runtime.ownership import Ownership
from prefect_executions.runtime.pauses import SETTLE_PATIENCE
from prefect_executions.runtime.results import json_of
from prefect_executions.runtime.run import Run
from prefect_executions.runtime.time_limit import TimeLimit
from prefect_executions.runtime.waiting import Waiting
from prefect_executions.runtime.way_back import way_back
from prefect_executions.runtime.writer import Durability
from prefect_executions.serialization import JsonType
from prefect_executions.steps.recorder import Recorder
from prefect_executions.stores.store import ExecutionStore

S = TypeVar("S")

LAST_PATIENCE = 10.0  # as `SETTLE_PATIENCE`, where the process is being ended: killed in 30 s

_current: ContextVar["Attempt[Any] | None"] = ContextVar("current_attempt", default=None)


@dataclass(frozen=True)
class Options(Generic[S]):
    """What `@execution` says of a flow.

    Args:
        store: Loads the store.
        state_type: The type of the state.
        config: The flow's own settings.
        durability: When what it saves is durable.
        migrate: Makes of an older state, as JSON, one that fits the type.
        initial: Makes the first state, as JSON, of an execution created without one.
    """

    store: Callable[[], ExecutionStore]
    state_type: JsonType[S]
    config: ExecutionConfig
    durability: Durability
    migrate: Callable[[Any], Any] | None
    initial: Callable[[], bytes] = lambda: b"{}"

    def keep(self, function: Callable[..., Any]) -> None:
        """Let `of` find them with the function of a flow."""
        function.__execution__ = self  # type: ignore[attr-defined]

    @staticmethod
    def of(function: Callable[..., Any]) -> "Options[Any] | None":
        """Those of a flow's function, or None where it is not decorated with `@execution`."""
        options: Options[Any] | None = getattr(function, "__execution__", None)
        return options


class Attempt(Generic[S]):
    """One attempt of an execution; `begin_attempt` makes it.

    Attributes:
        run: The execution, as the flow sees it.
        recorder: Records the steps.
        state_type: The type of the state.
        ownership: The ownership of the flow run.
        task: The asyncio task that calls the flow's function, where it is async.
    """

    def __init__(
        self,
        run: Run[S],
        recorder: Recorder,
        state_type: JsonType[S],
        *,
        ownership: Ownership,
        waiting: Waiting,
        checkpoints: Checkpointer,
        time_limit: TimeLimit,
        flow_timeout: FlowTimeout,
        effects: EffectGuard,
        page: AttemptPage,
    ) -> None:
        self.run = run
        self.recorder = recorder
        self.state_type = state_type
        self.ownership = ownership
        self.task: asyncio.Task[Any] | None = None
        self._waiting = waiting
        self._checkpoints = checkpoints
        self._time_limit = time_limit
        self._flow_timeout = flow_timeout
        self._effects = effects
        self._page = page
        self._resources = ExitStack()
        self._logger = get_run_logger()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let `current_attempt` be this one, and record the steps that the body calls."""
        token = _current.set(self)
        try:
            with self.recorder.entered():
                yield
        finally:
            _current.reset(token)

    def start(self, scheduler: Scheduler, interrupt: Interrupt) -> None:
        """Begin the timed checkpoints, and to watch the time.

        Args:
            scheduler: Does it.
            interrupt: Ends the flow's function when the time is over.

        Raises:
            DurationExceeded: No time is left.
        """
        if (seconds := self.run.config.checkpoint_interval_seconds) is not None:
            scheduler.every(seconds, self._checkpoints.save_published)
        self._time_limit.start(scheduler, interrupt)

    def require_time(self) -> None:
        """Check that there is time left.

        Raises:
            DurationExceeded: The time is over.
        """
        self._time_limit.require()

    def finish(self, status: Status, returned: Any) -> None:
        """End in this status, in which Prefect will show the run; leave where it was taken away.

        Args:
            status: The status.
            returned: What the function has returned: the result, where it is JSON.
        """
        self._settle(SETTLE_PATIENCE)
        self._effects.require_none()
        patiently(self.run.checkpoint)
        patiently(self._checkpoints.flush)
        self._checkpoints.check_ownership()
        if status is Status.COMPLETED and returned is not None:
            self._keep_result(returned)
        self._page.ended(status, None)

    def _keep_result(self, returned: Any) -> None:
        try:
            result = json_of(returned)
        except StateError as problem:
            self._logger.warning("What the flow returned is not kept: %s", problem)
        else:
            nonce = uuid4().hex
            patiently(lambda: self._checkpoints.append_result(result, nonce=nonce))

    def fail(self, failure: BaseException) -> None:
        """Save what was published, and try again if that is allowed.

        Returns when this process is to try again; with a deployment a worker does.

        Args:
            failure: What the function raised: an error, or what ends a process.
        """
        try:
            self._fail(self._flow_timeout.error_of(failure))
        except Pause as pause:
            if pause.state is not None:
                self._page.ended(STATUS_OF_TYPE[pause.state.type], pause.state.message)
            raise
        except Exception as error:
            self._page.ended(Status.FAILED, f"{type(error).__name__}: {error}")
            raise

    def _settle(self, patience: float) -> None:
        """Let the steps that are being carried out end, and be recorded, before nothing can be."""
        for step in self.recorder.in_flight.settle(patience):
            self._logger.warning(
                "The step %r has not ended %.0f s after the flow; its result is not recorded.",
                step,
                patience,
            )

    def _fail(self, failure: BaseException) -> None:
        if not (isinstance(failure, Exception | Pause) or self._time_limit.is_over):
            self._interrupted()
        is_urgent = self._time_limit.is_over or not isinstance(failure, Exception | Pause)
        self._settle(LAST_PATIENCE if is_urgent else SETTLE_PATIENCE)
        self._checkpoints.save_last(failure, patience=LAST_PATIENCE if is_urgent else None)
        if isinstance(failure, Pause):
            left = failure
            pause = patiently(lambda: self._waiting.pause_with(left))
            self._complete_pause()
            raise pause
        if self._time_limit.is_over and not isinstance(failure, DurationExceeded):
            self._checkpoints.check_ownership()
            raise self._time_limit.error from failure
        if not isinstance(failure, Exception):
            raise failure
        self._checkpoints.check_ownership()
        if never_mends(failure):
            raise failure
        self._retry(failure)

    def _interrupted(self) -> None:
        """The process is being ended: say how to go on, where no worker does."""
        way = way_back(self.ownership.context.flow, self.run.id)
        if self.ownership.is_alone and way is not None:
            self._logger.warning("Interrupted. To go on: %s", way)
        restart_if_interrupted()

    def _complete_pause(self) -> None:
        """Let the Resume form offer what was just saved; where that fails, a supervisor does it."""
        try:
            self._waiting.complete_pause()
        except ExecutionError as failure:
            self._logger.info("The Resume form is left to the supervisor: %s", failure)

    def _retry(self, failure: Exception) -> None:
        """Count a retry and make it, here or in another process; raise the failure if none is left.

        Where Prefect's engine makes it, the failure is raised, too.

        Raises:
            StoreUnavailable: The retry could not be counted, and no supervisor can do it.
        """
        retries, most = self._checkpoints.head.entry.retries, self.run.config.max_retries or 0
        if retries >= most:
            raise failure
        reason = f"{type(failure).__name__}: {failure}"[:500]
        answers = self.ownership.attempt_id
        try:
            patiently(lambda: self._checkpoints.append_retry(answers=answers, reason=reason))
        except StoreUnavailable as away:
            if self.ownership.can_be_rescheduled:  # a supervisor counts the retry
                why = f"{reason}. {away}"
                patiently(lambda: self.ownership.give_up(why))
            raise
        message = f"Retry {retries + 1} of {most} after {reason}"
        delay = timedelta(seconds=self.run.config.retry_delay_seconds or 0)
        self._logger.warning("%s", message)
        if self.ownership.can_be_rescheduled:
            with self._checkpoints.leaving():
                patiently(lambda: self._waiting.retry_elsewhere(delay, message))
        if self._flow_timeout.seconds is not None:
            patiently(lambda: self._flow_timeout.let_prefect_retry(self.ownership.client, delay))
            raise RuntimeError(message) if isinstance(failure, FailedResult) else failure
        self._waiting.retry_here(delay, message, self._checkpoints.closed.wait)

    def on_close(self, close: Callable[[], object]) -> None:
        """Let `close` call this, too."""
        self._resources.callback(close)

    def close(self) -> None:
        """End the attempt; a task that outlives the flow can't save any more."""
        self._checkpoints.close()
        self.recorder.close()
        self._resources.close()


def running_attempt() -> Attempt[Any] | None:
    """The attempt that this code runs in; None when it runs in none."""
    return _current.get()


def current_attempt() -> Attempt[Any]:
    """The attempt that this code runs in.

    Raises:
        NotAnExecution: It runs in none.
    """
    attempt = _current.get()
    if attempt is None:
        raise NotAnExecution(_why_none())
    return attempt


def _why_none() -> str:
    """Why no execution runs here, and what to do."""
    context = FlowRunContext.get()
    if context is None or context.flow is None:
        return (
            "no flow runs here; call this inside a flow decorated with `@flow` above `@execution`"
        )
    code = context.flow.fn.__code__
    return (
        f"the flow {context.flow.name!r} ({code.co_filename}:{code.co_firstlineno}) is no "
        "execution: put `@execution` below its `@flow`, and run it again; if it is deployed, "
        "`prefect deploy` it again"
    )
