"""An execution whose events are streamed."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects
from streaming import Followed, Replica


@pytest.fixture
def executions(prefect: SyncPrefectClient) -> Executions:
    flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
    return Executions(MemoryObjects(), flow_runs, tell=lambda *_: None)  # tests send the events


@pytest.fixture
def new(prefect: SyncPrefectClient, executions: Executions) -> Callable[[], Followed]:
    def make() -> Followed:
        made, _ = Creation(executions).create(name="a run")
        return Followed(prefect, executions, made.id)

    return make


@pytest.fixture
def world(new: Callable[[], Followed]) -> Followed:
    return new()


@pytest.fixture
def replica(executions: Executions) -> Iterator[Replica]:
    with Replica(executions) as running:
        yield running
