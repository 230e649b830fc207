"""Listing flow runs, page by page.

Prefect lists by offset, and offsets shift while runs are created and deleted. The time at which a
run was first expected to start never changes, and Prefect has an index of it. So a page begins at
the time where the page before ended, and leaves out the runs of that time that were on it.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import islice
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.states import created_at

AT_ONCE = 200  # runs that Prefect lists in one request


class Walk:
    """The flow runs that a filter finds, newest first, a page in each request.

    A run that is there during all of the walk, and fits the filter, is on one page.

    Args:
        client: Prefect's client.
        filter: Which runs; a filter by id may only say which ones.

    Attributes:
        is_over: Whether the last page has been read.
    """

    def __init__(self, client: SyncPrefectClient, filter: FlowRunFilter) -> None:  # noqa: A002 - Prefect's word
        self.is_over = False
        self._client = client
        self._filter = filter
        self._time: datetime | None = None  # of the last run that was listed
        self._seen: list[UUID] = []  # the runs of that time that were listed

    def next(self) -> list[FlowRun]:
        """The next page; the same again if this fails.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        with prefect_errors():
            page = self._client.read_flow_runs(
                flow_run_filter=self._rest(),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=AT_ONCE,
            )
        self.is_over = len(page) < AT_ONCE
        if page and (time := created_at(page[-1])) != self._time:
            self._time, self._seen = time, []
        self._seen += [run.id for run in page if created_at(run) == self._time]
        return page

    def _rest(self) -> FlowRunFilter:
        """The filter of the runs after the last one that was listed."""
        if self._time is None:
            return self._filter
        only = None if self._filter.id is None else self._filter.id.any_
        return self._filter.model_copy(
            update={
                "id": FlowRunFilterId(any_=only, not_any_=self._seen),
                "expected_start_time": FlowRunFilterExpectedStartTime(before_=self._time),
            }
        )


def pages_of(client: SyncPrefectClient, filter_: FlowRunFilter) -> Iterator[list[FlowRun]]:
    """All runs that a filter finds; see `Walk`.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    walk = Walk(client, filter_)
    while not walk.is_over:
        yield walk.next()


def runs_with(client: SyncPrefectClient, ids: Collection[UUID]) -> dict[UUID, FlowRun]:
    """The runs with these ids that Prefect knows, by a request for every 200.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    found: dict[UUID, FlowRun] = {}
    rest = iter(ids)
    while some := list(islice(rest, AT_ONCE)):
        filter_ = FlowRunFilter(id=FlowRunFilterId(any_=some))
        with prefect_errors():
            runs = client.read_flow_runs(flow_run_filter=filter_, limit=AT_ONCE)
        found |= {run.id: run for run in runs}
    return found


def in_states(
    tags: list[str], *types: StateType, ended_after: datetime | None = None
) -> FlowRunFilter:
    """The filter of the runs with all these tags and a state of one of these types.

    Args:
        tags: The tags.
        types: The types; any if there are none.
        ended_after: Only runs that ended after this time.
    """
    return FlowRunFilter(
        tags=FlowRunFilterTags(all_=tags),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))) if types else None,
        end_time=FlowRunFilterEndTime(after_=ended_after) if ended_after else None,
    )
