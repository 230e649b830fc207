"""The service in this process, and an agent at its `/mcp`."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient

from mcp_agents import Agent, agent_at
from office import Office
from rest import KEY


@pytest.fixture
def office(prefect: SyncPrefectClient) -> Iterator[Office]:
    here = Office(prefect)
    yield here
    here.close()


@pytest.fixture
def agent(office: Office) -> Iterator[Agent]:
    """An agent that may do everything."""
    with agent_at(office.app, KEY) as here:
        yield here
