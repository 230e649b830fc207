"""Executions that are deleted: unfinished deletions, and runs that were deleted in Prefect."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.events import is_kept, send_deleted
from prefect_executions.prefect.flow_runs import pages_of
from prefect_executions.supervisor.duty import DutyContext, Interval
from prefect_executions.supervisor.heartbeat import OwnHeartbeat

logger = logging.getLogger(__name__)


class UnfinishedDeletions:
    """Finishes deletions that were left half-done."""

    name = "finish deletions"

    def __init__(self, context: DutyContext) -> None:
        self._context = context

    def due(self, _: datetime) -> Iterable[FlowRun]:
        """The runs that are being deleted."""
        return self._context.flow_runs.being_deleted()

    def act(self, run: FlowRun) -> None:
        """Delete what is left of an execution, if its process has ended."""
        if self._context.executions.delete(execution_id(run.id), patience=0):
            self._context.note("finished a deletion")
            logger.info("Finished the deletion of %s", execution_id(run.id))


class DeletedRuns:
    """Removes the logs of executions whose flow runs were deleted in Prefect itself.

    Prefect sends no event when a run is deleted. So each look asks how many runs there are; where
    that has changed, for the newest; and only where these do not explain it, for all. Runs that
    were deleted while no supervisor ran are not noticed.
    """

    name = "clear runs deleted in Prefect"

    def __init__(self, context: DutyContext, heartbeat: OwnHeartbeat) -> None:
        self._context = context
        self._heartbeat = heartbeat
        self._filter = FlowRunFilter(tags=FlowRunFilterTags(all_=context.flow_runs.tags))
        self._count_closely = Interval(context.rarely)
        self._known: set[UUID] | None = None
        self._gone: set[UUID] = set()  # what is yet to be cleared
        self._counted_at: datetime | None = None  # the newest own heartbeat at the last count

    def due(self, now: datetime) -> Iterable[UUID]:
        """The runs that were deleted in Prefect, and are yet to be cleared away.

        A database that was replaced, or restored to an earlier time, lacks runs that were never
        deleted. It lacks this supervisor's heartbeats too, and such runs are left to `gc`.
        """
        closely = self._count_closely.restart(now)
        if self._heartbeat.newest is None:
            return []
        missing = self._newly_missing(closely=closely)
        beat, self._counted_at = self._counted_at, self._heartbeat.newest
        if missing and beat and not is_kept(self._context.client, self._heartbeat.id, beat):
            logger.error(
                "Prefect's database is not as it was: of %d executions it does not know any more. "
                "Nothing of them is removed; see `prefect-executions gc --dry-run`.",
                len(missing),
            )
            missing = set()
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

    def _newly_missing(self, *, closely: bool) -> set[UUID]:
        """The runs that an earlier look found and this one does not; each is returned once.

        A run that changed during the look may be among them and still exist.

        Args:
            closely: Whether to compare the runs even if their number is the same.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        if self._known is None:
            self._known = self._list()
            return set()
        with prefect_errors():
            count = self._context.client.count_flow_runs(flow_run_filter=self._filter)
        if count == len(self._known) and not closely:
            return set()
        self._known |= self._list(unless=self._known)
        if count == len(self._known):
            return set()
        there = self._list()
        missing, self._known = self._known - there, there
        return missing

    def _list(self, *, unless: set[UUID] | None = None) -> set[UUID]:
        """All runs, newest first; given known ones, only up to a page of nothing but these."""
        found: set[UUID] = set()
        newest_first = FlowRunSort.EXPECTED_START_TIME_DESC
        for page in pages_of(self._context.client, self._filter, newest_first):
            ids = {run.id for run in page}
            found |= ids
            if unless is not None and ids <= unless:
                break
        return found
