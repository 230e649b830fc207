"""A receiver, a client of Prefect's, and webhooks in a store of their own."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.local import Stack
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
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def here(prefect: SyncPrefectClient) -> Iterator[WebhookWorld]:
    world = WebhookWorld(prefect)
    yield world
    world.stop()
    for name in world.names:
        ExecutionWebhook.delete(name)
