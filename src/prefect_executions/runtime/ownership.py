"""Whether this process still owns its flow run, and the ways in which it leaves it."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.states import AwaitingRetry, Crashed

from prefect_executions.errors import ExecutionConflict, NotAnExecution, PrefectUnavailable
from prefect_executions.prefect.states import active_time, state_of, uncovered
from prefect_executions.prefect.tags import DELETING
from prefect_executions.prefect.transitions import fail, find_run, follow_up, read_states, restore

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # seconds between two checks, on average
CHECK_BURST = 10  # how many checks may follow each other faster than that
CHECK_PATIENCE = 5.0  # seconds to wait for the result of a check


class Ownership:
    """This process's ownership of its flow run, which a pause, an end or a restart takes away.

    A process owns its run as long as the run is in the very Running state that the process set
    when it started: that state's id is the attempt's identity. A process that has lost its run
    leaves as Prefect's own tasks do, by raising `Pause`: the process ends with exit code 0 and the
    run keeps its state.

    Args:
        context: The flow run that this process runs.
        client: Prefect's client.
        parent: The ownership of the run of the execution that this one was called in.

    Attributes:
        context: The flow run that this process runs.
        states: The states that the run has had by `check_start`, oldest first.

    Raises:
        NotAnExecution: There is no flow run in the context.
    """

    def __init__(
        self,
        context: FlowRunContext,
        client: SyncPrefectClient,
        parent: "Ownership | None" = None,
    ) -> None:
        if context.flow_run is None or context.flow_run.state is None:
            raise NotAnExecution("an execution needs a flow run; put `@flow` above `@execution`")
        self.client = client
        # In the state that this process owns. A copy: Prefect's engine changes its own run.
        self.run = context.flow_run.model_copy()
        self.parent = None if parent is None or parent.run.id == self.run.id else parent
        # As its author says, or a hash of its file.
        self.version = context.flow.version if context.flow is not None else None
        self.context = context
        self.states: list[State[Any]] = []

    @property
    def attempt_id(self) -> str:
        """The id of the Running state that this process owns, in hex."""
        return state_of(self.run).id.hex

    @property
    def can_be_rescheduled(self) -> bool:
        """Whether a worker can continue the run: it has a deployment."""
        return self.run.deployment_id is not None

    @property
    def is_alone(self) -> bool:
        """Whether nobody but this process can go on: no worker, and no execution around it."""
        return self.parent is None and not self.can_be_rescheduled

    @property
    def can_leave(self) -> bool:
        """Whether the process can end when the run pauses, since a worker starts another.

        It starts it for the outermost of the executions that were called in each other.
        """
        return self.can_be_rescheduled if self.parent is None else self.parent.can_leave

    def around(self) -> set[UUID]:
        """The runs of the executions that this one was called in."""
        return set() if self.parent is None else {self.parent.run.id, *self.parent.around()}

    def active_seconds(self) -> float:
        """How long the run was Running when this process began, over all its attempts."""
        return active_time(self.run, state_of(self.run).timestamp).total_seconds()

    def active_seconds_now(self) -> float:
        """How long the run has been Running until now; reads it from Prefect."""
        run = find_run(self.client, self.run.id)
        return 0.0 if run is None else active_time(run, datetime.now(UTC)).total_seconds()

    # ------------------------------------------------------------------ checking

    def check(self) -> None:
        """Read the run from Prefect, and leave if it is not this process's any more.

        Raises:
            Pause: It is not.
            PrefectUnavailable: Prefect does not answer, so nothing is known.
        """
        run = find_run(self.client, self.run.id)
        if run is None:
            raise Pause(state=None)
        if state_of(run).id != state_of(self.run).id and not _woke_up(self.client, self.run, run):
            raise Pause(state=run.state)
        self.run = run
        if self.parent is not None:
            self.parent.check()

    def check_start(self) -> None:
        """Leave if this process should not have started, or the run is not its own.

        Prefect lets a starting process set Running over a Suspended or Cancelled that came too late
        to stop it. Such a state is set again.
        """
        self.check()
        self.states = read_states(self.client, self.run.id)
        own = state_of(self.run).id
        last = next((state for state in reversed(self.states) if state.id != own), None)
        covered = None if last is None else uncovered(last)
        if covered is not None:
            _require_own(self.client, self.run)
            restore(self.client, self.run.id, covered)
            self.leave()

    def check_signal(self) -> None:
        """Leave if Prefect has signalled this process that its run is suspended; sends no request.

        Raises:
            Pause: It has.
        """
        self.context.flow_run_suspension_request.raise_if_requested()

    def is_pausing(self) -> bool:
        """Whether the flow leaves, and another process goes on or will; sends no request."""
        state = self.context.flow_run_suspension_request.get_state()
        return state is not None and not (state.is_final() or state.is_cancelling())

    def is_deleted(self) -> bool:
        """Whether the run is deleted in Prefect, or being deleted.

        Returns False when Prefect does not answer.
        """
        try:
            run = find_run(self.client, self.run.id)
        except PrefectUnavailable:
            return False
        return run is None or DELETING in run.tags

    # ------------------------------------------------------------------ leaving

    def leave(self) -> NoReturn:
        """Leave the process; the run keeps its state."""
        run = find_run(self.client, self.run.id)
        raise Pause(state=None if run is None else run.state)

    def put(self, state: State[Any], operation: str) -> State[Any]:
        """Set the state of the run; leave if the run is not this process's any more.

        Prefect itself would let a retry or a crash replace a pause or a cancellation.

        Raises:
            Pause: The run is not this process's any more.
            ExecutionConflict: Prefect refuses.
        """
        _require_own(self.client, self.run)
        try:
            after = follow_up(self.client, self.run, state, operation)
        except ExecutionConflict:
            _require_own(self.client, self.run)
            raise
        if after is None:
            self.leave()
        return state_of(after)

    def leave_by(self, pause: Pause) -> None:
        """Let the flow leave at its next call of Prefect or of this package.

        A task that leaves in a thread does not end the flow: the flow may never ask for its result.
        The execution that this one was called in leaves, too, unless this one has ended.
        """
        request = self.context.flow_run_suspension_request
        state = pause.state
        if state is None and (run := find_run(self.client, self.run.id)) is not None:
            state = run.state
        if self.parent is not None and state is not None and _has_ended(state):
            return
        if state is not None and not request.is_requested():
            request.mark_requested(state)

    def yield_run(self) -> NoReturn:
        """Leave a run whose log has a roll-back or another attempt after this process's entries.

        If the run is still this process's in Prefect, because a roll-back came just as the process
        started, it is scheduled for another attempt: it would be left without a process. Without a
        deployment it crashes, as no other process can be started.
        """
        message = "Superseded in the log"
        if not self.can_be_rescheduled:
            self.give_up(message)
        self.put(AwaitingRetry(message=message), "continue")
        self.leave()

    def give_up(self, message: str) -> NoReturn:
        """Leave the run as crashed; a supervisor retries it if it has retries left."""
        self.put(Crashed(message=message), "end")
        self.leave()

    def fail(self, message: str) -> None:
        """Fail the run, if it is still this process's, without leaving it."""
        fail(self.client, self.run, message)


def _require_own(client: SyncPrefectClient, run: FlowRun) -> None:
    """Check that a run is still in the state in which it was read.

    Raises:
        Pause: It is not.
    """
    now = find_run(client, run.id)
    if now is None or state_of(now).id != state_of(run).id:
        raise Pause(state=None if now is None else now.state)


def _woke_up(client: SyncPrefectClient, own: FlowRun, now: FlowRun) -> bool:
    """Whether a run is Running in the same process again, after a `pause_flow_run` that kept it.

    The run of any other process has been Pending in between.
    """
    if not state_of(now).is_running():
        return False
    states = read_states(client, own.id)
    began = [known.timestamp for known in states if known.id == state_of(own).id]
    return bool(began) and not any(
        known.is_pending() and known.timestamp > began[0] for known in states
    )


class OwnershipCheck:
    """A check that runs in a thread, and no more than about once a second.

    Args:
        check: The check.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._allowance = float(CHECK_BURST)
        self._counted_at = monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="execution-check")
        self._running: Future[None] | None = None
        self._is_new = False

    def start(self) -> None:
        """Begin a check, unless one is running, or the last ones were too recent."""
        self._is_new = self._running is None and self._take_allowance()
        if self._is_new:
            self._running = self._thread.submit(copy_context().run, self._check)

    def finish(self, *, patient: bool) -> None:
        """Raise what the check has raised; a check that still runs is left to the next call.

        Args:
            patient: Whether to wait for a check that has just begun.
        """
        running = self._running
        if running is None:
            return
        wait([running], timeout=CHECK_PATIENCE if patient and self._is_new else 0)
        if running.done():
            self._running = None
            running.result()

    def close(self) -> None:
        """Begin no more checks."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _take_allowance(self) -> bool:
        """Take a check from the allowance, which fills with time; returns False if it is empty."""
        now = monotonic()
        filled = self._allowance + (now - self._counted_at) / CHECK_SECONDS
        self._allowance, self._counted_at = min(CHECK_BURST, filled), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def _has_ended(state: State[Any]) -> bool:
    """Whether a state ends an attempt for good, or is about to."""
    return state.is_final() or state.is_cancelling()
