"""The ways in which a run waits: for a person, for another run, or for its next try."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause
from prefect.states import AwaitingRetry, Running

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import may_pass, prefect_errors
from prefect_executions.prefect.pauses import (
    Form,
    awaited_child,
    child_key,
    pause_key,
    paused,
    save_form,
)
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.suspension import renew_pause, resume
from prefect_executions.prefect.transitions import find_run
from prefect_executions.runtime.ownership import Ownership

logger = logging.getLogger(__name__)

RETRY_PAUSE = 0.05  # seconds between two tries to run again, when it is time
AWAY_PAUSE = 10.0  # seconds between two tries to reach Prefect
PAUSED_PAUSE = 1.0  # seconds between two reads of a paused run whose process waits


class Waiting:
    """Lets the run of this process wait: here, or without a process until somebody goes on.

    Args:
        ownership: The ownership of the run.
        resume_form: Makes the form that asks where to continue from.
    """

    def __init__(self, ownership: Ownership, resume_form: Callable[[], Form]) -> None:
        self._resume_form = resume_form
        self._ownership = ownership
        self._paused_id: UUID | None = None  # the pause that this process has set

    def pause(self, key: str, reason: str | None, form: Form) -> None:
        """Pause the run, and leave; where no worker goes on wait here until the run is resumed.

        Args:
            key: The key of the pause.
            reason: The message of the state.
            form: What the Resume form asks.

        Raises:
            Pause: The process ends.
        """
        own = self._ownership
        state = self._pause(key, reason)
        save_form(own.client, own.run.id, state, form)
        self._paused_id = state.id
        if own.can_leave:
            raise Pause(state=state)
        run = _wait_for_resume(own.client, own.run.id, state.id)
        own.context.flow_run, own.run = run, run.model_copy()

    def _pause(self, key: str, reason: str | None) -> State[Any]:
        own = self._ownership
        return own.put(paused(key, reason, keeps_process=not own.can_be_rescheduled), "pause")

    def pause_with(self, pause: Pause) -> Pause:
        """Pause the run, too, where the flow leaves by the pause of another; see `complete_pause`.

        That is the run of an execution that was called in this one, or in which this one was
        called; they have one process.

        Args:
            pause: By what the flow leaves.

        Returns:
            What it leaves by then.
        """
        own, state = self._ownership, pause.state
        run = find_run(own.client, own.run.id)
        other = None if state is None else state.state_details.flow_run_id
        if state is None or not state.is_paused() or other is None or other == own.run.id:
            return pause
        if run is None or state_of(run).id != state_of(own.run).id or not own.can_leave:
            return pause
        if other in own.around():
            return Pause(state=self._pause(pause_key(), state.message))
        reason = f"{execution_id(other)} waits: {state.message}"
        return Pause(state=self._pause(child_key(other), reason))

    def complete_pause(self) -> None:
        """As this process leaves, let the form of a pause offer all that the process has saved.

        A pause over REST has had its form since before the process saved its last checkpoint. A run
        that waits for another is resumed if somebody has resumed that one already.
        """
        own = self._ownership
        run = find_run(own.client, own.run.id)
        if run is None or state_of(run).id == self._paused_id:
            return
        renew_pause(own.client, run, self._resume_form)
        child_id = awaited_child(state_of(run))
        child = None if child_id is None else find_run(own.client, child_id)
        if child_id is not None and (child is None or not state_of(child).is_paused()):
            resume(own.client, own.run.id, wait=sleep)

    def retry_elsewhere(self, delay: timedelta, message: str) -> NoReturn:
        """Leave the run to a worker, which continues it after `delay`."""
        at = datetime.now(UTC) + delay
        self._ownership.put(AwaitingRetry(scheduled_time=at, message=message), "retry")
        self._ownership.leave()

    def retry_here(self, delay: timedelta, message: str, wait: Callable[[float], bool]) -> None:
        """Wait, and let this process run the run again.

        Args:
            delay: How long to wait.
            message: The message of the state meanwhile.
            wait: Sleeps for so many seconds; returns True when it was interrupted.
        """
        at = datetime.now(UTC) + delay
        own = self._ownership
        waiting = _wait_for_retry(own, AwaitingRetry(scheduled_time=at, message=message))
        run = None
        while run is None:
            interrupted = wait(max((at - datetime.now(UTC)).total_seconds(), RETRY_PAUSE))
            try:
                run = _run_again(own, waiting, interrupted=interrupted)
            except PrefectUnavailable as away:
                if interrupted:
                    raise
                _outlast(away)
        # Prefect's engine does the same when it runs a flow again in its process.
        own.context.flow_run = run


def _wait_for_resume(client: SyncPrefectClient, run_id: UUID, pause_id: UUID) -> FlowRun:
    """Wait until a paused run is Running again, and return it.

    Raises:
        Pause: The run has been ended or deleted.
    """
    while True:
        sleep(PAUSED_PAUSE)
        try:
            run = find_run(client, run_id)
        except PrefectUnavailable as away:
            _outlast(away)
            continue
        if run is None or not (state_of(run).is_running() or state_of(run).id == pause_id):
            raise Pause(state=None if run is None else run.state)
        if state_of(run).is_running():
            return run


def _wait_for_retry(own: Ownership, state: State[Any]) -> State[Any]:
    """Set a state in which the run waits, however often Prefect's answer is lost."""
    while True:
        try:
            return own.put(state, "retry")
        except Pause as pause:
            found = pause.state
            if found is None or (found.name, found.message) != (state.name, state.message):
                raise
            return found
        except PrefectUnavailable as away:
            _outlast(away)


def _run_again(own: Ownership, waiting: State[Any], *, interrupted: bool) -> FlowRun | None:
    """Set a run Running again that waits for a retry. Returns None when it is too early."""
    client, run_id = own.client, own.run.id
    run = find_run(client, run_id)
    if interrupted or run is None:
        own.leave()
    if state_of(run).id == waiting.id:
        with prefect_errors(run_id):
            running: State[Any] = Running()
            answer = client.set_flow_run_state(run_id, running)
        if answer.status is SetStateStatus.WAIT:  # by Prefect's clock
            return None
        run = find_run(client, run_id)
    # Where the answer was lost the run is Running: without a deployment no other process sets that.
    if run is None or not state_of(run).is_running():
        own.leave()
    return run


def _outlast(away: PrefectUnavailable) -> None:
    """Wait for Prefect, however long that takes: no other process could continue the run.

    Raises:
        PrefectUnavailable: Waiting does not help.
    """
    if not may_pass(away):
        raise away
    logger.warning("Waiting for Prefect: %s", away)
    sleep(AWAY_PAUSE)
