"""Delivers what happens to executions to one webhook, in order.

It reads what Prefect keeps as events, so nothing is lost when this process ends: the webhook's
block has a cursor, and the next process continues from there.
"""

import logging
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import uniform
from threading import Event, Thread

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.events import ReceivedEvent

from prefect_executions.blocks.documents import write
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.errors import PrefectUnavailable, StoreNotFound, StoreUnavailable
from prefect_executions.prefect.tags import agent_tag
from prefect_executions.storage.objects import Objects
from prefect_executions.webhooks.cursor import Cursor
from prefect_executions.webhooks.dead_letters import DeadLetter, DeadLetters
from prefect_executions.webhooks.hooks import Hook
from prefect_executions.webhooks.lease import Lease
from prefect_executions.webhooks.message import Message, message_of
from prefect_executions.webhooks.reader import EventReader
from prefect_executions.webhooks.sending import Verdict, send
from prefect_executions.webhooks.timing import Timing

logger = logging.getLogger(__name__)


@dataclass
class _Tries:
    """How often a message was sent, and refused."""

    sent: int = 0
    refused: int = 0
    rejected: int = 0

    def count(self, verdict: Verdict) -> None:
        """Note what a try has come to."""
        self.sent += 1
        self.refused += verdict in (Verdict.REFUSED, Verdict.REJECTED)
        self.rejected += verdict is Verdict.REJECTED

    def are_enough(self, timing: Timing) -> bool:
        """Whether the receiver has refused the message so often that it is a dead letter."""
        return self.refused >= timing.refusals or self.rejected >= timing.rejections


class Delivery:
    """Delivers to one webhook, in the order in which things happened, in a thread of its own.

    Args:
        client: Prefect's.
        hook: The webhook, and its block document.
        objects: Opens the store, in which dead letters are kept.
        tags: The tags of the flow runs that are executions.
        lease: Held as long as this process may deliver.
        timing: Intervals and limits.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        hook: Hook,
        *,
        objects: Callable[[], Objects],
        tags: list[str],
        lease: Lease,
        timing: Timing,
    ) -> None:
        self._client = client
        self._document = document = hook.document
        self._webhook = webhook = hook.webhook
        self._objects = objects
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
        """Send a message until it is delivered or a dead letter.

        Returns False when this ended first.
        """
        name, timing = self._document.name, self._timing
        tries = _Tries()
        while True:
            self._wake.clear()
            if self._is_over():
                return False
            answer = send(self._webhook, message, timeout=timing.timeout)
            if answer.verdict is Verdict.ACCEPTED:
                return True
            if answer.verdict is Verdict.GONE:
                self._disable()
                return False
            tries.count(answer.verdict)
            is_old = datetime.now(UTC) - occurred > timedelta(seconds=timing.give_up)
            is_dead = is_old or tries.are_enough(timing)
            if is_dead and self._bury(message, occurred, tries.sent, answer.reason):
                return True
            wait = min(timing.first_retry * 2 ** min(tries.sent - 1, 30), timing.longest_retry)
            wait *= uniform(0.75, 1.25)
            logger.warning(
                "Webhook %r: %s was not delivered (try %d): %s. Again in %.0f s.",
                name, message.id, tries.sent, answer.reason, wait,
            )  # fmt: skip
            self._cursor.save()
            if self._wake.wait(wait):
                tries = _Tries()

    def _bury(self, message: Message, occurred: datetime, tries: int, reason: str) -> bool:
        """Keep a message as a dead letter. Returns False when the store does not take it now."""
        letter = DeadLetter(
            id=message.id,
            body=message.body,
            occurred_at=occurred,
            died_at=datetime.now(UTC),
            tries=tries,
            reason=reason,
        )
        name = self._document.name
        try:
            DeadLetters(self._objects(), self._document.id).keep(letter)
        except (StoreUnavailable, StoreNotFound, PrefectUnavailable) as away:
            logger.warning("Webhook %r: no dead letter can be kept now: %s", name, away)
            return False
        logger.error(
            "Webhook %r: %s is a dead letter after %d tries: %s. See it, and send it again: "
            "prefect-executions webhooks dead-letters %s",
            name, message.id, tries, reason, name,
        )  # fmt: skip
        return True

    def _disable(self) -> None:
        """Turn the webhook off."""
        logger.warning(
            "Webhook %r: its receiver is gone (410), it is turned off", self._document.name
        )
        write(self._client, self._document.id, enabled=False)
        self._stopping.set()
