"""A browser without pages of its own, at the service in this process."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient, get_client

from html_pages import log_in
from office import Office
from prefect_executions.local import Stack
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY, opened


@pytest.fixture(scope="module")
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def browser(prefect: SyncPrefectClient) -> Iterator[TestClient]:
    """A browser that has no key yet."""
    with opened(prefect, MemoryObjects()) as client:
        del client.headers["Authorization"]
        yield client


@pytest.fixture
def inside(browser: TestClient) -> TestClient:
    log_in(browser, KEY)
    return browser


@pytest.fixture
def office(prefect: SyncPrefectClient) -> Iterator[Office]:
    here = Office(prefect)
    yield here
    here.close()


@pytest.fixture
def reader(office: Office) -> Iterator[TestClient]:
    """A browser with a key, at the office."""
    with TestClient(office.app, raise_server_exceptions=False) as client:
        log_in(client, KEY)
        yield client
