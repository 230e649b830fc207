"""The headers of every answer, for browsers."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from guarded import Known, client_of, guarded
from prefect_executions.executions.executions import Executions
from prefect_executions.local import free_ports
from prefect_executions.service.app import Openness
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


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/who", "reader", 200),
        ("GET", "/who", "wrong", 401),
        ("GET", "/health", None, 200),
        ("GET", "/nothing", "reader", 404),
        ("POST", "/change/1", "reader", 403),
        ("PATCH", "/who", "reader", 405),
    ],
)
def test_every_answer_says_what_browsers_must_not_do(
    keyring: Known, method: str, path: str, key: str | None, status: int
) -> None:
    answer = client_of(guarded(keyring), key).request(method, path)

    assert answer.status_code == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = answer.headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_a_route_may_set_its_own(keyring: Known) -> None:
    headers = client_of(guarded(keyring), "reader").get("/own").headers

    assert headers.get_list("Cache-Control") == ["private, no-cache"]
    assert headers.get_list("Content-Security-Policy") == ["default-src 'self'"]
    assert headers["X-Content-Type-Options"] == "nosniff"


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


def test_json_that_is_too_deep_is_refused(rest: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for depth in (300, 100_000):
        body = '{"name": "a", "state": ' + "[" * depth + "]" * depth + "}"
        answer = rest.post("/v1/execution", content=body, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] in ("state_invalid", "request_invalid")
