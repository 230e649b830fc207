"""Streams of events: they end with their key, and a key has so many."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from keys import READ
from prefect_executions.blocks.key import create_key, revoke_key
from prefect_executions.service.app import Limits
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY
from serving import served


@pytest.fixture
def url(prefect: SyncPrefectClient) -> Iterator[str]:
    limits = Limits(streams=2)
    with served(prefect, MemoryObjects(), store=uuid4().hex, limits=limits) as url:
        yield url


@pytest.fixture
def path(url: str) -> str:
    made = httpx.post(
        f"{url}/v1/execution",
        json={"name": "a"},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=30,
    )
    return f"{url}/v1/execution/{made.json()['id']}/events"


@pytest.fixture
def secret(prefect: SyncPrefectClient) -> Iterator[tuple[str, str]]:
    name = f"key-{uuid4().hex}"
    yield name, create_key(prefect, name, permissions=READ)
    revoke_key(prefect, name)


def test_a_stream_ends_when_its_key_is_revoked(
    prefect: SyncPrefectClient, path: str, secret: tuple[str, str]
) -> None:
    name, key = secret
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", path, headers=headers, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")

        revoke_key(prefect, name)
        list(lines)  # it ends, and not by a broken connection

    assert httpx.get(path, headers=headers, timeout=30).status_code == 401
    create_key(prefect, name, permissions=READ)  # for the fixture to revoke


def test_a_key_has_so_many_streams(path: str, secret: tuple[str, str]) -> None:
    _, key = secret
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(headers=headers, timeout=30) as client,
        client.stream("GET", path) as first,
        client.stream("GET", path) as second,
    ):
        assert (first.status_code, second.status_code) == (200, 200)

        refused = client.get(path)
        assert refused.status_code == 429
        assert "2 streams open" in refused.json()["detail"]
        assert refused.headers["Retry-After"]
        with httpx.stream("GET", path, headers={"x-api-key": KEY}, timeout=30) as other:
            assert other.status_code == 200
