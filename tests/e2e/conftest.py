"""Fixtures of the end-to-end tests, made with `world`."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_executions.local import Stack
from world import HERE, World, service


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("journey") is None:
                item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=HERE)
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def world(stack: Stack, prefect: SyncPrefectClient) -> Iterator[World]:
    with service(stack, prefect) as (_, rest):
        yield World(stack, prefect, rest)
