"""The REST service in this process, over a store that a test can read."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
from fastapi.testclient import TestClient
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.errors import StoreUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service import create_app
from prefect_executions.service.keyring import Keyring
from prefect_executions.storage.objects import MemoryObjects, Objects

KEY = "a key"
LIMIT = 100_000  # bytes of a body


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


@flow
def nothing(n: int) -> None:
    """The flow of a deployment; it is never run."""


class Away(MemoryObjects):
    """A store that can become unavailable."""

    away = False

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("do this", "it is away")

    def create(self, key: str, data: bytes) -> None:
        self._check()
        super().create(key, data)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        self._check()
        return super().get(keys, first=first, skip=skip)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        self._check()
        return super().scan(prefix, limit=limit)


def path(execution: dict[str, Any], rest: str = "") -> str:
    return f"/v1/execution/{execution['id']}{rest}"


def run_id(execution: dict[str, Any]) -> str:
    return str(execution["prefect"]["flow_run_id"])


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = dict(answer.json())
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["detail"]
    return problem


def assert_field(answer: httpx.Response, code: str, field: str) -> None:
    problem = assert_problem(answer, 422, code)
    assert field in [error["field"] for error in problem["errors"]]
