"""Whether this process still runs its flow run, and the ways in which it leaves it."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.states import AwaitingRetry, Crashed, Failed, Running

from prefect_executions.errors import (
    ExecutionConflict,
    ExecutionNotFound,
    NotAnExecution,
    PrefectUnavailable,
)
from prefect_executions.prefect.errors import may_pass, prefect_errors
from prefect_executions.prefect.pauses import (
    Form,
    asks_for_checkpoint,
    paused,
    read_answer,
    renew_form,
    save_form,
    take_choice,
)
from prefect_executions.prefect.states import (
    active_time,
    follow_up,
    hold,
    is_bare_pause,
    read_states,
    restore,
    set_state,
    state_of,
    uncovered,
)
from prefect_executions.prefect.tags import DELETING, RETENTION, tags_of

logger = logging.getLogger(__name__)

RETRY_PAUSE = 0.05  # seconds between two tries to go on, when it is time
AWAY_PAUSE = 10.0  # seconds between two tries to reach a Prefect that is away
PAUSED_PAUSE = 1.0  # seconds between two looks of a process that waits for a pause to end
LOOK_SECONDS = 1.0  # how often there is one, on average
LOOK_BURST = 10  # how many there may be at once before that counts
LOOK_PATIENCE = 5.0  # how long the answer is waited for


class Ownership:
    """Whether this process still runs its flow run, or somebody paused, ended or restarted it.

    A process owns its run as long as the run is in the very Running state that the process set
    when it started: that state's id is the attempt's identity. A process that has lost its run
    leaves as Prefect's own tasks do, by raising `Pause`: the process ends with exit code 0 and the
    run stays in whatever state it has.
    """

    def __init__(self, context: FlowRunContext, client: SyncPrefectClient) -> None:
        run = context.flow_run
        if run is None or run.state is None:
            raise NotAnExecution("an execution needs a flow run; put `@flow` above `@execution`")
        self.run = run
        self._context = context
        self._client = client
        self._state_id = run.state.id
        self._paused_id: UUID | None = None  # of the pause that this process has made
        self._states: list[State[Any]] = []  # those of the run, when it was last checked

    @classmethod
    def here(cls, client: SyncPrefectClient) -> "Ownership":
        """The ownership of the flow run that this code runs in.

        Raises:
            NotAnExecution: it runs in none.
        """
        context = FlowRunContext.get()
        if context is None:
            raise NotAnExecution("no flow run here; put `@flow` above `@execution`")
        return cls(context, client)

    @property
    def attempt_id(self) -> str:
        """The id of the Running state that this process owns, in hex."""
        return self._state_id.hex

    @property
    def version(self) -> str | None:
        """The version of the flow: as its author says, or a hash of its file."""
        return self._context.flow.version if self._context.flow is not None else None

    @property
    def can_be_rescheduled(self) -> bool:
        """Whether a worker can continue the run: it belongs to a deployment."""
        return self.run.deployment_id is not None

    def mark(self, store: str | None, *, removes: bool) -> None:
        """Tag the run as an execution, unless it is already.

        Args:
            store: The name of the store that it is kept in.
            removes: Whether something of it is to be removed by and by.
        """
        tags = [*tags_of(store), *([RETENTION] if removes else [])]
        if missing := [tag for tag in tags if tag not in self.run.tags]:
            with prefect_errors(self.run.id):
                self._client.update_flow_run(self.run.id, tags=[*self.run.tags, *missing])

    def active_seconds(self) -> float:
        """How long the run was Running when this process began, over all its attempts."""
        return active_time(self.run, state_of(self.run).timestamp).total_seconds()

    def active_seconds_now(self) -> float:
        """How long the run has been Running by now; asks Prefect."""
        run = self._read()
        return 0.0 if run is None else active_time(run, datetime.now(UTC)).total_seconds()

    def check_signal(self) -> None:
        """Leave if Prefect has told this process that its run was suspended; asks nobody."""
        self._context.flow_run_suspension_request.raise_if_requested()

    def check_start(self) -> None:
        """Leave if this process should not run after all, or the run is not its own.

        Prefect lets a starting process put Running over a Suspended or a Cancelled that came too
        late to stop it. Such a run is suspended or cancelled again.
        """
        self.check()
        self._states = read_states(self._client, self.run.id)
        last = next((state for state in reversed(self._states) if state.id != self._state_id), None)
        wanted = None if last is None else uncovered(last)
        if wanted is not None:
            self._require_own()
            restore(self._client, self.run.id, wanted)
            self.leave()

    def leave_by(self, pause: Pause) -> None:
        """Let the flow leave at its next call of Prefect or of this package.

        A task in a thread that leaves tells nobody: its future may never be asked.
        """
        request = self._context.flow_run_suspension_request
        state = pause.state
        if state is None and (run := self._read()) is not None:
            state = run.state
        if state is not None and not request.is_requested():
            request.mark_requested(state)

    def pause(self, key: str, reason: str | None, form: Form) -> None:
        """Pause the run, and leave; without a deployment wait here until somebody resumes it.

        Args:
            key: Of the pause.
            reason: What people read.
            form: What is asked in the Prefect UI.

        Raises:
            Pause: the process ends.
        """
        keeps_process = not self.can_be_rescheduled
        put = self._put(paused(key, reason, keeps_process=keeps_process), "pause")
        save_form(self._client, self.run.id, put, form)
        self._paused_id = put.id
        if not keeps_process:
            raise Pause(state=put)
        self._wait_while_paused(put)

    def complete_pause(self, form: Callable[[], Form]) -> None:
        """As this process leaves: let the Resume form of a pause offer what is saved by now.

        A pause in the Prefect UI has no form, and one over REST was made before the process has
        saved its last. What the flow has asked itself is left as it is.

        Args:
            form: What is asked.
        """
        run = self._read()
        if run is None or state_of(run).id == self._paused_id:
            return
        if is_bare_pause(state_of(run)):
            hold(self._client, run, form())
        elif asks_for_checkpoint(state_of(run)):
            renew_form(self._client, run.id, state_of(run), form())

    def _wait_while_paused(self, state: State[Any]) -> None:
        while True:
            sleep(PAUSED_PAUSE)
            try:
                run = self._read()
            except PrefectUnavailable as away:
                _outlast(away)
                continue
            if run is None:
                raise Pause(state=None)
            now = state_of(run)
            if now.id == state.id:
                continue
            if not now.is_running():
                raise Pause(state=now)
            self._state_id = now.id
            self._context.flow_run = self.run = run
            return

    def pause_ended(self, key: str) -> tuple[bool, bool]:
        """Whether the run was paused under this key, and whether somebody resumed it then."""
        states = read_states(self._client, self.run.id)
        at = [
            place
            for place, known in enumerate(states)
            if known.is_paused() and known.state_details.pause_key == key
        ]
        if not at:
            return False, False
        after = states[at[-1] + 1 :][:1]
        return True, any(state.name in ("Resuming", "Running") for state in after)

    def take_choice(self, act: Callable[[Any], None]) -> None:
        """See `pauses.take_choice`; comes after `check_start`."""
        take_choice(self._client, self.run.id, self._states, act)

    def answer(self, key: str) -> Any:
        """What was answered in the form of a pause; None: nothing."""
        return read_answer(self._client, self.run.id, key)

    def check(self) -> None:
        """Ask Prefect whether the run is still this process's, and leave if not.

        Raises:
            Pause: it is not.
            PrefectUnavailable: Prefect did not answer, so nothing is known.
        """
        run = self._read()
        if run is None:
            raise Pause(state=None)
        state = state_of(run)
        if state.id == self._state_id or self._woke_up(state):
            self.run = run
            return
        raise Pause(state=state)

    def leave(self) -> NoReturn:
        """Leave the process; the run keeps the state that it has."""
        run = self._read()
        raise Pause(state=None if run is None else run.state)

    def is_deleted(self) -> bool:
        """Whether the run is gone from Prefect, or just going; not if Prefect does not answer."""
        try:
            run = self._read()
        except PrefectUnavailable:
            return False
        return run is None or DELETING in run.tags

    def yield_run(self) -> NoReturn:
        """Leave a run whose log has a roll-back or another attempt after this process's.

        If Prefect thinks all the same that this process runs it, which is so when a roll-back came
        just as the process started, the run is scheduled for another attempt: it would have no
        process at all otherwise.

        Without a deployment it is crashed: no other process can be started.
        """
        message = "Superseded in the log"
        if not self.can_be_rescheduled:
            self.give_up(message)
        self._put(AwaitingRetry(message=message), "continue")
        self.leave()

    def retry_elsewhere(self, delay: timedelta, message: str) -> NoReturn:
        """Leave the run to a worker, which continues it after `delay`."""
        at = datetime.now(UTC) + delay
        self._put(AwaitingRetry(scheduled_time=at, message=message), "retry")
        self.leave()

    def retry_here(self, delay: timedelta, message: str, wait: Callable[[float], bool]) -> None:
        """Wait, and let this process run the run once more.

        Args:
            delay: How long.
            message: What people see meanwhile.
            wait: Pauses for so many seconds; true if that was broken off.
        """
        at = datetime.now(UTC) + delay
        waiting = self._wait_for_retry(AwaitingRetry(scheduled_time=at, message=message))
        run = None
        while run is None:
            broken_off = wait(max((at - datetime.now(UTC)).total_seconds(), RETRY_PAUSE))
            try:
                run = self._go_on(waiting, broken_off=broken_off)
            except PrefectUnavailable as away:
                if broken_off:
                    raise
                _outlast(away)
        # What the engine does too when it runs a flow once more in the same process.
        self._context.flow_run = run

    def _wait_for_retry(self, state: State[Any]) -> State[Any]:
        """Put a state in which the run waits, however often Prefect's answer is lost."""
        while True:
            try:
                return self._put(state, "retry")
            except Pause as pause:
                found = pause.state
                if found is None or (found.name, found.message) != (state.name, state.message):
                    raise
                return found
            except PrefectUnavailable as away:
                _outlast(away)

    def _go_on(self, waiting: State[Any], *, broken_off: bool) -> FlowRun | None:
        """Let the run be Running again that waits for a retry; None: it is too early for that."""
        run = self._read()
        if broken_off or run is None:
            self.leave()
        if state_of(run).id == waiting.id:
            with prefect_errors(self.run.id):
                running: State[Any] = Running()
                answer = self._client.set_flow_run_state(self.run.id, running)
            if answer.status is SetStateStatus.WAIT:  # by Prefect's clock
                return None
            run = self._read()
        # Where the answer was lost, it is Running: without a deployment by nobody else.
        if run is None or not state_of(run).is_running():
            self.leave()
        return run

    def give_up(self, message: str) -> NoReturn:
        """Leave the run as crashed: a supervisor lets another process try, if it may be tried."""
        self._put(Crashed(message=message), "end")
        self.leave()

    def fail(self, message: str) -> None:
        """End the run as failed, if it is still this process's, without leaving it."""
        run = self._read()
        if run is not None and state_of(run).id == self._state_id:
            self._put(Failed(message=message), "end", force=True)

    def _read(self) -> FlowRun | None:
        try:
            with prefect_errors(self.run.id):
                return self._client.read_flow_run(self.run.id)
        except ExecutionNotFound:
            return None

    def _put(self, state: State[Any], operation: str, *, force: bool = False) -> State[Any]:
        """Set the run's state; leave if the run is not this process's any more, unless by force.

        Prefect itself would let a retry or a crash replace a pause or a cancellation.

        Raises:
            ExecutionConflict: Prefect refuses.
        """
        if force:
            return state_of(set_state(self._client, self.run.id, state, operation, force=True))
        self._require_own()
        try:
            run = follow_up(self._client, self.run.id, self._state_id, state, operation)
        except ExecutionConflict:
            self._require_own()
            raise
        if run is None:
            self.leave()
        return state_of(run)

    def _require_own(self) -> None:
        run = self._read()
        if run is None or state_of(run).id != self._state_id:
            raise Pause(state=None if run is None else run.state)

    def _woke_up(self, state: State[Any]) -> bool:
        """Whether `state` is this process's own after a `pause_flow_run` that kept the process.

        Any other process must have gone through Pending to be running now.
        """
        if not state.is_running():
            return False
        states = read_states(self._client, self.run.id)
        own = [known.timestamp for known in states if known.id == self._state_id]
        if not own or any(known.is_pending() and known.timestamp > own[0] for known in states):
            return False
        self._state_id = state.id
        return True


def _outlast(away: PrefectUnavailable) -> None:
    """Wait for Prefect, however long that takes: no other process could go on with the run.

    Raises:
        PrefectUnavailable: it will not get better.
    """
    if not may_pass(away):
        raise away
    logger.warning("Waiting for Prefect: %s", away)
    sleep(AWAY_PAUSE)


class OwnershipCheck:
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
