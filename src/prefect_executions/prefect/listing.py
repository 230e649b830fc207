"""Listing flow runs, page by page.

Prefect lists by offset, and offsets shift while runs are created and deleted. The time at which a
run was first expected to start never changes, and Prefect has an index of it. So a page begins at
the time where the page before ended. Any number of runs may be due at one time: these are listed by
their ids, and a page among them begins at the id where the page before ended. A place in a list is
thus a time and an id, however many runs there are.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, islice
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

_INSTANT = timedelta(microseconds=1)  # Prefect's times are no finer
_LAST_ID = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True)
class Place:
    """A place in a list: what comes before it was listed.

    Args:
        time: The time of the last run that was listed.
        run_id: Its id, if others of this time may follow; these are listed by their ids, the
            largest first.
        listed: How many of this time were listed: where Prefect's list of them goes on, unless
            some have come or gone.
    """

    time: datetime
    run_id: UUID | None = None
    listed: int = 0


@dataclass(frozen=True)
class RunStretch:
    """A stretch of a list.

    Args:
        runs: The next runs, each with the place after it; there may be none though more follow.
        rest: The place after them; None when nothing follows.
    """

    runs: list[tuple[FlowRun, Place]]
    rest: Place | None


@dataclass(frozen=True)
class Listing:
    """The flow runs that a filter finds, by the time at which they were first expected to start.

    A run that fits the filter during all of the time in which the list is read is in one stretch.

    Args:
        client: Prefect's client.
        filter: Which runs.
        newest_first: Whether the latest time comes first.
    """

    client: SyncPrefectClient
    filter: FlowRunFilter
    newest_first: bool = True

    def stretch(self, place: Place | None, limit: int) -> RunStretch:
        """The next runs, by one request as a rule.

        Args:
            place: Where they begin; None at the beginning.
            limit: About how many to read, from 1 to 200. The last time among them is left out
                when more than these may have it.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        if place is not None and place.run_id is not None:
            return self._of_one_time(place.time, place.run_id, place.listed)
        asked = max(2, min(limit, AT_ONCE))
        sort = (
            FlowRunSort.EXPECTED_START_TIME_DESC
            if self.newest_first
            else FlowRunSort.EXPECTED_START_TIME_ASC
        )
        runs = self._read(self._beyond(place), sort, limit=asked)
        times = [(at, list(group)) for at, group in groupby(runs, created_at)]
        is_over = len(runs) < asked
        if not is_over:
            last, _ = times.pop()
            if not times:
                return self._of_one_time(last, _LAST_ID, 0)
        return RunStretch(
            [found for at, group in times for found in _placed(at, group)],
            None if is_over else Place(times[-1][0]),
        )

    def _of_one_time(self, time: datetime, after: UUID, listed: int) -> RunStretch:
        """The next runs of a time, after the one with the id `after`."""
        times = FlowRunFilterExpectedStartTime(after_=time, before_=time)
        at = max(listed - 1, 0)  # the last one that was listed shows whether the number is right
        back = AT_ONCE
        while True:
            runs = self._read(times, FlowRunSort.ID_DESC, limit=AT_ONCE, offset=at)
            if at and not (runs and runs[0].id >= after):  # some have gone
                at, back = max(at - back, 0), 2 * back
                continue
            left = [run for run in runs if run.id < after]
            is_last = len(runs) < AT_ONCE
            if left or is_last:
                break
            at += len(runs) - 1
        before = at + len(runs) - len(left)
        places = [Place(time, run.id, before + n) for n, run in enumerate(left, 1)]
        rest = Place(time) if is_last else places[-1]
        return RunStretch([*zip(left, [*places[:-1], rest], strict=True)] if left else [], rest)

    def _beyond(self, place: Place | None) -> FlowRunFilterExpectedStartTime | None:
        """The filter of the times that come after a place."""
        if place is None:
            return self.filter.expected_start_time
        given = self.filter.expected_start_time
        if self.newest_first:
            return FlowRunFilterExpectedStartTime(
                after_=given and given.after_, before_=place.time - _INSTANT
            )
        return FlowRunFilterExpectedStartTime(
            after_=place.time + _INSTANT, before_=given and given.before_
        )

    def _read(
        self,
        times: FlowRunFilterExpectedStartTime | None,
        sort: FlowRunSort,
        *,
        limit: int,
        offset: int = 0,
    ) -> list[FlowRun]:
        filter_ = self.filter.model_copy(update={"expected_start_time": times})
        with prefect_errors():
            return self.client.read_flow_runs(
                flow_run_filter=filter_, sort=sort, limit=limit, offset=offset
            )


def _placed(time: datetime, runs: list[FlowRun]) -> Iterator[tuple[FlowRun, Place]]:
    """All runs of a time, each with the place after it."""
    in_order = sorted(runs, key=lambda run: run.id, reverse=True)
    for n, run in enumerate(in_order, 1):
        yield run, Place(time) if n == len(in_order) else Place(time, run.id, n)


class Walk:
    """All the flow runs that a filter finds, newest first, a page in each request as a rule.

    A run that is there during all of the walk, and fits the filter, is on one page.

    Args:
        client: Prefect's client.
        filter: Which runs.

    Attributes:
        is_over: Whether the last page has been read.
    """

    def __init__(self, client: SyncPrefectClient, filter: FlowRunFilter) -> None:  # noqa: A002 - Prefect's word
        self.is_over = False
        self._listing = Listing(client, filter)
        self._place: Place | None = None

    def next(self) -> list[FlowRun]:
        """The next page, which may be empty; the same again if this fails.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        found = self._listing.stretch(self._place, AT_ONCE)
        self._place, self.is_over = found.rest, found.rest is None
        return [run for run, _ in found.runs]


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
