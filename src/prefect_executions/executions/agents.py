"""Executions that agents outside Prefect run, in any language: they report over REST.

Such an execution is a flow run, too, of a deployment that has nothing a worker could run. So the
Prefect UI shows it, and what is done there reaches the agent in the answer to its next report.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.errors import ExecutionConflict, StateError
from prefect_executions.executions.creation import EMPTY
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.views import execution_of
from prefect_executions.ids import execution_id
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.models import Begun, Execution, Standing, Status
from prefect_executions.prefect.events import beat_of_run, last_sign
from prefect_executions.prefect.pauses import take_choice
from prefect_executions.prefect.resume_form import go_back
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import OUTSIDE

logger = logging.getLogger(__name__)

RESULT_BYTES = 256 << 10  # of a result as JSON; it is read with the head of the log


@dataclass(frozen=True)
class ExternalAgents:
    """What agents outside Prefect do.

    Every method raises `ExecutionConflict` for an execution that a deployment runs.

    Args:
        executions: The executions.
    """

    executions: Executions

    def begin(self, execution_id: str) -> Begun:
        """Begin an attempt: from now on the caller runs the execution, and nobody else.

        It continues from `state` in the answer, and reports as attempt `prefect.attempt`. An older
        attempt is refused from then on, so an agent that was restarted may begin at once.

        Raises:
            ExecutionConflict: it is paused, has ended, waits for a retry, or has no time left.
        """
        run = self._run(execution_id, "begin an attempt of")
        self._require_startable(run)
        log = self.executions.log(execution_id)
        flow_runs = self.executions.flow_runs
        told = partial(logger.warning, "%s: %s", execution_id)
        states = flow_runs.states(run)
        take_choice(flow_runs.client, run.id, states, lambda answer: go_back(log, answer, told))
        admitted = run

        def admit(head: Head) -> float:
            nonlocal admitted
            admitted = flow_runs.read(run.id)
            self._require_startable(admitted)
            if not state_of(admitted).is_running():
                return 0
            if head.entry.kind is Kind.RESULT:  # its agent completes it, or has died before
                admitted = flow_runs.complete(admitted)
                self._require_startable(admitted)
            return self._dead_seconds(admitted, head)

        head = log.attempt(admit)
        run = flow_runs.start(admitted)
        if self.executions.standing(run, head) is Status.FAILED:
            hint = "It was active for longer than its max_duration_seconds."
            raise ExecutionConflict(execution_id, "begin an attempt of", Status.FAILED, hint)
        beat_of_run(run.id, run.name)
        execution = self._execution(run, log)
        return Begun(**dict(execution))

    def heartbeat(self, execution_id: str, attempt: int) -> Standing:
        """Say that an attempt is alive, and learn whether it should go on.

        Raises:
            Superseded: it is not the newest, or another one is to begin.
            ExecutionConflict: the execution has ended.
        """
        run = self._run(execution_id, "keep alive")
        head = self.executions.head_for(run, self.executions.log(execution_id), attempt)
        beat_of_run(run.id, run.name)
        return Standing(status=self.executions.standing(run, head), attempt=attempt)

    def complete(
        self,
        execution_id: str,
        *,
        state: Any = EMPTY,
        result: Any = None,
        attempt: int | None = None,
    ) -> Execution:
        """Say that an execution is done.

        Args:
            execution_id: Its id.
            state: Its last state; by default the newest that was saved.
            result: What it has come to, as JSON.
            attempt: Only as this attempt, if it is the newest.

        Raises:
            StateError: the state or the result can't be kept, or is too large; nothing was changed.
            Superseded: the attempt is not the newest, or another one is to begin.
            ExecutionConflict: it has ended already, in another way.
        """
        size = len(serialization.dump(result, at="result"))
        if size > RESULT_BYTES:
            problem = f"has {size} bytes; at most {RESULT_BYTES}. Keep more in the state."
            raise StateError("result", problem)
        run = self._run(execution_id, "complete")
        log = self.executions.log(execution_id)
        if status_of(run) is Status.COMPLETED:  # as a repeat finds it
            return self._execution(run, log)
        head = self._last_state(run, log, state, attempt)
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
        """Say that an attempt has failed: it is to be tried again while retries are left.

        Args:
            execution_id: Its id.
            error: What happened.
            state: The last state; by default the newest that was saved.
            attempt: Only as this attempt, if it is the newest.

        Raises:
            StateError: the state can't be kept; nothing was changed.
            Superseded: the attempt is not the newest, or another one is to begin.
            ExecutionConflict: it has ended already.
        """
        run = self._run(execution_id, "fail")
        log = self.executions.log(execution_id)
        head = self._last_state(run, log, state, attempt)
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
        """How long ago the agent that runs a run has given its last sign of life."""
        since = max(state_of(run).timestamp, head.entry.at)
        alive = last_sign(self.executions.flow_runs.client, run.id, since)
        return max((self.executions.clock() - alive).total_seconds(), 0)

    def _require_startable(self, run: FlowRun) -> None:
        status, id_ = status_of(run), execution_id(run.id)
        if status is not Status.RUNNING:
            raise ExecutionConflict(id_, "begin an attempt of", status, "Resume it first.")
        at = state_of(run).state_details.scheduled_time
        if state_of(run).is_scheduled() and at is not None and at > datetime.now(UTC):
            hint = f"It is to be tried again at {serialization.timestamp(at)}."
            raise ExecutionConflict(id_, "begin an attempt of", status, hint)

    def _last_state(self, run: FlowRun, log: ExecutionLog, state: Any, attempt: int | None) -> Head:
        """The head, after the last state was saved; a repeat finds it saved already."""
        data = None if state is EMPTY else serialization.dump(state)
        head = log.living_head()
        if not self._is_repeated(run, head, attempt):
            self.executions.require_reportable(run, log, head, attempt)
        if data is None or data == head.state:
            return head
        saved = log.checkpoint(head, data)
        self.executions.tell(run.id, run.name, saved.entry)
        return saved

    def _is_repeated(self, run: FlowRun, head: Head, attempt: int | None) -> bool:
        """Whether this attempt has ended in the log, and Prefect does not know of it yet."""
        mine = attempt is None or attempt == head.entry.attempt
        ended = head.entry.kind is Kind.RESULT or (
            head.entry.kind is Kind.RETRY and head.entry.answers == state_of(run).id.hex
        )
        return mine and ended and state_of(run).is_running()

    def _execution(self, run: FlowRun, log: ExecutionLog) -> Execution:
        now = self.executions.clock()
        return execution_of(run, log.read(checkpoints=100), now, states=False)
