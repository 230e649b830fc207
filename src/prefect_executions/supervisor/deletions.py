"""Which flow runs have been removed in Prefect, which says so to nobody."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.sorting import FlowRunSort

from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.flow_runs import pages_of


class DeletedRuns:
    """Knows the flow runs with some tags, and notices when one is there no more.

    A look asks how many there are; where that has changed, for the newest; and only where these do
    not explain it, for all. What was removed while nobody looked is not noticed.

    Args:
        client: Prefect's.
        tags: What all of them are tagged with.
    """

    def __init__(self, client: SyncPrefectClient, tags: list[str]) -> None:
        self._client = client
        self._filter = FlowRunFilter(tags=FlowRunFilterTags(all_=tags))
        self._known: set[UUID] | None = None

    def missing(self, *, thoroughly: bool = False) -> set[UUID]:
        """Those that were there at an earlier look and may be gone: each is told once.

        One that changed while it was looked for may be among them and still be there.

        Args:
            thoroughly: Whether to notice, too, that as many have come as gone.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        if self._known is None:
            self._known = self._list()
            return set()
        with prefect_errors():
            count = self._client.count_flow_runs(flow_run_filter=self._filter)
        if count == len(self._known) and not thoroughly:
            return set()
        self._known |= self._list(unless=self._known)
        if count == len(self._known):
            return set()
        there = self._list()
        missing, self._known = self._known - there, there
        return missing

    def _list(self, *, unless: set[UUID] | None = None) -> set[UUID]:
        """All runs, newest first; only up to a page without news, if some are known."""
        found: set[UUID] = set()
        newest_first = FlowRunSort.EXPECTED_START_TIME_DESC
        for page in pages_of(self._client, self._filter, newest_first):
            ids = {run.id for run in page}
            found |= ids
            if unless is not None and ids <= unless:
                break
        return found
