"""The audit log."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient, get_client

from guarded import SETTINGS_KEY, Known, client_of, guarded
from prefect_executions.local import Stack, free_ports
from prefect_executions.service.middleware.audit import audit
from prefect_executions.storage.objects import MemoryObjects
from rest import opened


@pytest.fixture(scope="module")
def nowhere() -> SyncPrefectClient:
    return SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")


@pytest.fixture
def rest(nowhere: SyncPrefectClient) -> Iterator[TestClient]:
    with opened(nowhere, MemoryObjects()) as client:
        yield client


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "prefect_executions.audit"):
        yield caplog


def _audit(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.name.endswith("executions.audit")
    ]


def test_each_change_is_logged_and_no_reading(
    keyring: Known, audited: pytest.LogCaptureFixture
) -> None:
    app = guarded(keyring)
    for method in ("GET", "HEAD", "OPTIONS"):
        client_of(app, "writer").request(method, "/who")

    client_of(app, "writer").post("/change/1?token=abc")
    client_of(app, "reader").post("/change/2")
    client_of(app, "secret").post("/change/3")
    client_of(app, SETTINGS_KEY).post("/fail")

    lines = _audit(audited)
    assert [line.split()[:4] for line in lines] == [
        ["writer", "POST", "/change/1", "200"],
        ["reader", "POST", "/change/2", "403"],
        ["nobody", "POST", "/change/3", "401"],
        ["settings", "POST", "/fail", "500"],
    ]
    assert all(line.endswith(" ms") for line in lines)
    for secret in ("abc", "secret", SETTINGS_KEY, "Bearer"):
        assert secret not in "".join(lines)
    assert {record.levelno for record in audited.records if "audit" in record.name} == {
        logging.INFO
    }


@pytest.mark.parametrize(
    "path",
    ["/change/a%0Ab", "/change/a%0D%0Awriter POST /b 200", "/change/%1b[31m", "/change/%E2%80%A8"],
)
def test_a_path_can_not_begin_another_line_of_the_log(
    keyring: Known, audited: pytest.LogCaptureFixture, path: str
) -> None:
    client_of(guarded(keyring), "writer").post(path)

    [line] = _audit(audited)
    assert line.isascii()
    assert line.isprintable()


def test_a_key_in_a_path_is_not_logged(rest: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    secret = f"pxk_{'a' * 43}"
    with caplog.at_level(logging.INFO, "prefect_executions.audit"):
        rest.post(f"/v1/execution/{secret}/pause")
        rest.post(f"/v1/execution/{'x' * 5000}/pause")

    [first, second] = [
        record.getMessage() for record in caplog.records if record.name == audit.name
    ]
    assert first.startswith("settings POST /v1/execution/pxk_…/pause ")
    assert len(second) < 1200


def test_a_creation_names_what_it_has_created(
    stack: Stack, audited: pytest.LogCaptureFixture
) -> None:
    with get_client(sync_client=True) as prefect, opened(prefect, MemoryObjects()) as rest:
        key = {"Idempotency-Key": uuid4().hex}
        made, again = (
            rest.post("/v1/execution", json={"name": "a"}, headers=key).json()["id"]
            for _ in range(2)
        )
        fork = rest.post(f"/v1/execution/{made}/fork").json()["id"]
        rest.post("/v1/execution", json={"name": ""})

    assert [line.partition(" ms")[2] for line in _audit(audited)] == [
        f"; created {made}",
        f"; created before {again}",
        f"; created {fork}",
        "",
    ]


def test_a_bulk_request_names_whom_it_concerns(
    stack: Stack, audited: pytest.LogCaptureFixture
) -> None:
    """And nothing else that it was given: an id that is none can't begin a line of its own."""
    with get_client(sync_client=True) as prefect, opened(prefect, MemoryObjects()) as rest:
        one, two = (
            rest.post("/v1/execution", json={"name": "a", "agent_id": agent}).json()["id"]
            for agent in "ab"
        )
        rest.post(f"/v1/execution/{two}/complete")
        unknown = f"exec_{uuid4().hex}"
        audited.clear()
        ids = [one.upper(), two, unknown, one, "no id\nwriter POST /b 200"]
        rest.post("/v1/execution/bulk", json={"action": "pause", "ids": ids})
        of_one = {"action": "delete", "filter": {"agent_id": "a"}}
        rest.post("/v1/execution/bulk", json=of_one)
        rest.post("/v1/execution/bulk", json=of_one)

    assert [line.partition(" ms")[2] for line in _audit(audited)] == [
        f"; pause {one} {two} {unknown}; refused {two} {unknown}",
        f"; delete {one}",
        "",
    ]


@pytest.mark.parametrize("level", ["NOTSET", "WARNING"])
def test_a_process_shows_its_audit_unless_somebody_has_set_a_level(level: str) -> None:
    """Prefect's logging shows only warnings of other packages."""
    lines = [
        "from logging import getLogger",
        "from prefect.logging.configuration import setup_logging",
        "from prefect_executions.telemetry import show_log",
        "setup_logging()",
        f"getLogger('prefect_executions').setLevel('{level}')",
        "show_log()",
        "getLogger('prefect_executions.audit').info('somebody did something')",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]

    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert ("somebody did something" in told) == (level == "NOTSET")
