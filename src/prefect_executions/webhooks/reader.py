"""Reads from Prefect the events that a webhook has not handled yet."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventOrder
from prefect.events.schemas.events import ReceivedEvent

from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.events import (
    CHECKPOINT_SAVED,
    FLOW_RUN,
    PREFECT_HEARTBEAT,
    run_id_of,
)
from prefect_executions.webhooks.cursor import Cursor
from prefect_executions.webhooks.timing import Timing

_NAMES = {"status": FLOW_RUN, "checkpoint": CHECKPOINT_SAVED}
_TAG = "prefect.tag."
_PAGE = 50  # the most that Prefect returns at once
_KEPT_RUNS = 1_000
_MICROSECOND = timedelta(microseconds=1)

TaggedEvent = tuple[ReceivedEvent, frozenset[str]]


class EventReader:
    """Reads the events that a webhook has not handled yet, with the tags of their flow runs.

    Args:
        client: Prefect's.
        cursor: Which events were handled.
        kinds: `status`, `checkpoint`, or both.
        tags: The tags of the flow runs that are executions.
        timing: How far back it reads.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        cursor: Cursor,
        *,
        kinds: Sequence[str],
        tags: frozenset[str],
        timing: Timing,
    ) -> None:
        self.kinds = kinds
        self._client = client
        self._cursor = cursor
        self._tags = tags
        self._timing = timing
        self._tags_of: OrderedDict[UUID, frozenset[str]] = OrderedDict()
        self._looked_back_at = -inf

    def pages(self) -> Iterator[list[TaggedEvent]]:
        """Read the new events and those that came late, oldest first, a page at a time.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        now = monotonic()
        far = now - self._looked_back_at >= self._timing.long_lookback_every
        back = self._timing.long_lookback if far else self._timing.lookback
        since = max(self._cursor.position - timedelta(seconds=back), self._cursor.begins)
        while True:
            with prefect_errors():
                page = self._client.read_events(_filter(self.kinds, since), limit=_PAGE).events
            if new := [e for e in page if e.id not in self._cursor and _run_id(e) is not None]:
                tags = self._read_tags(new)
                yield [(event, tags[_run_id(event)]) for event in new]
            if len(page) < _PAGE:
                break
            # Without the microsecond, a page of events of one time would be read forever.
            since = max(page[-1].occurred, since + _MICROSECOND)
        if far:
            self._looked_back_at = now

    def _read_tags(self, page: list[ReceivedEvent]) -> dict[UUID | None, frozenset[str]]:
        """The tags of the flow runs that the events are about.

        Those in the events are not enough: Prefect caches a run's tags for five minutes, and a run
        that the service did not create is tagged only when it begins.
        """
        found: dict[UUID | None, frozenset[str]] = {}
        for event in page:
            own = _tags_in(event)
            run_id = _run_id(event)
            known = self._tags_of.get(run_id) if run_id else None
            if known is None and self._tags <= own:
                known = own
            found[run_id] = known or found.get(run_id, frozenset()) | own
        if unknown := [id_ for id_, tags in found.items() if id_ and not self._tags <= tags]:
            filter_ = FlowRunFilter(id=FlowRunFilterId(any_=unknown))
            with prefect_errors():
                runs = self._client.read_flow_runs(flow_run_filter=filter_, limit=len(unknown))
            found.update({run.id: frozenset(run.tags) for run in runs})
        for run_id, tags in found.items():
            if run_id and self._tags <= tags:
                self._tags_of[run_id] = tags
                self._tags_of.move_to_end(run_id)
        while len(self._tags_of) > _KEPT_RUNS:
            self._tags_of.popitem(last=False)
        return found


def _filter(kinds: Sequence[str], since: datetime) -> EventFilter:
    return EventFilter(
        occurred=EventOccurredFilter(since=since, until=datetime.now(UTC)),
        event=EventNameFilter(
            prefix=[_NAMES[kind] for kind in kinds], exclude_name=[PREFECT_HEARTBEAT]
        ),
        order=EventOrder.ASC,
    )


def _run_id(event: ReceivedEvent) -> UUID | None:
    return run_id_of(event.resource.id)


def _tags_in(event: ReceivedEvent) -> frozenset[str]:
    return frozenset(
        related.id.removeprefix(_TAG) for related in event.related if related.id.startswith(_TAG)
    )
