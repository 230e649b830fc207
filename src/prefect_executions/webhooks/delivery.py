"""Delivers what happens to executions to one webhook, in the order in which it happened.

What has happened is what Prefect keeps as events, so nothing is lost with this process: each
webhook has a cursor in its own block, and whoever delivers next goes on from there.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from random import uniform
from threading import Event, Thread
from time import monotonic
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import BlockDocument, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventOrder
from prefect.events.schemas.events import ReceivedEvent

from prefect_executions.blocks.documents import write
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.models import Status
from prefect_executions.prefect.changes import CheckpointSaved, StatusChanged, change_of
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.events import (
    CHECKPOINT_SAVED,
    FLOW_RUN,
    PREFECT_HEARTBEAT,
    run_id_of,
)
from prefect_executions.prefect.states import CREATING, STATUS_OF_TYPE
from prefect_executions.prefect.tags import agent_tag
from prefect_executions.webhooks.lease import TERM, Lease
from prefect_executions.webhooks.post import Undelivered, is_public, post

logger = logging.getLogger(__name__)

_TAG = "prefect.tag."
_PAGE = 50  # what Prefect gives at once
_KEPT_IDS = 1_000
_KEPT_RUNS = 1_000
_MESSAGE_LENGTH = 10_000
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Timing:
    """How soon, how often and how long, in seconds.

    Attributes:
        look: Between two looks for something new.
        glance_back: How late an event may come into Prefect and be found at once.
        look_back: How late it may come and be found at all.
        look_back_every: Between two looks that far back.
        first_retry: Before the second try; each further wait is twice as long.
        longest_retry: The longest wait.
        give_up: How old an event may become before it is dropped.
        timeout: For an answer.
        save: Between two writes of the cursor.
        save_idle: The same, when there was nothing to deliver.
        term: For how long a deliverer that was killed blocks the next.
    """

    look: float = 2
    glance_back: float = 10
    look_back: float = 120
    look_back_every: float = 30
    first_retry: float = 5
    longest_retry: float = 900
    give_up: float = 3 * 86_400
    timeout: float = 15
    save: float = 5
    save_idle: float = 600
    term: float = TERM


@dataclass(frozen=True)
class Message:
    """What is posted, and the id that is the same whenever it is."""

    id: str
    body: str


def message_of(event: ReceivedEvent) -> Message | None:
    """The notification of an event in Prefect; None if it is of no interest."""
    if (found := change_of(event)) is None:
        return None
    _, change = found
    data = change.data.model_dump(mode="json", exclude={"at"})
    if isinstance(change, CheckpointSaved):
        type_ = "execution.checkpoint"
    elif isinstance(change, StatusChanged) and change.data.state_name != CREATING:
        type_ = "execution.status"
        data["previous_status"] = _status(event.payload.get("initial_state"))
        data["message"] = (change.data.message or "")[:_MESSAGE_LENGTH] or None
    else:
        return None
    at = event.occurred.astimezone(UTC).isoformat().replace("+00:00", "Z")
    body = {"type": type_, "timestamp": at, "data": data}
    return Message(f"evt_{event.id.hex}", json.dumps(body, separators=(",", ":")))


def _status(state: Any) -> Status | None:
    """The status of a state in an event's payload."""
    type_ = StateType.__members__.get(str(state.get("type"))) if isinstance(state, dict) else None
    return STATUS_OF_TYPE[type_] if type_ else None


class Delivery:
    """Delivers to one webhook, in the order in which things happened, in a thread of its own.

    Args:
        client: Prefect's.
        document: The webhook's block document.
        webhook: The webhook.
        tags: The tags of the flow runs that are executions.
        lease: Held as long as this process may deliver.
        pace: How soon, how often, how long.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        document: BlockDocument,
        webhook: ExecutionWebhook,
        *,
        tags: list[str],
        lease: Lease,
        pace: Timing,
    ) -> None:
        self._client = client
        self._id = document.id
        self._name = document.name
        self._webhook = webhook
        self._tags = set(tags)
        self._lease = lease
        self._pace = pace
        self._begins = document.created or datetime.now(UTC)
        self._cursor = webhook.delivered_until or self._begins
        # What lies before the cursor by less than `look_back` and is done with; of this the ids in
        # the block are what an earlier deliverer has left, with times that nobody knows any more.
        self._done: OrderedDict[UUID, datetime] = OrderedDict(
            (id_, self._cursor) for id_ in webhook.delivered
        )
        self._delivered = set(self._done)
        self._runs: OrderedDict[UUID, frozenset[str]] = OrderedDict()
        self._saved = self._cursor
        self._saved_at = -inf
        self._unsaved = False  # whether something was delivered since
        self._looked_back_at = -inf
        self._ended = Event()
        self._news = Event()
        self._thread = Thread(
            target=copy_context().run,
            args=(self._run,),
            name=f"executions-webhook-{self._name}",
            daemon=True,  # it may hang in the resolver of names, which knows no time-out
        )

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def end(self) -> None:
        """Begin no other delivery."""
        self._ended.set()
        self._news.set()

    def join(self, timeout: float) -> None:
        """Wait until it has ended, for so many seconds."""
        self._thread.join(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether it may still deliver something."""
        return self._thread.is_alive()

    def update(self, webhook: ExecutionWebhook) -> None:
        """Go on with what the block says now; a receiver that was repaired is tried at once."""
        kept = {"delivered_until", "delivered"}
        changed = webhook.model_dump(exclude=kept) != self._webhook.model_dump(exclude=kept) or (
            webhook.secret != self._webhook.secret
        )
        self._webhook = webhook
        if changed:
            self._news.set()

    def _over(self) -> bool:
        return self._ended.is_set() or not self._lease.held

    def _run(self) -> None:
        while not self._over():
            try:
                self._round()
                self._save()
            except PrefectUnavailable as away:
                logger.warning("Webhook %r: trying again soon: %s", self._name, away)
            except Exception:
                logger.exception("Webhook %r: could not deliver", self._name)
            self._news.wait(self._pace.look)
            self._news.clear()
        if self._lease.held:
            try:
                self._save(at_once=True)
            except PrefectUnavailable as away:
                logger.warning("Webhook %r will repeat itself: %s", self._name, away)

    # ------------------------------------------------------------------ what has happened

    def _round(self) -> None:
        """Deliver whatever is new."""
        for page in self._pages():
            tags = self._tags_of_runs(page)
            for event in page:
                if self._over() or not self._deliver(event, tags[_run_id(event)]):
                    return
                self._save()
            self._forget()

    def _pages(self) -> Iterator[list[ReceivedEvent]]:
        """What has occurred since, oldest first, and what has come late."""
        now = monotonic()
        far = now - self._looked_back_at >= self._pace.look_back_every
        back = self._pace.look_back if far else self._pace.glance_back
        since = max(self._cursor - timedelta(seconds=back), self._begins)
        while True:
            with prefect_errors():
                page = self._client.read_events(self._filter(since), limit=_PAGE).events
            new = [e for e in page if e.id not in self._done and _run_id(e) is not None]
            if new:
                yield new
            if len(page) < _PAGE:
                break
            # More than a page of the same microsecond would be read for ever.
            since = max(page[-1].occurred, since + _MICROSECOND)
        if far:
            self._looked_back_at = now

    def _filter(self, since: datetime) -> EventFilter:
        names = {"status": FLOW_RUN, "checkpoint": CHECKPOINT_SAVED}
        return EventFilter(
            occurred=EventOccurredFilter(since=since, until=datetime.now(UTC)),
            event=EventNameFilter(
                prefix=[names[each] for each in self._webhook.events],
                exclude_name=[PREFECT_HEARTBEAT],
            ),
            order=EventOrder.ASC,
        )

    def _tags_of_runs(self, page: list[ReceivedEvent]) -> dict[UUID | None, frozenset[str]]:
        """The tags of the flow runs that the events are about.

        The events' own are not enough: Prefect remembers a run's tags for five minutes, and a run
        that was not created by the service gets its own as it begins.
        """
        found: dict[UUID | None, frozenset[str]] = {}
        for event in page:
            own = _tags_in(event)
            run_id = _run_id(event)
            known = self._runs.get(run_id) if run_id else None
            if known is None and self._tags <= own:
                known = own
            found[run_id] = known or found.get(run_id, frozenset()) | own
        if unknown := [
            run_id for run_id, tags in found.items() if run_id and not self._tags <= tags
        ]:
            filter_ = FlowRunFilter(id=FlowRunFilterId(any_=unknown))
            with prefect_errors():
                runs = self._client.read_flow_runs(flow_run_filter=filter_, limit=len(unknown))
            found.update({run.id: frozenset(run.tags) for run in runs})
        for run_id, tags in found.items():
            if run_id and self._tags <= tags:
                self._runs[run_id] = tags
                self._runs.move_to_end(run_id)
        while len(self._runs) > _KEPT_RUNS:
            self._runs.popitem(last=False)
        return found

    # ------------------------------------------------------------------ delivering

    def _deliver(self, event: ReceivedEvent, tags: frozenset[str]) -> bool:
        """Do with an event whatever is to be done; false if this courier ended before."""
        if not self._tags <= tags:
            # As a run begins that the service has not created, this event comes just before its
            # tags do; the next look finds it again.
            if event.resource.get("prefect.state-type") != StateType.RUNNING:
                self._finish(event)
            return True
        message = message_of(event) if self._wants(tags) else None
        if message is not None:
            if not self._send(message, event):
                return False
            self._delivered.add(event.id)
            self._unsaved = True
        self._finish(event)
        return True

    def _wants(self, tags: frozenset[str]) -> bool:
        agents = self._webhook.agents
        return agents is None or any(agent_tag(agent) in tags for agent in agents)

    def _finish(self, event: ReceivedEvent) -> None:
        self._done[event.id] = event.occurred
        self._cursor = max(self._cursor, event.occurred)

    def _send(self, message: Message, event: ReceivedEvent) -> bool:
        """Post it until it has arrived or is too old; false if this courier ended before."""
        tries = 0
        while True:
            self._news.clear()
            if self._over():
                return False
            tries += 1
            webhook = self._webhook
            problem = self._post(webhook, message)
            if problem is None:
                return True
            if problem == "410":
                self._disable()
                return False
            if datetime.now(UTC) - event.occurred > timedelta(seconds=self._pace.give_up):
                logger.error(
                    "Webhook %r: dropped %s after %d tries: %s",
                    self._name, message.id, tries, problem,
                )  # fmt: skip
                return True
            wait = min(self._pace.first_retry * 2 ** min(tries - 1, 30), self._pace.longest_retry)
            wait *= uniform(0.75, 1.25)
            logger.warning(
                "Webhook %r: %s was not delivered (try %d): %s. Again in %.0f s.",
                self._name, message.id, tries, problem, wait,
            )  # fmt: skip
            self._save()
            if self._news.wait(wait):
                tries = 0

    def _post(self, webhook: ExecutionWebhook, message: Message) -> str | None:
        """Try once; what went wrong."""
        try:
            status = post(
                webhook.url,
                message_id=message.id,
                body=message.body,
                secret=webhook.secret.get_secret_value(),
                timeout=self._pace.timeout,
                may_reach=(lambda _: True) if webhook.allow_private_addresses else is_public,
            )
        except Undelivered as error:
            return str(error)
        return None if 200 <= status < 300 else str(status)

    def _disable(self) -> None:
        """Turn the webhook off, as its receiver wants."""
        logger.warning("Webhook %r: its receiver is gone (410), it is turned off", self._name)
        write(self._client, self._id, enabled=False)
        self._ended.set()

    # ------------------------------------------------------------------ the cursor

    def _save(self, *, at_once: bool = False) -> None:
        """Write the cursor, if it is due."""
        if self._cursor == self._saved and not self._unsaved:
            return
        age = monotonic() - self._saved_at
        if not at_once and age < (self._pace.save if self._unsaved else self._pace.save_idle):
            return
        ids = [id_.hex for id_ in self._done if id_ in self._delivered]
        write(
            self._client,
            self._id,
            delivered_until=self._cursor.isoformat(),
            delivered=ids[-_KEPT_IDS:],
        )
        self._saved, self._saved_at, self._unsaved = self._cursor, monotonic(), False

    def _forget(self) -> None:
        """Forget what is too old to be read again."""
        oldest = self._cursor - timedelta(seconds=self._pace.look_back)
        for id_ in [id_ for id_, occurred in self._done.items() if occurred < oldest]:
            del self._done[id_]
            self._delivered.discard(id_)


def _run_id(event: ReceivedEvent) -> UUID | None:
    return run_id_of(event.resource.id)


def _tags_in(event: ReceivedEvent) -> frozenset[str]:
    return frozenset(
        related.id.removeprefix(_TAG) for related in event.related if related.id.startswith(_TAG)
    )
