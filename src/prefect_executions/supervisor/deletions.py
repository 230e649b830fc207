"""Executions that are deleted: unfinished deletions, and runs that were deleted in Prefect."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.prefect.events import is_kept, send_deleted
from prefect_executions.prefect.listing import runs_with
from prefect_executions.supervisor.duty import DutyContext, Interval
from prefect_executions.supervisor.heartbeat import OwnHeartbeat
from prefect_executions.supervisor.rounds import Rounds

logger = logging.getLogger(__name__)


class UnfinishedDeletions:
    """Finishes deletions that were left half-done, within a minute.

    Prefect has no index of tags: to find them it goes through all runs of all its flows.
    """

    name = "finish deletions"

    def __init__(self, context: DutyContext) -> None:
        self._context = context
        self._interval = Interval(context.rarely)

    def due(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that are being deleted; none in most looks."""
        return self._context.flow_runs.being_deleted() if self._interval.restart(now) else []

    def act(self, run: FlowRun) -> None:
        """Delete what is left of an execution, if its process has ended."""
        if self._context.executions.delete(execution_id(run.id), patience=0):
            self._context.note("finished a deletion")
            logger.info("Finished the deletion of %s", execution_id(run.id))


class DeletedRuns:
    """Removes the logs of executions whose flow runs were deleted in Prefect itself.

    Prefect sends no event when a run is deleted. So rounds go through all runs: what one round has
    seen and the next has not is looked for by its id. A round of many runs takes long: the newest
    are seen each minute. Runs that were deleted while no supervisor ran are not noticed.
    """

    name = "clear runs deleted in Prefect"

    def __init__(self, context: DutyContext, heartbeat: OwnHeartbeat) -> None:
        self._context = context
        self._heartbeat = heartbeat
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._rounds = Rounds(self._context.walk)
        self._newest = Interval(self._context.rarely)
        self._known: set[UUID] = set()
        self._gone: set[UUID] = set()  # what is yet to be cleared
        self._heard: datetime | None = None  # the newest own heartbeat at the last look

    def due(self, now: datetime) -> Iterable[UUID]:
        """The runs that were deleted in Prefect, and are yet to be cleared away.

        A database that was replaced, or restored to an earlier time, lacks runs that were never
        deleted. It lacks this supervisor's heartbeats too, and such runs are left to `gc`.
        """
        if self._heard and not is_kept(self._context.client, self._heartbeat.id, self._heard):
            logger.error(
                "Prefect's database is not as it was. Nothing of the executions that it does not "
                "know any more is removed; see `prefect-executions gc --dry-run`."
            )
            self._heartbeat.newest = None  # the next one is of the new database
            self._begin_anew()
        self._heard = self._heartbeat.newest
        if self._heard is None:
            return []
        page, unseen = self._rounds.next(self._known)
        if self._newest.restart(now) and not self._rounds.is_new:
            page += self._context.walk().next()
        self._known.update(run.id for run in page)
        missing = unseen - runs_with(self._context.client, unseen).keys()
        self._known -= missing
        self._gone |= missing
        return list(self._gone)

    def act(self, run_id: UUID) -> None:
        """Remove what is left of an execution whose run was deleted in Prefect."""
        if self._context.flow_runs.find(run_id) is None:
            id_ = execution_id(run_id)
            with suppress(ExecutionNotFound):  # it was deleted here
                self._context.executions.delete(id_)
                send_deleted(run_id, id_)
                self._context.note("cleared what was deleted in Prefect")
                logger.info("%s was deleted in Prefect; its checkpoints are removed", id_)
            self._context.flow_runs.delete_artifacts(run_id)
        self._gone.discard(run_id)
