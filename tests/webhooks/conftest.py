"""A receiver, a client of Prefect's, and webhooks in a store of their own."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.blocks.webhook import ExecutionWebhook
from webhook_world import (
    Receiver,
    WebhookWorld,
    receiving,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def here(prefect: SyncPrefectClient) -> Iterator[WebhookWorld]:
    world = WebhookWorld(prefect)
    yield world
    world.stop()
    for name in world.names:
        ExecutionWebhook.delete(name)
