"""Runs a delivery for each webhook, in one replica of the service at a time."""

import logging
from collections.abc import Callable
from functools import cache
from threading import Event
from time import monotonic
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.tags import tags_of
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import Objects
from prefect_executions.stores.store import load_store
from prefect_executions.webhooks.delivery import Delivery
from prefect_executions.webhooks.hooks import read_hooks
from prefect_executions.webhooks.lease import Lease
from prefect_executions.webhooks.timing import Timing

logger = logging.getLogger(__name__)


class Dispatcher:
    """Delivers to all webhooks while it holds a lease, so that one replica delivers at a time.

    Args:
        client: Prefect's.
        store: The name of the Execution Store block that the executions are kept in.
        objects: Opens that store, in which dead letters are kept.
        timing: Intervals and limits.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        *,
        store: str,
        objects: Callable[[], Objects],
        timing: Timing | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._objects = objects
        self._timing = timing or Timing()
        self._tags = tags_of(store)
        self._lease = Lease(client, f"prefect-executions-webhooks-{store}", term=self._timing.term)
        self._deliveries: dict[UUID, Delivery] = {}

    def run(self, stop: Event) -> None:
        """Deliver until `stop` is set; a message that is being posted is finished."""
        while not stop.wait(self._timing.poll):
            self.reconcile()
        self._stop_all()
        try:
            self._lease.release()
        except PrefectUnavailable as away:
            logger.warning("Another replica can deliver only when the lease ends: %s", away)

    def reconcile(self) -> None:
        """Take or renew the lease, and start and stop deliveries to match the webhooks.

        An error is logged; the next call tries again.
        """
        try:
            if self._lease.hold():
                self._match_webhooks()
        except PrefectUnavailable as away:
            logger.warning("Trying again soon: %s", away)
        except Exception:
            logger.exception("Could not reconcile webhooks")
        if not self._lease.held:
            self._stop_all()

    def _match_webhooks(self) -> None:
        wanted = {
            hook.document.id: hook
            for hook in read_hooks(self._client)
            if hook.webhook.enabled and hook.webhook.store == self._store
        }
        for id_, delivery in list(self._deliveries.items()):
            if id_ in wanted:
                delivery.update(wanted[id_].webhook)
            else:
                delivery.stop()
            if not delivery.is_alive:
                del self._deliveries[id_]
                # It may have turned its webhook off after that was read: the next call reads again.
                wanted.pop(id_, None)
        for id_, hook in wanted.items():
            if id_ not in self._deliveries:
                delivery = Delivery(
                    self._client,
                    hook,
                    objects=self._objects,
                    tags=self._tags,
                    lease=self._lease,
                    timing=self._timing,
                )
                self._deliveries[id_] = delivery
                delivery.start()

    def _stop_all(self) -> None:
        for delivery in self._deliveries.values():
            delivery.stop()
        ends = monotonic() + self._timing.timeout + 2
        for delivery in self._deliveries.values():
            delivery.join(max(ends - monotonic(), 0))
        self._deliveries.clear()


def deliver(
    stop: Event,
    *,
    timing: Timing | None = None,
    metered: Callable[[Objects], Objects] = lambda objects: objects,
) -> None:
    """Deliver to all webhooks until `stop` is set, also through outages of Prefect.

    Args:
        stop: Ends it; it returns within 20 seconds.
        timing: Intervals and limits.
        metered: Makes of the store one whose requests are counted.
    """
    store = ExecutionsSettings().store

    @cache  # opened for the first dead letter: a store that is away hinders no delivery
    def objects() -> Objects:
        return metered(load_store(store).open())

    with get_client(sync_client=True) as client:
        Dispatcher(client, store=store, objects=objects, timing=timing).run(stop)
