"""Searching executions by what Prefect knows of them, page by page.

A page begins where the page before ended, as in `prefect.listing`.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_executions import serialization
from prefect_executions.errors import CursorError
from prefect_executions.models import ExecutionFilter, Order
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.listing import AT_ONCE
from prefect_executions.prefect.states import created_at, is_created, state_of, types_of
from prefect_executions.prefect.tags import DELETING, agent_tag, task_type_tag

_ROUNDS = 5  # requests to Prefect for one page


@dataclass(frozen=True)
class Search:
    """A list of executions.

    Args:
        tags: The tags that all of them have.
        filter: Which of them to list.
        order: In which order.
        agents: Only the executions of these agents; None for all.
    """

    tags: list[str]
    filter: ExecutionFilter
    order: Order = Order.NEWEST_FIRST
    agents: frozenset[str] | None = None

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
        place = _Place(None, ()) if cursor is None else _Place.decode(cursor, self._name)
        found: list[FlowRun] = []
        for _ in range(_ROUNDS):
            asked = min(limit - len(found) + 1, AT_ONCE) if self._is_plain else AT_ONCE
            with prefect_errors():
                runs = client.read_flow_runs(
                    flow_run_filter=self._ask_for(place), sort=self._sort, limit=asked
                )
            for at, run in enumerate(runs):
                place = place.after(run)
                if self._fits(run):
                    found.append(run)
                if len(found) == limit:
                    more = at + 1 < len(runs) or len(runs) == asked
                    return found, place.encode(self._name) if more else None
            if len(runs) < asked:
                return found, None
        return found, place.encode(self._name)

    @property
    def _sort(self) -> FlowRunSort:
        if self.order is Order.NEWEST_FIRST:
            return FlowRunSort.EXPECTED_START_TIME_DESC
        return FlowRunSort.EXPECTED_START_TIME_ASC

    @property
    def _is_plain(self) -> bool:
        """Whether Prefect can do all of the filtering."""
        asked = self.filter
        return asked.name is None and asked.updated_after is None and asked.updated_before is None

    @property
    def _name(self) -> str:
        """A digest of filter, order and agents: a cursor belongs to one list."""
        agents = None if self.agents is None else sorted(self.agents)
        return serialization.digest(self.filter.model_dump_json(), self.order, json.dumps(agents))

    def _ask_for(self, place: "_Place") -> FlowRunFilter:
        asked = self.filter
        tags = list(self.tags)
        tags += [agent_tag(asked.agent_id)] if asked.agent_id else []
        tags += [task_type_tag(asked.task_type)] if asked.task_type else []
        own = None if self.agents is None else [agent_tag(agent) for agent in sorted(self.agents)]
        types = [type_ for status in asked.status for type_ in types_of(status)]
        return FlowRunFilter(
            id=FlowRunFilterId(not_any_=list(place.seen)) if place.seen else None,
            tags=FlowRunFilterTags(all_=tags, any_=own),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)) if types else None,
            name=FlowRunFilterName(like_=asked.name) if asked.name else None,
            expected_start_time=self._times(place),
        )

    def _times(self, place: "_Place") -> FlowRunFilterExpectedStartTime | None:
        after, before = self.filter.created_after, self.filter.created_before
        if place.time is not None and self.order is Order.NEWEST_FIRST:
            before = place.time
        elif place.time is not None:
            after = place.time
        if after is None and before is None:
            return None
        return FlowRunFilterExpectedStartTime(after_=after, before_=before)

    def _fits(self, run: FlowRun) -> bool:
        if DELETING in run.tags or not is_created(run):
            return False
        asked, changed = self.filter, state_of(run).timestamp
        return (
            # In Prefect's filter `_` and `%` are wildcards.
            (asked.name is None or asked.name.casefold() in run.name.casefold())
            and (asked.updated_after is None or changed >= asked.updated_after)
            and (asked.updated_before is None or changed <= asked.updated_before)
        )


@dataclass(frozen=True)
class _Place:
    """A place in a list.

    Args:
        time: The time of the last run that was listed.
        seen: The runs of that time that were listed.
    """

    time: datetime | None
    seen: tuple[UUID, ...]

    def after(self, run: FlowRun) -> "_Place":
        """The place after a run."""
        time = created_at(run)
        return _Place(time, (*self.seen, run.id) if time == self.time else (run.id,))

    def encode(self, name: str) -> str:
        """The place as a cursor of the list of this name."""
        assert self.time is not None
        seen = b"".join(run_id.bytes for run_id in self.seen)
        return base64.urlsafe_b64encode(
            f"{name[:16]} {self.time.isoformat()} ".encode() + seen
        ).decode()

    @classmethod
    def decode(cls, cursor: str, name: str) -> "_Place":
        """Read a place from a cursor of the list of this name.

        Raises:
            CursorError: the cursor is malformed, or of another list.
        """
        try:
            of, time, seen = base64.urlsafe_b64decode(cursor.encode()).split(b" ", 2)
            if of != name[:16].encode():
                raise CursorError("another list's")
            at = datetime.fromisoformat(time.decode())
            if at.tzinfo is None:
                raise ValueError("no time zone")
            return cls(at, tuple(_uuids(seen)))
        except (ValueError, UnicodeError) as error:
            raise CursorError(f"{error}") from error


def _uuids(data: bytes) -> Iterator[UUID]:
    for start in range(0, len(data), 16):
        yield UUID(bytes=data[start : start + 16])
