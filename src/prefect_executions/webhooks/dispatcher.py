"""Sees that each webhook has a courier; of all replicas of the service one delivers at a time."""

import logging
from collections.abc import Iterator
from threading import Event
from time import monotonic
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from pydantic import ValidationError

from prefect_executions.blocks.documents import documents_of, problem_of, write
from prefect_executions.blocks.webhook import ExecutionWebhook, new_secret
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.tags import tags_of
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.webhooks.delivery import Delivery, Timing
from prefect_executions.webhooks.lease import Lease

logger = logging.getLogger(__name__)


class Dispatcher:
    """Delivers to all webhooks, as long as no other one does.

    Args:
        client: Prefect's.
        store: The name of the Execution Store block whose executions are told about.
        pace: How soon, how often, how long.
    """

    def __init__(
        self, client: SyncPrefectClient, *, store: str, pace: Timing | None = None
    ) -> None:
        self._client = client
        self._store = store
        self._pace = pace or Timing()
        self._tags = tags_of(store)
        self._lease = Lease(client, f"prefect-executions-webhooks-{store}", term=self._pace.term)
        self._couriers: dict[UUID, Delivery] = {}

    def run(self, stop: Event) -> None:
        """Deliver until `stop` is set; what is under way is finished."""
        while not stop.wait(self._pace.look):
            self.look()
        self._dismiss()
        try:
            self._lease.release()
        except PrefectUnavailable as away:
            logger.warning("Another deliverer has to wait: %s", away)

    def look(self) -> None:
        """Do once what is to be done; what fails is logged, and done the next time."""
        try:
            if self._lease.hold():
                self._staff()
        except PrefectUnavailable as away:
            logger.warning("Trying again soon: %s", away)
        except Exception:
            logger.exception("Could not look after webhooks")
        if not self._lease.held:
            self._dismiss()

    def _staff(self) -> None:
        """See that each webhook that is turned on has a courier, and no other has."""
        wanted = dict(self._webhooks())
        for id_, courier in list(self._couriers.items()):
            if id_ in wanted:
                courier.update(wanted[id_][1])
            else:
                courier.end()
            if not courier.is_alive:
                del self._couriers[id_]
                # It may have turned its webhook off since that was read: the next look tells.
                wanted.pop(id_, None)
        for id_, (document, webhook) in wanted.items():
            if id_ not in self._couriers:
                courier = Delivery(
                    self._client,
                    document,
                    webhook,
                    tags=self._tags,
                    lease=self._lease,
                    pace=self._pace,
                )
                self._couriers[id_] = courier
                courier.start()

    def _webhooks(self) -> Iterator[tuple[UUID, tuple[BlockDocument, ExecutionWebhook]]]:
        """All webhooks for this store that are turned on."""
        slug = ExecutionWebhook.get_block_type_slug()
        for document in documents_of(self._client, slug, include_secrets=True):
            try:
                webhook = self._webhook(document)
            except ValidationError as error:
                logger.error("Webhook %r is not valid: %s", document.name, problem_of(error))
                continue
            if webhook.enabled and webhook.store == self._store:
                yield document.id, (document, webhook)

    def _webhook(self, document: BlockDocument) -> ExecutionWebhook:
        """The block in a document; one that was saved in the UI without a secret gets one."""
        data = {name: value for name, value in document.data.items() if value is not None}
        if not data.get("secret"):
            data["secret"] = new_secret()
            ExecutionWebhook.model_validate(data)
            write(self._client, document.id, secret=data["secret"])
        return ExecutionWebhook.model_validate(data)

    def _dismiss(self) -> None:
        for courier in self._couriers.values():
            courier.end()
        ends = monotonic() + self._pace.timeout + 2
        for courier in self._couriers.values():
            courier.join(max(ends - monotonic(), 0))
        self._couriers.clear()


def deliver(stop: Event, *, pace: Timing | None = None) -> None:
    """Deliver to all webhooks until `stop` is set; it waits for a Prefect that is away.

    Args:
        stop: Ends it; it returns within 20 seconds.
        pace: How soon, how often, how long.
    """
    with get_client(sync_client=True) as client:
        Dispatcher(client, store=ExecutionsSettings().store, pace=pace).run(stop)
