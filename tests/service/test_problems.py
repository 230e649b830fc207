"""Errors of the REST service, as problems."""

import json
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.errors import ExecutionError
from prefect_executions.executions.executions import Executions
from prefect_executions.local import free_ports
from prefect_executions.service.problems import PROBLEMS
from prefect_executions.storage.objects import MemoryObjects
from rest import Away, assert_field, assert_problem, nothing, opened, path


@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [
        ("GET", "", None),
        ("PUT", "/checkpoint", {"state": 1}),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("DELETE", "", None),
    ],
)
@pytest.mark.parametrize("unknown", [f"exec_{7:032x}", "exec_1", "nothing", "%00"])
def test_an_unknown_execution_is_404(
    rest: TestClient, method: str, tail: str, body: Any, unknown: str
) -> None:
    answer = rest.request(method, f"/v1/execution/{unknown}{tail}", json=body)

    assert_problem(answer, 404, "execution_not_found")


def test_a_flow_run_that_is_no_execution_is_404_and_left_alone(
    rest: TestClient, prefect: SyncPrefectClient
) -> None:
    run = prefect.create_flow_run(nothing, parameters={"n": 1})
    foreign = f"/v1/execution/exec_{run.id.hex}"

    for answer in (
        rest.get(foreign),
        rest.put(f"{foreign}/checkpoint", json={"state": 1}),
        rest.post(f"{foreign}/pause"),
        rest.post(f"{foreign}/resume"),
        rest.delete(foreign),
    ):
        assert_problem(answer, 404, "execution_not_found")
    assert prefect.read_flow_run(run.id).state_id == run.state_id


def test_unknown_routes_and_methods_are_problems_too(rest: TestClient) -> None:
    assert_problem(rest.get("/nothing"), 404, "not_found")
    assert_problem(rest.patch("/v1/execution/exec_1"), 405, "method_not_allowed")


def test_without_the_store_it_is_503(
    execution: dict[str, Any], rest: TestClient, deployment: str, store: Away
) -> None:
    store.away = True
    new = {"name": "a", "deployment": deployment, "parameters": {"n": 1}}

    for answer in (
        rest.get(path(execution)),
        rest.put(path(execution, "/checkpoint"), json={"state": 1}),
        rest.post(path(execution, "/pause")),
        rest.delete(path(execution)),
        rest.post("/v1/execution", json=new),
    ):
        assert_problem(answer, 503, "store_unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert "it is away" not in answer.text  # only logged
    store.away = False
    assert rest.get(path(execution)).json() == execution


def test_without_prefect_it_is_503(memory: MemoryObjects) -> None:
    nowhere = SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")
    with opened(nowhere, memory) as rest:
        answer = rest.get(f"/v1/execution/exec_{uuid4().hex}")

    assert_problem(answer, 503, "prefect_unavailable")
    assert answer.headers["Retry-After"] == "5"


def test_what_nobody_expected_is_a_problem_without_details(
    rest: TestClient, execution: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Executions, "get_with_version", fail)

    problem = assert_problem(rest.get(path(execution)), 500, "internal")

    assert "a secret" not in json.dumps(problem)


def test_every_error_that_can_reach_a_route_has_a_code() -> None:
    never = {"ArchiveError", "NotAnExecution", "StoreError", "StoreNotFound", "AlreadyExists"}
    never |= {
        "AmbiguousCall",
        "DurationExceeded",
        "InputError",
        "EffectRefused",
        "ReplayMismatch",
        "StateChanged",
        "UnsuitablePackage",
        "UnsuitableStore",
        "ForeignStore",
        "ExecutionDeleted",
        "StoreRefused",
    }  # the last ones are an ExecutionNotFound and a StoreUnavailable
    below = {
        kind.__name__
        for kind in _descendants(ExecutionError)
        if kind.__module__ == ExecutionError.__module__  # and not of the client
    }

    assert {kind.__name__ for kind in PROBLEMS} == below - never


def _descendants(kind: type) -> set[type]:
    return {kind for sub in kind.__subclasses__() for kind in {sub, *_descendants(sub)}}


@pytest.mark.parametrize("name", ["chekpoints", "limit", ""])
def test_a_query_that_is_not_known_is_refused(
    rest: TestClient, execution: dict[str, Any], name: str
) -> None:
    answer = rest.get(path(execution), params={name: "1"})

    assert_field(answer, "request_invalid", f"query {name}")


def test_a_body_that_is_no_text_is_refused(rest: TestClient) -> None:
    headers = {"content-type": "application/json"}
    answer = rest.post("/v1/execution", content=b"\xff\xfe", headers=headers)

    assert_field(answer, "request_invalid", "body")


def test_a_method_that_is_not_there_is_answered_with_those_that_are(rest: TestClient) -> None:
    answer = rest.patch("/v1/execution")

    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, POST"
