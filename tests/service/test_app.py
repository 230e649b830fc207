"""The whole app: its keys, and its limits."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from rest import KEY, LIMIT, assert_problem, path


def test_a_body_over_the_limit_is_413(execution: dict[str, Any], rest: TestClient) -> None:
    body = json.dumps({"state": "x" * LIMIT}).encode()
    before = rest.get(path(execution)).json()

    for content in (body, iter([body[: LIMIT // 2], body[LIMIT // 2 :]])):
        answer = rest.put(path(execution, "/checkpoint"), content=content)

        assert_problem(answer, 413, "body_too_large")
    assert rest.get(path(execution)).json() == before


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"x-api-key": "wrong"}],
    ids=str,
)
def test_without_the_key_nothing_is_told(rest: TestClient, headers: dict[str, str]) -> None:
    del rest.headers["Authorization"]

    for method, url, body in [
        ("GET", "/v1/execution/exec_1", b""),
        ("POST", "/v1/execution", b"no JSON"),
        ("GET", "/openapi.json", b""),
        ("POST", "/nothing", b"x" * (LIMIT + 1)),
    ]:
        answer = rest.request(method, url, headers=headers, content=body)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_key_also_goes_in_a_header_of_its_own(rest: TestClient) -> None:
    del rest.headers["Authorization"]

    answer = rest.get("/v1/execution/exec_1", headers={"x-api-key": KEY})

    assert_problem(answer, 404, "execution_not_found")


def test_the_root_leads_to_the_inspector(rest: TestClient) -> None:
    answer = rest.get("/", headers={"Authorization": ""}, follow_redirects=False)

    assert (answer.status_code, answer.headers["Location"]) == (307, "/ui")


def test_health_needs_no_key(rest: TestClient) -> None:
    del rest.headers["Authorization"]

    assert rest.get("/health").json() == {"status": "ok", "away": []}
