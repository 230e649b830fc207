"""A REST service over a real Prefect and a store in memory."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.service.app import Limits
from rest import LIMIT, Away, nothing, opened


@pytest.fixture
def store() -> Away:
    return Away()


@pytest.fixture
def rest(store: Away, prefect: SyncPrefectClient) -> Iterator[TestClient]:
    with opened(prefect, store, limits=Limits(body_bytes=LIMIT)) as client:
        yield client


@pytest.fixture
def deployment(prefect: SyncPrefectClient) -> str:
    """The id of a deployment without workers."""
    flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    schema = nothing.parameters.model_dump_for_openapi()
    created = prefect.create_deployment(
        flow_id,
        "idle",
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
        tags=["execution"],
    )
    return str(created)


@pytest.fixture
def execution(rest: TestClient, deployment: str) -> dict[str, Any]:
    """An execution whose flow run is never started."""
    body = {
        "name": "a task",
        "description": "What it is for",
        "agent_id": "agent 7",
        "task_type": "research",
        "deployment": deployment,
        "parameters": {"n": 1},
        "state": {"found": []},
        "config": {"max_retries": 2},
    }
    answer = rest.post("/v1/execution", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"].endswith(f"/v1/execution/{answer.json()['id']}")
    return dict(answer.json())
