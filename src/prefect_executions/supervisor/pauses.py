"""Paused runs: their pauses are ended in time, and mended when they can't be resumed."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from prefect_executions.config import OnTimeout
from prefect_executions.executions.families import awaited_by
from prefect_executions.ids import execution_id
from prefect_executions.prefect.events import changed_to
from prefect_executions.prefect.flow_runs import is_whole
from prefect_executions.prefect.listing import runs_with
from prefect_executions.prefect.pauses import awaited_child, deadline
from prefect_executions.prefect.resume_form import CHOICES, resume_form
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.suspension import complete_pause
from prefect_executions.prefect.transitions import cancel_paused, undo_start
from prefect_executions.supervisor.duty import NEVER, DutyContext
from prefect_executions.supervisor.rounds import Rounds

logger = logging.getLogger(__name__)

FORM_SETTLES = timedelta(minutes=10)  # by then the process has left, and has saved the form
EVENT_COMES = timedelta(seconds=30)  # by then Prefect has stored an event
NOT_AGAIN = datetime.max.replace(tzinfo=UTC)


class PausedRuns:
    """Ends pauses whose time is over, and completes those that Prefect would not keep or resume.

    Which runs were paused just now is read from Prefect's events; what these may have missed is
    found by rounds through all paused runs. When to look at each again is remembered.
    """

    name = "end and complete pauses"

    def __init__(self, context: DutyContext) -> None:
        self._context = context
        self._rounds = Rounds(lambda: context.walk(StateType.PAUSED))
        self._read_at: datetime | None = None  # when the events were read
        # The state of each paused run, and when to look at it again.
        self._agenda: dict[UUID, tuple[UUID, datetime]] = {}

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that were paused just now, some of all, and those whose time has come."""
        page, gone = self._rounds.next(self._agenda)
        since = (self._read_at or now) - EVENT_COMES
        tag = self._context.flow_runs.tags[-1]
        paused = changed_to(self._context.client, StateType.PAUSED, since, tag=tag)
        soon = {run_id for run_id, (_, at) in self._agenda.items() if at <= now}
        at_hand = {run.id: run for run in page}
        others = (paused | soon | gone) - at_hand.keys()
        runs = at_hand | runs_with(self._context.client, others)
        self._read_at = now
        goes_on = self._children_that_go_on(page)
        for run_id in others - runs.keys():  # it was deleted
            self._agenda.pop(run_id, None)
        return [
            run
            for run in runs.values()
            if self._is_due(run, now, is_new=run.id in paused) or run.id in goes_on
        ]

    def _is_due(self, run: FlowRun, now: datetime, *, is_new: bool) -> bool:
        """Whether to look at a run, which may just have been paused; puts it on the agenda if so.

        A process that starts may have covered its pause already.
        """
        state = state_of(run)
        if not (is_whole(run) and (state.is_paused() or (state.is_running() and is_new))):
            self._agenda.pop(run.id, None)
            return False
        known, at = self._agenda.get(run.id, (None, NEVER))
        if known == state.id and at > now:
            return False
        self._agenda[run.id] = state.id, now
        return True

    def _children_that_go_on(self, page: list[FlowRun]) -> set[UUID]:
        """The runs on a page that wait for another, called in them, which is paused no more."""
        awaited = {
            run.id: child
            for run in page
            if is_whole(run) and (child := awaited_child(state_of(run))) is not None
        }
        if not awaited:
            return set()
        children = runs_with(self._context.client, set(awaited.values()))
        paused = {id_ for id_, child in children.items() if state_of(child).is_paused()}
        return {run_id for run_id, child in awaited.items() if child not in paused}

    def act(self, run: FlowRun) -> None:
        """Complete a pause, and end it if its time is over, or what it waits for goes on.

        One that a process has covered is set again, and completed in the next look.
        """
        now = self._context.clock()
        self._agenda[run.id] = state_of(run).id, now + self._context.rarely  # if this fails
        if state_of(run).is_running():
            if undo_start(self._context.client, run) is not None:
                self._context.note("restored a state")
            self._agenda[run.id] = state_of(run).id, NOT_AGAIN
            return
        log = self._context.log(run)
        complete_pause(
            self._context.client,
            run,
            lambda: resume_form(log.read(checkpoints=CHOICES, journal=True)),
            lambda: self._context.executions.is_left(run),
        )
        if awaited_child(state_of(run)) is not None:
            self._follow_child(run)
        elif (ends := deadline(state_of(run))) is not None and ends[0] <= now:
            self._end(run, *ends)
        self._agenda[run.id] = state_of(run).id, self._next(run, now)

    def _next(self, run: FlowRun, now: datetime) -> datetime:
        """When to look at a paused run again: while its form may be lost, and at its deadline."""
        state, later = state_of(run), now + self._context.rarely
        settles = FORM_SETTLES + self._context.silence
        times = [later] if now - state.timestamp < settles else []
        if (ends := deadline(state)) is not None:
            times.append(ends[0] if ends[0] > now else later)
        return min(times, default=NOT_AGAIN)

    def _end(self, run: FlowRun, at: datetime, on_timeout: OnTimeout) -> None:
        """Do what is to happen when nobody has resumed a run in time."""
        if not self._context.flow_runs.is_still(run):
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
