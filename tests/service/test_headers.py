"""What the whole service says to browsers and to its log, whatever it answers."""

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.executions.executions import Executions
from prefect_executions.local import free_ports
from prefect_executions.service.app import Limits, Openness
from prefect_executions.service.middleware.audit import audit
from prefect_executions.service.middleware.rate_limit import Rates
from prefect_executions.service.problems import SAFE
from prefect_executions.storage.objects import MemoryObjects
from rest import opened

PAGE = "https://control.example.com"


@pytest.fixture(scope="module")
def nowhere() -> SyncPrefectClient:
    return SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")


@pytest.fixture
def rest(nowhere: SyncPrefectClient) -> Iterator[TestClient]:
    with opened(nowhere, MemoryObjects()) as client:
        yield client


def preflight(client: TestClient, origin: str, method: str = "PUT") -> dict[str, str]:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,prefer",
    }
    answer = client.options("/v1/execution/exec_1/checkpoint", headers=asked)
    return {"status": f"{answer.status_code}", **answer.headers}


def test_pages_from_elsewhere_may_call_only_if_they_are_named(
    nowhere: SyncPrefectClient, rest: TestClient
) -> None:
    assert "access-control-allow-origin" not in preflight(rest, PAGE)

    with opened(nowhere, MemoryObjects(), openness=Openness(origins=[PAGE])) as client:
        named = preflight(client, PAGE)
        other = preflight(client, "https://elsewhere.example.com")
        answer = client.get("/health", headers={"Origin": PAGE})

    assert (named["status"], named["access-control-allow-origin"]) == ("200", PAGE)
    assert "PUT" in named["access-control-allow-methods"]
    assert "access-control-allow-origin" not in other
    assert "ETag" in answer.headers["access-control-expose-headers"]


def test_a_failure_of_ours_says_it_too(rest: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Executions, "cost", fail)

    answer = rest.get("/v1/execution/exec_1/cost")

    assert answer.status_code == 500
    assert {name: answer.headers[name] for name in SAFE} == SAFE


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


@pytest.mark.parametrize("level", ["NOTSET", "WARNING"])
def test_a_process_shows_its_audit_unless_somebody_has_set_a_level(level: str) -> None:
    """Prefect's logging only shows warnings of what is not Prefect's."""
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


def test_json_that_is_too_deep_is_refused(rest: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for depth in (300, 100_000):
        body = '{"name": "a", "state": ' + "[" * depth + "]" * depth + "}"
        answer = rest.post("/v1/execution", content=body, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] in ("state_invalid", "request_invalid")


@pytest.mark.parametrize("limit", ["0/minute", "often", ""])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rates(limit)


def test_a_limit_of_all_together_that_can_not_be_counted_stops_nobody(
    nowhere: SyncPrefectClient, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("redis", reason="the driver of Redis is not installed")
    away = f"redis://127.0.0.1:{free_ports(1)}"
    with opened(nowhere, MemoryObjects(), limits=Limits(rate_storage=away)) as client:
        answer = client.get("/openapi.json")

    assert answer.status_code == 200
    assert "can't be counted" in caplog.text
