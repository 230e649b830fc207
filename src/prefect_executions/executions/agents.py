"""Executions of external agents: programs in any language that report over REST.

Such an execution is a flow run too, of a deployment that no worker can run. So the Prefect UI shows
it, and the agent learns what was done there from the answer to its next report.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.config import Status
from prefect_executions.errors import ExecutionConflict, Superseded
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.plans import EMPTY
from prefect_executions.executions.rules import (
    act_on_report,
    enforce_duration,
    require_reportable,
    require_startable,
)
from prefect_executions.executions.views import execution_of
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.log.results import require_result
from prefect_executions.models import Begun, Execution, Standing
from prefect_executions.prefect.events import beat_of_run, last_sign
from prefect_executions.prefect.pauses import take_choice
from prefect_executions.prefect.resume_form import go_back
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import OUTSIDE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExternalAgents:
    """Takes the reports of external agents: an attempt begins, is alive, completes or fails.

    Every method raises `ExecutionConflict` for an execution that a worker runs.

    Args:
        executions: The executions.
    """

    executions: Executions

    def begin(self, execution_id: str) -> Begun:
        """Begin an attempt: from now on only the caller runs the execution.

        The caller continues from `state` in the answer, and reports as attempt `prefect.attempt`.
        Older attempts are refused from then on, so an agent that was restarted can begin at once.

        Raises:
            ExecutionConflict: it is paused, has ended, waits for a retry, or has no time left.
        """
        run = self._run(execution_id, "begin an attempt of")
        require_startable(run)
        log = self.executions.log(execution_id)
        flow_runs = self.executions.flow_runs
        warn = partial(logger.warning, "%s: %s", execution_id)
        states = flow_runs.states(run)
        take_choice(flow_runs.client, run.id, states, lambda answer: go_back(log, answer, warn))
        admitted = run

        def admit(head: Head) -> float:
            nonlocal admitted
            admitted = flow_runs.read(run.id)
            require_startable(admitted)
            if not state_of(admitted).is_running():
                return 0
            if head.entry.kind is Kind.RESULT:  # its agent is completing it, or died before that
                admitted = flow_runs.complete(admitted)
                require_startable(admitted)
            return self._dead_seconds(admitted, head)

        head = log.attempt(admit)
        run = flow_runs.start(admitted)
        run = enforce_duration(flow_runs, run, head, self.executions.clock())
        if status_of(run) is Status.FAILED:
            hint = "It was active for longer than its max_duration_seconds."
            raise ExecutionConflict(execution_id, "begin an attempt of", Status.FAILED, hint)
        beat_of_run(run.id, run.name)
        execution = self._execution(run, log)
        return Begun(**dict(execution))

    def heartbeat(self, execution_id: str, attempt: int) -> Standing:
        """Report that an attempt is alive; the answer says whether it should go on.

        Raises:
            Superseded: it is not the newest, or another one is about to begin.
            ExecutionConflict: the execution has ended.
        """
        run = self._run(execution_id, "keep alive")
        run = self.executions.flow_runs.end_cancelling(run)
        head = self.executions.log(execution_id).living_head(journal=False)
        require_reportable(run, head, attempt)
        beat_of_run(run.id, run.name)
        status = act_on_report(self.executions.flow_runs, run, head, self.executions.clock())
        return Standing(status=status, attempt=attempt)

    def complete(
        self,
        execution_id: str,
        *,
        state: Any = EMPTY,
        result: Any = None,
        attempt: int | None = None,
    ) -> Execution:
        """Report that an execution is done.

        Args:
            execution_id: Its id.
            state: Its last state; by default the newest that was saved.
            result: Its result, as JSON.
            attempt: The attempt that reports; refused if it is not the newest.

        Raises:
            StateError: the state or the result can't be kept, or is too large; nothing was changed.
            Superseded: the attempt is not the newest, or another one is about to begin.
            ExecutionConflict: it has ended already, in another way.
        """
        require_result(result)
        run = self._run(execution_id, "complete")
        log = self.executions.log(execution_id)
        if status_of(run) is Status.COMPLETED:  # by an earlier call
            return self._execution(run, log)
        head = self._save_last_state(run, log, state, attempt)
        if head.entry.kind is not Kind.RESULT:
            log.result(head, result)
        run = self.executions.flow_runs.complete(run)
        return self._execution(run, log)

    def fail(
        self,
        execution_id: str,
        *,
        error: str,
        state: Any = EMPTY,
        attempt: int | None = None,
    ) -> Execution:
        """Report that an attempt has failed; it is tried again while retries are left.

        Args:
            execution_id: Its id.
            error: What happened.
            state: The last state; by default the newest that was saved.
            attempt: The attempt that reports; refused if it is not the newest.

        Raises:
            StateError: the state can't be kept; nothing was changed.
            Superseded: the attempt is not the newest, or another one is about to begin.
            ExecutionConflict: it has ended already.
        """
        run = self._run(execution_id, "fail")
        log = self.executions.log(execution_id)
        head = self._save_last_state(run, log, state, attempt)
        config = head.created.config
        answers = state_of(run).id.hex
        granted = head.entry.kind is Kind.RETRY and head.entry.answers == answers
        if not granted and head.entry.retries < (config.max_retries or 0):
            head = log.retry(head, answers=answers, reason=error)
            granted = True
        if granted:
            delay = timedelta(seconds=config.retry_delay_seconds or 0)
            message = f"Retry {head.entry.retries} of {config.max_retries} after: {error}"
            self.executions.flow_runs.retry(run, at=datetime.now(UTC) + delay, message=message)
            run = self.executions.flow_runs.read(run.id)
        else:
            run = self.executions.flow_runs.fail(run, error)
        return self._execution(run, log)

    def _run(self, id_: str, operation: str) -> FlowRun:
        run = self.executions.run(id_)
        if OUTSIDE not in run.tags:
            hint = "A deployment runs it, and its flow does that."
            raise ExecutionConflict(id_, operation, status_of(run), hint)
        return run

    def _dead_seconds(self, run: FlowRun, head: Head) -> float:
        """How many seconds ago the agent of a run last reported."""
        since = max(state_of(run).timestamp, head.entry.at)
        alive = last_sign(self.executions.flow_runs.client, run.id, since)
        return max((self.executions.clock() - alive).total_seconds(), 0)

    def _save_last_state(
        self, run: FlowRun, log: ExecutionLog, state: Any, attempt: int | None
    ) -> Head:
        """Save the last state, unless an earlier call has; return the head after that."""
        data = None if state is EMPTY else serialization.dump(state)
        head = log.living_head()
        if not self._is_repeated(run, head, attempt):
            run = self.executions.flow_runs.end_cancelling(run)
            require_reportable(run, head, attempt)
        if data is None or data == head.state:
            return head
        try:
            saved = log.checkpoint(head, data)
        except Superseded:  # perhaps only by what somebody else was about to do
            return self._save_last_state(run, log, state, head.entry.attempt)
        self.executions.tell(run.id, run.name, saved.entry)
        return saved

    def _is_repeated(self, run: FlowRun, head: Head, attempt: int | None) -> bool:
        """Whether an earlier call has ended this attempt in the log, but not yet in Prefect."""
        mine = attempt is None or attempt == head.entry.attempt
        ended = head.entry.kind is Kind.RESULT or (
            head.entry.kind is Kind.RETRY and head.entry.answers == state_of(run).id.hex
        )
        return mine and ended and state_of(run).is_running()

    def _execution(self, run: FlowRun, log: ExecutionLog) -> Execution:
        now = self.executions.clock()
        return execution_of(run, log.read(checkpoints=100), now, states=False)
