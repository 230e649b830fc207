"""What is left in a store of executions whose flow runs are gone from Prefect."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from pydantic import BaseModel, ConfigDict

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.flow_runs import pages_of

AGE = timedelta(hours=1)  # a log that was written to since is left alone
_AT_ONCE = 200  # flow runs that Prefect is asked for at once


class Orphan(BaseModel):
    """A log without a flow run.

    Attributes:
        execution_id: Whose it was.
        entries: How many entries it has.
        bytes_stored: Bytes of them in the store.
        written_at: When the newest was written.
    """

    model_config = ConfigDict(frozen=True)

    execution_id: str
    entries: int
    bytes_stored: int
    written_at: datetime


@dataclass(frozen=True)
class StoreReport:
    """What a store has.

    Args:
        logs: How many logs.
        known: How many of them belong to a flow run in Prefect.
        orphans: Those that do not, but for what was written just now.
    """

    logs: int
    known: int
    orphans: list[Orphan]


@dataclass(frozen=True)
class Orphans:
    """Finds and removes the logs of executions that were deleted in Prefect itself.

    A supervisor removes them at once; these are of when none was there to see it.

    Args:
        executions: The executions in the store.
        clock: The present time.
    """

    executions: Executions
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def survey(self) -> StoreReport:
        """Look at all that the store has: a LIST per 1,000 entries, some requests per orphan.

        Raises:
            StoreUnavailable, PrefectUnavailable: one of them does not answer.
        """
        logs, known, orphans = 0, 0, []
        rest = self._logs()
        while ids := list(islice(rest, _AT_ONCE)):
            there = self._known(ids)
            logs, known = logs + len(ids), known + len(there)
            orphans += [found for id_ in ids if id_ not in there and (found := self._orphan(id_))]
        return StoreReport(logs, known, orphans)

    def remove(self, orphan: Orphan) -> bool:
        """Remove what is left of an execution; whether nobody else has done so, or uses it.

        Raises:
            StoreUnavailable, PrefectUnavailable: one of them does not answer.
        """
        if self._known([orphan.execution_id]) or self._orphan(orphan.execution_id) != orphan:
            return False
        with suppress(ExecutionNotFound):  # somebody else has removed it just now
            self.executions.delete(orphan.execution_id)
        self.executions.flow_runs.delete_artifacts(flow_run_id(orphan.execution_id))
        return True

    def _logs(self) -> Iterator[str]:
        """The ids of the executions that have a log; whatever else is there is passed over."""
        parts = (key.split("/") for key in self.executions.objects.scan(""))
        for id_, _ in groupby(key[1] for key in parts if len(key) == 3):
            with suppress(ExecutionNotFound):
                flow_run_id(id_)
                yield id_

    def _known(self, ids: list[str]) -> set[str]:
        by_run: dict[UUID, str] = {flow_run_id(id_): id_ for id_ in ids}
        filter_ = FlowRunFilter(id=FlowRunFilterId(any_=list(by_run)))
        pages = pages_of(self.executions.flow_runs.client, filter_)
        return {by_run[run.id] for page in pages for run in page}

    def _orphan(self, execution_id: str) -> Orphan | None:
        log = self.executions.log(execution_id)
        try:
            written_at = log.outlines(1)[0].at
        except (ExecutionNotFound, IndexError):  # it has just been removed
            return None
        if self.clock() - written_at < AGE:
            return None
        entries, size = log.cost()
        return Orphan(
            execution_id=execution_id, entries=entries, bytes_stored=size, written_at=written_at
        )
