"""The blocks of API keys in a real Prefect: created, listed and revoked."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client

from block_suite import BlockSuite
from keys import READ, put_key, remove_keys
from prefect_executions.blocks.key import (
    ExecutionKey,
    Permission,
    create_key,
    list_keys,
    revoke_key,
)
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.local import Stack, free_ports


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    """A Prefect without keys, before and after the test."""
    with get_client(sync_client=True) as client:
        remove_keys(client)
        yield client
        remove_keys(client)


class TestExecutionKey(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return ExecutionKey


def test_keys_are_listed_without_what_could_be_used(prefect: SyncPrefectClient) -> None:
    for name in ("b", "a"):
        create_key(prefect, name, permissions=READ)

    first, second = list_keys(prefect)

    assert (first.name, second.name) == ("a", "b")
    assert first.permissions == {Permission.READ}
    assert first.created_at is not None
    assert (datetime.now(UTC) - first.created_at).total_seconds() < 60
    assert (first.agents, first.deployments, first.rate_limit) == (None,) * 3
    assert (first.last_used_at, first.problem) == (None,) * 2


def test_only_the_digest_is_kept(prefect: SyncPrefectClient) -> None:
    secret = create_key(prefect, "a", permissions=READ)

    answer = prefect.request("POST", "/block_documents/filter", json={"include_secrets": True})

    kept = json.dumps(answer.json())
    assert secret not in kept
    assert secret.removeprefix("pxk_") not in kept
    assert sha256(secret.encode()).hexdigest() in kept


@pytest.mark.parametrize("name", ["", "A", "a_b", "a b", "a/b", "é", "a\n", "x" * 101, "../a"])
def test_a_wrong_name_is_refused(prefect: SyncPrefectClient, name: str) -> None:
    with pytest.raises(ValueError, match=r"name: .* is not 1 to 100 lowercase letters, digits"):
        create_key(prefect, name, permissions=READ)

    assert list_keys(prefect) == []


@pytest.mark.parametrize("name", ["settings", "anybody", "nobody"])
def test_the_names_of_the_service_are_reserved(prefect: SyncPrefectClient, name: str) -> None:
    with pytest.raises(ValueError, match=r"name: .* is reserved"):
        create_key(prefect, name, permissions=READ)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"permissions": []}, "permissions"),
        ({"permissions": ["admin"]}, "permissions.0"),
        ({"agents": []}, "agents"),
        ({"agents": [""]}, "agents.0"),
        ({"deployments": []}, "deployments"),
        ({"deployments": ["flow"]}, "deployments.0"),
        ({"deployments": ["flow/"]}, "deployments.0"),
        ({"deployments": ["a/b/c"]}, "deployments.0"),
        ({"rate_limit": ""}, "rate_limit"),
        ({"rate_limit": "0/minute"}, "rate_limit"),
        ({"rate_limit": "1/second;9/minute"}, "rate_limit"),
        ({"rate_limit": "many"}, "rate_limit"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(
    prefect: SyncPrefectClient, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        create_key(prefect, "a", **({"permissions": READ} | wrong))

    assert list_keys(prefect) == []


def test_a_broken_block_can_be_revoked(prefect: SyncPrefectClient) -> None:
    put_key(prefect, "broken", {})

    revoke_key(prefect, "broken")

    assert list_keys(prefect) == []


def test_without_prefect_nothing_is_made_or_listed() -> None:
    nowhere = SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")

    for act in (lambda: list_keys(nowhere), lambda: revoke_key(nowhere, f"a-{uuid4().hex}")):
        with pytest.raises(PrefectUnavailable):
            act()
