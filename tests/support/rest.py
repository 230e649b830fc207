"""The REST service in this process, over a store that a test can read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service import create_app
from prefect_executions.service.keyring import Keyring
from prefect_executions.storage.objects import Objects

KEY = "a key"


@contextmanager
def opened(
    prefect: SyncPrefectClient, objects: Objects, *, api_key: str | None = KEY, **options: Any
) -> Iterator[TestClient]:
    """A client of the service, with the key."""
    flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
    keyring = Keyring(prefect, api_key=api_key)
    app = create_app(Executions(objects, flow_runs), keyring, **options)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    try:
        with TestClient(app, headers=headers, raise_server_exceptions=False) as client:
            yield client
    finally:
        keyring.close()
