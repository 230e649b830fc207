"""Runs that are ending, or have ended otherwise than by completing."""

import logging
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from prefect_executions.ids import execution_id
from prefect_executions.prefect.artifacts import PageArtifact
from prefect_executions.prefect.states import is_shutdown, state_of, status_of
from prefect_executions.prefect.task_runs import end_task_runs
from prefect_executions.prefect.transitions import crash_shut_down, undo_repeated_cancellation
from prefect_executions.supervisor.duty import DutyContext

logger = logging.getLogger(__name__)


class CancellingRuns:
    """Ends cancellations that no worker ends."""

    name = "end cancellations"

    def __init__(self, context: DutyContext) -> None:
        self._context = context

    def due(self, _: datetime) -> Iterable[FlowRun]:
        """The runs that are Cancelling."""
        return self._context.flow_runs.in_state(StateType.CANCELLING)

    def act(self, run: FlowRun) -> None:
        """End a cancellation that has taken too long."""
        self._context.flow_runs.end_cancelling(run)


class EndedRuns:
    """Brings the pages and task runs of ended runs up to date where their processes could not."""

    name = "show ends"

    def __init__(self, context: DutyContext) -> None:
        self._context = context
        self._listed_at: datetime | None = None
        self._shown: dict[UUID, UUID] = {}  # ended runs whose pages are right, with their states

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that have failed or been cancelled just now."""
        since = (self._listed_at or now) - 2 * self._context.rarely
        runs = self._context.flow_runs.in_state(
            StateType.FAILED, StateType.CANCELLED, ended_after=since
        )
        self._listed_at = now
        known = {run.id for run in runs}
        self._shown = {id_: state for id_, state in self._shown.items() if id_ in known}
        return [run for run in runs if self._shown.get(run.id) != state_of(run).id]

    def act(self, run: FlowRun) -> None:
        """Restore the state that a repeated cancellation has replaced, or show that a run ended.

        A run that was cancelled only because the process that served it was stopped has crashed.
        """
        if is_shutdown(state_of(run)):
            crash_shut_down(self._context.client, run)
            self._context.note("declared a crash")
            logger.warning("%s: the process that served it was stopped", execution_id(run.id))
            return
        if state_of(run).is_cancelled() and undo_repeated_cancellation(
            self._context.client, run, self._context.flow_runs.states(run)
        ):
            self._context.note("restored a state")
            logger.warning("%s goes on: it was cancelled before", execution_id(run.id))
            return
        end_task_runs(self._context.client, run.id)
        page = PageArtifact(self._context.client, run.id)
        shown = page.find()
        page.remove_duplicates()
        if shown != status_of(run).value and self._context.flow_runs.is_still(run):
            page.show(self._context.executions.run_page(run))
        self._shown[run.id] = state_of(run).id
