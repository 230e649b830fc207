"""Searching executions by what Prefect knows of them, page by page.

A page begins where the page before ended, as in `prefect.listing`.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.errors import CursorError
from prefect_executions.executions.sight import ALL, Sight
from prefect_executions.ids import canonical
from prefect_executions.models import ExecutionFilter, Order
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.listing import AT_ONCE, Listing, Place
from prefect_executions.prefect.states import is_created, state_of, types_of
from prefect_executions.prefect.tags import DELETING, agent_tag, fork_tag, task_type_tag

_ROUNDS = 5  # requests to Prefect for one page
_MOST = 1 << 31  # runs of one time


@dataclass(frozen=True)
class Search:
    """A list of executions.

    Args:
        tags: The tags that all of them have.
        filter: Which of them to list.
        order: In which order.
        sight: Which executions are seen.
    """

    tags: list[str]
    filter: ExecutionFilter
    order: Order = Order.NEWEST_FIRST
    sight: Sight = ALL

    def page(
        self, client: SyncPrefectClient, *, limit: int, cursor: str | None = None
    ) -> tuple[list[FlowRun], str | None]:
        """The next runs, at most `limit`, and the cursor of the page after; None after the last.

        What Prefect can't filter by is filtered here, among a thousand runs at most. So a page may
        have fewer even if more follow.

        Raises:
            CursorError: the cursor is not of this list.
            PrefectUnavailable: Prefect does not answer.
        """
        place = None if cursor is None else _decode(cursor, self._name)
        listing = Listing(client, self._filter, newest_first=self.order is Order.NEWEST_FIRST)
        found: list[FlowRun] = []
        for _ in range(_ROUNDS):
            wanted = limit - len(found) + 1 if self._is_plain else AT_ONCE
            stretch = listing.stretch(place, wanted)
            for run, after in stretch.runs:
                if self._fits(run):
                    found.append(run)
                if len(found) == limit:
                    is_over = stretch.rest is None and run is stretch.runs[-1][0]
                    return found, None if is_over else _encode(after, self._name)
            place = stretch.rest
            if place is None:
                return found, None
        assert place is not None
        return found, _encode(place, self._name)

    def count(self, client: SyncPrefectClient) -> int | None:
        """How many there are, as Prefect counts them; None where it can't do all of the filtering.

        Those that are being created or deleted count.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        if not self._is_plain:
            return None
        with prefect_errors():
            return client.count_flow_runs(flow_run_filter=self._filter)

    @property
    def _is_plain(self) -> bool:
        """Whether Prefect can do all of the filtering."""
        asked = self.filter
        is_plain = asked.name is None and asked.updated_after is None
        return is_plain and asked.updated_before is None and len(self.sight.tags) <= 1

    @property
    def _name(self) -> str:
        """A digest of filter, order and sight: a cursor belongs to one list."""
        seen = json.dumps(self.sight.tags)
        return serialization.digest(self.filter.model_dump_json(), self.order, seen)

    @property
    def _filter(self) -> FlowRunFilter:
        """What Prefect can do of the filtering."""
        asked = self.filter
        tags = list(self.tags)
        tags += [agent_tag(asked.agent_id)] if asked.agent_id else []
        tags += [task_type_tag(asked.task_type)] if asked.task_type else []
        tags += [fork_tag(canonical(asked.forked_from))] if asked.forked_from else []
        # Of Prefect, one of several tags can be asked for once; `_fits` looks at the others.
        seen = next(iter(self.sight.tags), None)
        types = [type_ for status in asked.status for type_ in types_of(status)]
        times = None
        if asked.created_after is not None or asked.created_before is not None:
            times = FlowRunFilterExpectedStartTime(
                after_=asked.created_after, before_=asked.created_before
            )
        return FlowRunFilter(
            tags=FlowRunFilterTags(all_=tags, any_=seen),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)) if types else None,
            name=FlowRunFilterName(like_=asked.name) if asked.name else None,
            expected_start_time=times,
        )

    def _fits(self, run: FlowRun) -> bool:
        if DELETING in run.tags or not is_created(run) or not self.sight.sees(run):
            return False
        asked, changed = self.filter, state_of(run).timestamp
        return (
            # In Prefect's filter `_` and `%` are wildcards.
            (asked.name is None or asked.name.casefold() in run.name.casefold())
            and (asked.updated_after is None or changed >= asked.updated_after)
            and (asked.updated_before is None or changed <= asked.updated_before)
        )


def _encode(place: Place, name: str) -> str:
    """A place as a cursor of the list of this name."""
    parts = [name[:16], place.time.isoformat()]
    if place.run_id is not None:
        parts += [place.run_id.hex, f"{place.listed}"]
    return base64.urlsafe_b64encode(" ".join(parts).encode()).decode()


def _decode(cursor: str, name: str) -> Place:
    """Read a place from a cursor of the list of this name.

    Raises:
        CursorError: the cursor is malformed, or of another list.
    """
    try:
        of, time, *run = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if of != name[:16]:
            raise CursorError("another list's")
        at = datetime.fromisoformat(time)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        if not run:
            return Place(at)
        run_id, number = run
        if not 0 < (listed := int(number)) < _MOST:
            raise ValueError("no number of runs")
        return Place(at, UUID(hex=run_id), listed)
    except ValueError as error:
        raise CursorError(f"{error}") from error
