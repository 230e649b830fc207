"""Orphans: logs in a store whose flow runs do not exist in Prefect."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.listing import runs_with

AGE = timedelta(hours=1)  # a log that was written to more recently is left alone
_AT_ONCE = 200  # flow runs that are looked up in one request


class Orphan(BaseModel):
    """A log without a flow run.

    Attributes:
        execution_id: The execution's id.
        entries: The number of its entries.
        bytes_stored: Their bytes in the store.
        written_at: When the newest was written.
    """

    model_config = ConfigDict(frozen=True)

    execution_id: str
    entries: int
    bytes_stored: int
    written_at: datetime


@dataclass(frozen=True)
class StoreReport:
    """The logs in a store.

    Args:
        logs: The number of logs.
        known: The number of logs that belong to a flow run in Prefect.
        orphans: The logs that do not, except those that were written to just now.
    """

    logs: int
    known: int
    orphans: list[Orphan]


@dataclass(frozen=True)
class Orphans:
    """Finds and removes the logs of executions that were deleted in Prefect itself.

    A running supervisor removes such a log at once; orphans remain when none is running.

    Args:
        executions: The executions in the store.
        clock: The present time.
    """

    executions: Executions
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def report(self) -> StoreReport:
        """Read all of the store: a LIST per 1,000 entries, some requests per orphan.

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
        """Remove an orphan, unless it has changed or its flow run exists.

        Returns:
            Whether it was removed.

        Raises:
            StoreUnavailable, PrefectUnavailable: one of them does not answer.
        """
        if self._known([orphan.execution_id]) or self._orphan(orphan.execution_id) != orphan:
            return False
        with suppress(ExecutionNotFound):  # another process has just removed it
            self.executions.delete(orphan.execution_id)
        self.executions.flow_runs.delete_artifacts(flow_run_id(orphan.execution_id))
        return True

    def _logs(self) -> Iterator[str]:
        """The ids of the executions that have a log; other keys are passed over."""
        parts = (key.split("/") for key in self.executions.objects.scan(""))
        for id_, _ in groupby(key[1] for key in parts if len(key) == 3):
            with suppress(ExecutionNotFound):
                flow_run_id(id_)
                yield id_

    def _known(self, ids: list[str]) -> set[str]:
        by_run: dict[UUID, str] = {flow_run_id(id_): id_ for id_ in ids}
        return {by_run[id_] for id_ in runs_with(self.executions.flow_runs.client, by_run)}

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
