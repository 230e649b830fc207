"""Paused runs: their pauses are ended in time, and mended when they can't be resumed."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from prefect_executions.executions.families import awaited_by
from prefect_executions.ids import execution_id
from prefect_executions.models import OnTimeout
from prefect_executions.prefect.pauses import awaited_child, deadline
from prefect_executions.prefect.resume_form import CHOICES, resume_form
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.suspension import complete_pause
from prefect_executions.prefect.transitions import cancel_paused
from prefect_executions.supervisor.duty import NEVER, DutyContext, Interval

logger = logging.getLogger(__name__)

FORM_SETTLES = timedelta(minutes=10)  # by then the process has left, and has saved the form


class PausedRuns:
    """Ends pauses whose time is over, and completes those that Prefect would not keep or resume."""

    name = "end and complete pauses"

    def __init__(self, context: DutyContext) -> None:
        self._context = context
        self._interval = Interval(context.rarely)
        # Paused runs that had their forms: in which state, and when.
        self._formed: dict[UUID, tuple[UUID, datetime]] = {}

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that are paused; none in most looks."""
        if not self._interval.restart(now):
            return []
        runs = self._context.flow_runs.in_state(StateType.PAUSED)
        known = {run.id for run in runs}
        self._formed = {id_: seen for id_, seen in self._formed.items() if id_ in known}
        return runs

    def act(self, run: FlowRun) -> None:
        """Complete a pause, and end it if its time is over, or what it waits for goes on."""
        self._complete(run)
        if awaited_child(state_of(run)) is not None:
            self._follow_child(run)
            return
        ends = deadline(state_of(run))
        if ends is None:
            return
        at, on_timeout = ends
        if at > self._context.clock() or not self._context.flow_runs.is_still(run):
            return
        message = f"Nobody resumed it until {at:%Y-%m-%d %H:%M:%S} UTC."
        if on_timeout is OnTimeout.FAIL:
            self._context.flow_runs.fail(run, message)
        elif on_timeout is OnTimeout.TERMINATE:
            cancel_paused(self._context.client, run, message)
        else:
            self._context.flow_runs.resume(run.id)
        self._context.note("ended a pause")
        logger.info("%s: %s It is to %s.", execution_id(run.id), message, on_timeout)

    def _follow_child(self, run: FlowRun) -> None:
        """Resume a run that waits for another, called in it, which is paused no more."""
        flow_runs = self._context.flow_runs
        if awaited_by(flow_runs, run).id == run.id and flow_runs.is_still(run):
            flow_runs.resume(run.id)
            self._context.note("resumed a parent")
            logger.info("%s: what it has waited for is not paused any more", execution_id(run.id))

    def _complete(self, run: FlowRun) -> None:
        """Give a pause what it lacks; a pause that is no longer new is checked now and then."""
        state, now = state_of(run), self._context.clock()
        known, seen = self._formed.get(run.id, (None, NEVER))
        is_new = now - state.timestamp < FORM_SETTLES
        if is_new or known != state.id or now - seen > FORM_SETTLES:
            log = self._context.log(run)
            complete_pause(
                self._context.client,
                run,
                lambda: resume_form(log.read(checkpoints=CHOICES, journal=True)),
            )
            self._formed[run.id] = state.id, now
