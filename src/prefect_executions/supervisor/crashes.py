"""Runs whose process or worker has died: they are declared crashed, retried or started again."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State, StateType

from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import ExecutionDeleted, ExecutionNotFound
from prefect_executions.executions.creation import Creation
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.prefect.events import Heartbeats, last_beat_of_prefect, last_sign
from prefect_executions.prefect.states import is_created, state_of, status_of
from prefect_executions.prefect.suspension import CRASH_SETTLES
from prefect_executions.prefect.tags import OUTSIDE, parent_of
from prefect_executions.prefect.task_runs import end_task_runs
from prefect_executions.prefect.transitions import crash, start_again, undo_crash, undo_start
from prefect_executions.supervisor.duty import NEVER, DutyContext
from prefect_executions.supervisor.heartbeat import OwnHeartbeat

logger = logging.getLogger(__name__)

CREATION_ENDS = timedelta(seconds=60)  # a run that is being created for longer was left half-made
PREFECT_SILENCE = timedelta(minutes=10)  # three of Prefect's own heartbeats, and a little
COLLEAGUE_ACTS = timedelta(seconds=15)  # how long another supervisor may take for what it began
TASK_RUNS = 50  # how many of a crashed run are ended in a look; the next attempt ends the others
STARTS = 3  # how often a run that died before its first attempt began is started again


class SilentRuns:
    """Declares runs crashed that are Running in Prefect and have sent no heartbeat for too long."""

    name = "declare silent runs crashed"

    def __init__(self, context: DutyContext, heartbeat: OwnHeartbeat) -> None:
        self._context = context
        self._heartbeat = heartbeat
        self.alive_until: dict[UUID, datetime] = {}  # until when a silent run counts as alive

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The silent runs; none while Prefect may have lost heartbeats."""
        silence = self._context.silence
        heard = Heartbeats.since(self._context.client, now - silence)
        self._heartbeat.update(heard, now)
        if not self._heartbeat.proves_silence(now):
            return []
        running = self._context.flow_runs.in_state(StateType.RUNNING)
        known = {run.id for run in running}
        self.alive_until = {id_: at for id_, at in self.alive_until.items() if id_ in known}
        return [
            run
            for run in running
            if run.id not in heard.runs
            and now - state_of(run).timestamp > silence
            and now > self.alive_until.get(run.id, NEVER)
        ]

    def act(self, run: FlowRun) -> None:
        """Declare a run crashed, unless it is alive, has changed, or only lacks its completion.

        One whose process has covered a pause or a cancellation gets that state again. The head is
        read first: an attempt that begins later collides with what is written here.
        """
        if undo_start(self._context.client, run) is not None:
            self._context.note("restored a state")
            return
        head = _find_head(self._context.log(run))
        began = state_of(run).timestamp
        alive = last_sign(self._context.client, run.id, began)
        silence = self._context.silence
        if head is not None and OUTSIDE in run.tags:
            silence = max(silence, self._silence_of_agent(head))
        elif alive == began and (head is None or head.entry.attempt == 0):
            # Its flow may be none of ours: only Prefect sees whether its process lives.
            alive = last_beat_of_prefect(self._context.client, run.id, began)
            silence = max(silence, PREFECT_SILENCE)
        if head is not None and head.entry.kind is not Kind.CRASH:
            alive = max(alive, head.entry.at)
        dead = self._context.clock() - alive
        if dead <= silence:
            self.alive_until[run.id] = alive + silence
        elif not self._context.flow_runs.is_still(run):
            return
        elif head is not None and head.entry.kind is Kind.RESULT:
            self._context.flow_runs.complete(run)
            self._context.note("finished a completion")
        else:
            self._declare_crashed(run, head, alive, dead)

    def _declare_crashed(
        self, run: FlowRun, head: Head | None, alive: datetime, dead: timedelta
    ) -> None:
        reason = f"No heartbeat since {alive:%Y-%m-%d %H:%M:%S} UTC: its process has died."
        answers = state_of(run).id.hex
        if head and not (head.entry.kind is Kind.CRASH and head.entry.answers == answers):
            log = self._context.log(run)
            log.crash(head, answers=answers, dead_seconds=dead.total_seconds(), reason=reason)
        crash(self._context.client, run, reason)
        self._context.note("declared a crash")
        logger.warning("%s has crashed. %s", execution_id(run.id), reason)

    def _silence_of_agent(self, head: Head) -> timedelta:
        """How long an agent outside Prefect may be silent: three of its checkpoint intervals."""
        seconds = head.created.config.checkpoint_interval_seconds
        if seconds is None:
            return timedelta(seconds=self._context.settings.agent_silence_seconds)
        return timedelta(seconds=3 * seconds)


class CrashedRuns:
    """Decides what becomes of crashed runs: a worker continues them, or they have failed.

    Crashed is thus no end: a run has it until this has been decided.
    """

    name = "decide about crashed runs"

    def __init__(self, context: DutyContext) -> None:
        self._context = context
        self._swept: dict[UUID, UUID] = {}  # runs whose task runs were ended, with their states

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The crashed runs whose crash is no longer reported."""
        runs = self._context.flow_runs.in_state(StateType.CRASHED)
        known = {run.id for run in runs}
        self._swept = {id_: state for id_, state in self._swept.items() if id_ in known}
        return [run for run in runs if now - state_of(run).timestamp > CRASH_SETTLES]

    def act(self, run: FlowRun) -> None:
        """Restore the state that a late report of a crash has replaced, or decide about the run."""
        if self._swept.get(run.id) != state_of(run).id:
            end_task_runs(self._context.client, run.id, most=TASK_RUNS)
            self._swept[run.id] = state_of(run).id
        states = self._context.flow_runs.states(run)
        if undo_crash(self._context.client, run, states):
            self._context.note("restored a state")
            logger.warning("%s had been left before its process died", execution_id(run.id))
            return
        log = self._context.log(run)
        head = _find_head(log)
        if head is None:
            self._fail(run, "It has no log.")
        elif head.entry.kind is Kind.RESULT:
            self._context.flow_runs.complete(run)
            self._context.note("finished a completion")
        else:
            self._retry_or_fail(run, log, head, is_granted=_is_granted(head, states))

    def _fail(self, run: FlowRun, why: str) -> None:
        before = state_of(run).message or "It has crashed."
        self._context.flow_runs.fail(run, f"{before} {why}")
        self._context.note("failed after a crash")
        logger.warning("%s has failed after a crash. %s", execution_id(run.id), why)

    def _goes_on_with_its_parent(self, run: FlowRun) -> bool:
        parent = parent_of(run)
        found = None if parent is None else self._context.flow_runs.find(flow_run_id(parent))
        return found is not None and not status_of(found).ended

    def _retry_or_fail(
        self, run: FlowRun, log: ExecutionLog, head: Head, *, is_granted: bool
    ) -> None:
        state, now = state_of(run), self._context.clock()
        # The config of `@execution` is unknown before the first attempt has begun.
        default = ExecutionConfig(max_retries=STARTS if head.entry.begun is None else None)
        config = log.config(head).over(default)
        if is_granted and now - head.entry.at < COLLEAGUE_ACTS:
            return
        if not is_granted:
            if run.deployment_id is None:
                if not self._goes_on_with_its_parent(run):
                    how = "`prefect-executions run FILE:FLOW --resume` goes on with it."
                    self._fail(run, f"It has no deployment: no worker can try it again. {how}")
                return
            if not self._context.flow_runs.has_deployment(run):
                self._fail(run, "Its deployment was deleted: no worker can try it again.")
                return
            if head.entry.retries >= (config.max_retries or 0):
                self._fail(run, f"No retry is left, of {config.max_retries or 0}.")
                return
            if not self._context.flow_runs.is_still(run):  # a later attempt collides in the log
                return
            head = log.retry(head, answers=state.id.hex, reason=state.message or "Crashed")
        message = f"Retry {head.entry.retries} of {config.max_retries} after a crash"
        at = max(now, state.timestamp + timedelta(seconds=config.retry_delay_seconds or 0))
        if self._context.flow_runs.retry(run, at=at, message=message):
            self._context.note("retried after a crash")
            logger.warning("%s: %s", execution_id(run.id), message)


class PendingRuns:
    """Finishes creations that were left half-made, and restarts runs whose worker died."""

    name = "finish half-done starts"

    def __init__(self, context: DutyContext) -> None:
        self._context = context

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that have been Pending, or in creation, for too long."""
        flow_runs = self._context.flow_runs
        pending = timedelta(seconds=self._context.settings.pending_seconds)
        waiting = [(run, pending) for run in flow_runs.in_state(StateType.PENDING)]
        waiting += [(run, CREATION_ENDS) for run in flow_runs.being_created()]
        return [run for run, limit in waiting if now - state_of(run).timestamp > limit]

    def act(self, run: FlowRun) -> None:
        """Schedule a run again, or release or remove one whose creation was left half-made."""
        if not is_created(run):
            Creation(self._context.executions).finish(run)
            self._context.note("finished a creation")
        elif run.deployment_id is None:  # a child, whose parent was just about to go on with it
            crash(self._context.client, run, "Its process has died")
        elif start_again(self._context.client, run):
            self._context.note("started again")
            logger.warning("%s never began; scheduled again", execution_id(run.id))


def _find_head(log: ExecutionLog) -> Head | None:
    """The head of a log, or None when there is no log.

    Raises:
        ExecutionDeleted: the log ends with a tombstone.
    """
    try:
        return log.living_head()
    except ExecutionDeleted:
        raise
    except ExecutionNotFound:
        return None


def _is_granted(head: Head, states: list[State[Any]]) -> bool:
    """Whether one more attempt was granted, and no process has been started for it since."""
    if head.entry.kind is not Kind.RETRY:
        return False
    since = takewhile(lambda state: not state.is_pending(), reversed(states))
    return any(state.id.hex == head.entry.answers for state in since)
