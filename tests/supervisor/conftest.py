"""The world of the supervisor's tests."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client

from idle import IdleWorld
from prefect_executions.local import Stack


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look does all that is due, on a busy machine too."""
    monkeypatch.setattr("prefect_executions.supervisor.supervisor.SHARE_SECONDS", 600.0)


@pytest.fixture
def here(stack: Stack) -> Iterator[IdleWorld]:
    with get_client(sync_client=True) as client:
        yield IdleWorld(client)
