"""Fixtures of the end-to-end tests, made with `world`."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_executions.local import Stack
from world import HERE, World, pid_of, service

SERVICE = pytest.StashKey[Callable[[], int]]()  # the process id of the service of `world`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("journey") is None:
                item.add_marker(pytest.mark.long)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the service after the last of these tests.

    Its supervisor looks at Prefect each second, and the tests after these have none of their own.
    """
    is_last = nextitem is not None and HERE not in nextitem.path.parents
    if is_last and (pid := item.session.stash.get(SERVICE, None)):
        del item.session.stash[SERVICE]
        os.kill(pid(), signal.SIGTERM)


@pytest.fixture(scope="session")
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=HERE)
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def world(
    request: pytest.FixtureRequest, stack: Stack, prefect: SyncPrefectClient
) -> Iterator[World]:
    with service(stack, prefect) as (run, rest):
        request.session.stash[SERVICE] = lambda: pid_of(prefect.read_flow_run(run.id))
        yield World(stack, prefect, rest)
