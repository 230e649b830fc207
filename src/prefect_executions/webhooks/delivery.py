"""Delivers what happens to executions to one webhook, in order.

It reads what Prefect keeps as events, so nothing is lost when this process ends: the webhook's
block has a cursor, and the next process continues from there.
"""

import logging
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from random import uniform
from threading import Event, Thread

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument, StateType
from prefect.events.schemas.events import ReceivedEvent

from prefect_executions.blocks.documents import write
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.tags import agent_tag
from prefect_executions.webhooks.cursor import Cursor
from prefect_executions.webhooks.lease import Lease
from prefect_executions.webhooks.message import Message, message_of
from prefect_executions.webhooks.post import Undelivered, is_public, post
from prefect_executions.webhooks.reader import EventReader
from prefect_executions.webhooks.timing import Timing

logger = logging.getLogger(__name__)


class PostResult(Enum):
    """A receiver's answer after which a message is not posted again."""

    DELIVERED = auto()
    GONE = auto()  # 410: the receiver wants no more messages


@dataclass(frozen=True)
class PostFailure:
    """Why a message was not delivered this time.

    Args:
        reason: The status of the receiver's answer, or why there was none.
    """

    reason: str


class Delivery:
    """Delivers to one webhook, in the order in which things happened, in a thread of its own.

    Args:
        client: Prefect's.
        document: The webhook's block document.
        webhook: The webhook.
        tags: The tags of the flow runs that are executions.
        lease: Held as long as this process may deliver.
        timing: Intervals and time limits.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        document: BlockDocument,
        webhook: ExecutionWebhook,
        *,
        tags: list[str],
        lease: Lease,
        timing: Timing,
    ) -> None:
        self._client = client
        self._document = document
        self._webhook = webhook
        self._tags = frozenset(tags)
        self._lease = lease
        self._timing = timing
        self._cursor = Cursor(client, document, webhook, timing=timing)
        self._reader = EventReader(
            client, self._cursor, kinds=webhook.events, tags=self._tags, timing=timing
        )
        self._stopping = Event()
        self._wake = Event()
        self._thread = Thread(
            target=copy_context().run,
            args=(self._run,),
            name=f"executions-webhook-{document.name}",
            daemon=True,  # resolving a host's name has no time-out and may hang
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the message that it is posting."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, at most `timeout` seconds."""
        self._thread.join(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether it may still deliver something."""
        return self._thread.is_alive()

    def update(self, webhook: ExecutionWebhook) -> None:
        """Use the block as it is now; after a change, a message that failed is retried at once."""
        cursor = {"delivered_until", "delivered"}
        old, new = (each.model_dump(exclude=cursor) for each in (self._webhook, webhook))
        changed = old != new or webhook.secret != self._webhook.secret
        self._webhook = webhook
        self._reader.kinds = webhook.events
        if changed:
            self._wake.set()

    def _is_over(self) -> bool:
        return self._stopping.is_set() or not self._lease.held

    def _run(self) -> None:
        name = self._document.name
        while not self._is_over():
            try:
                self._deliver_new()
                self._cursor.save()
            except PrefectUnavailable as away:
                logger.warning("Webhook %r: trying again soon: %s", name, away)
            except Exception:
                logger.exception("Webhook %r: could not deliver", name)
            self._wake.wait(self._timing.poll)
            self._wake.clear()
        if self._lease.held:
            try:
                self._cursor.save(at_once=True)
            except PrefectUnavailable as away:
                logger.warning("Webhook %r: some messages will be repeated: %s", name, away)

    def _deliver_new(self) -> None:
        """Deliver all new events."""
        for page in self._reader.pages():
            for event, tags in page:
                if self._is_over() or not self._deliver(event, tags):
                    return
                self._cursor.save()
            self._cursor.forget()

    def _deliver(self, event: ReceivedEvent, tags: frozenset[str]) -> bool:
        """Handle an event. Returns False when the delivery ended first."""
        if not self._tags <= tags:
            # When a run begins that the service did not create, this event comes just before the
            # run is tagged; the next read finds the event again.
            if event.resource.get("prefect.state-type") != StateType.RUNNING:
                self._cursor.handled(event, delivered=False)
            return True
        message = message_of(event) if self._is_for(tags) else None
        if message is not None and not self._send(message, event.occurred):
            return False
        self._cursor.handled(event, delivered=message is not None)
        return True

    def _is_for(self, tags: frozenset[str]) -> bool:
        agents = self._webhook.agents
        return agents is None or any(agent_tag(agent) in tags for agent in agents)

    def _send(self, message: Message, occurred: datetime) -> bool:
        """Post a message until it is delivered or too old. Returns False when this ended first."""
        name, timing = self._document.name, self._timing
        tries = 0
        while True:
            self._wake.clear()
            if self._is_over():
                return False
            tries += 1
            result = self._post(message)
            if result is PostResult.DELIVERED:
                return True
            if result is PostResult.GONE:
                self._disable()
                return False
            if datetime.now(UTC) - occurred > timedelta(seconds=timing.give_up):
                logger.error(
                    "Webhook %r: dropped %s after %d tries: %s",
                    name, message.id, tries, result.reason,
                )  # fmt: skip
                return True
            wait = min(timing.first_retry * 2 ** min(tries - 1, 30), timing.longest_retry)
            wait *= uniform(0.75, 1.25)
            logger.warning(
                "Webhook %r: %s was not delivered (try %d): %s. Again in %.0f s.",
                name, message.id, tries, result.reason, wait,
            )  # fmt: skip
            self._cursor.save()
            if self._wake.wait(wait):
                tries = 0

    def _post(self, message: Message) -> PostResult | PostFailure:
        """Post a message once."""
        webhook = self._webhook
        try:
            status = post(
                webhook.url,
                message_id=message.id,
                body=message.body,
                secret=webhook.secret.get_secret_value(),
                timeout=self._timing.timeout,
                may_reach=(lambda _: True) if webhook.allow_private_addresses else is_public,
            )
        except Undelivered as error:
            return PostFailure(str(error))
        if 200 <= status < 300:
            return PostResult.DELIVERED
        return PostResult.GONE if status == 410 else PostFailure(str(status))

    def _disable(self) -> None:
        """Turn the webhook off."""
        logger.warning(
            "Webhook %r: its receiver is gone (410), it is turned off", self._document.name
        )
        write(self._client, self._document.id, enabled=False)
        self._stopping.set()
