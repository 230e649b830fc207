"""The REST service: routes, refusals, keys. Its Prefect is real; its store is in memory."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.states import Cancelled, Cancelling, Completed, Running, Suspended

from prefect_executions.errors import ExecutionError, PrefectUnavailable, StoreUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack, free_ports
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import DELETING
from prefect_executions.service.app import Limits
from prefect_executions.service.problems import PROBLEMS
from prefect_executions.service.server import serve
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY, opened

LIMIT = 100_000


class Away(MemoryObjects):
    """A store that can be taken away."""

    away = False

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("do this", "it is away")

    def create(self, key: str, data: bytes) -> None:
        self._check()
        super().create(key, data)

    def get(self, keys: Iterable[str], *, first: int | None = None) -> dict[str, bytes]:
        self._check()
        return super().get(keys, first=first)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        self._check()
        return super().scan(prefix, limit=limit)


@flow
def nothing(n: int) -> None:
    """A deployment needs a flow; no worker takes it."""


@pytest.fixture
def store() -> Away:
    return Away()


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def rest(store: Away, prefect: SyncPrefectClient) -> Iterator[TestClient]:
    with opened(prefect, store, limits=Limits(body_bytes=LIMIT)) as client:
        yield client


@pytest.fixture
def deployment(prefect: SyncPrefectClient) -> str:
    """The name of a deployment that no worker looks at."""
    flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    schema = nothing.parameters.model_dump_for_openapi()
    created = prefect.create_deployment(
        flow_id, "idle", parameter_openapi_schema=schema, enforce_parameter_schema=True
    )
    return str(created)


@pytest.fixture
def execution(rest: TestClient, deployment: str) -> dict[str, Any]:
    """An execution whose flow run no worker takes."""
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


def test_a_new_execution_has_what_was_asked_for(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    got = rest.get(path(execution)).json()

    assert got == execution | {"elapsed_seconds": 0.0}
    assert got["name"] == "a task"
    assert got["description"] == "What it is for"
    assert got["agent_id"] == "agent 7"
    assert got["task_type"] == "research"
    assert got["status"] == "running"
    assert got["state"] == {"found": []}
    assert got["checkpoints"] == []
    assert got["config"]["max_retries"] == 2
    assert got["started_at"] is None
    assert got["completed_at"] is None
    assert got["updated_at"].endswith("Z")
    run = prefect.read_flow_run(run_id(execution))  # type: ignore[arg-type]
    assert run.name == "a task"
    assert {"execution", "agent:agent 7", "task-type:research"} < set(run.tags)
    assert run.state_name == "Scheduled"


def test_checkpoints_are_saved_by_hand_and_listed_newest_first(
    execution: dict[str, Any], rest: TestClient
) -> None:
    for n in range(3):
        answer = rest.put(
            path(execution, "/checkpoint"), json={"state": {"n": n}, "label": f"number {n}"}
        )
        assert answer.status_code == 201
        assert answer.json()["status"] == "running"
        assert answer.json()["checkpoint"]["id"] == f"ckpt_{n + 1:06d}"

    got = rest.get(path(execution)).json()

    assert got["state"] == {"n": 2}
    assert [(c["id"], c["label"], c["state"]) for c in got["checkpoints"]] == [
        ("ckpt_000003", "number 2", {"n": 2}),
        ("ckpt_000002", "number 1", {"n": 1}),
        ("ckpt_000001", "number 0", {"n": 0}),
    ]
    assert [c["size"] for c in got["checkpoints"]] == [len(b'{"n":0}')] * 3


@pytest.mark.parametrize(
    ("query", "count"), [("none", 0), ("0", 0), ("2", 2), ("all", 5), ("100", 5)]
)
def test_get_takes_how_many_checkpoints(
    execution: dict[str, Any], rest: TestClient, query: str, count: int
) -> None:
    for n in range(5):
        rest.put(path(execution, "/checkpoint"), json={"state": n})

    got = rest.get(path(execution), params={"checkpoints": query, "states": False}).json()

    assert [c["id"] for c in got["checkpoints"]] == [f"ckpt_{5 - n:06d}" for n in range(count)]
    assert {c["state"] for c in got["checkpoints"]} <= {None}


def test_pause_twice_is_202_and_200(execution: dict[str, Any], rest: TestClient) -> None:
    first = rest.post(path(execution, "/pause"), json={"reason": "to look"})
    second = rest.post(path(execution, "/pause"))

    assert (first.status_code, first.json()["status"]) == (202, "paused")
    assert (second.status_code, second.json()["status"]) == (200, "paused")


def test_pause_has_no_end_of_its_own(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    rest.post(path(execution, "/pause"), json={"reason": "to look"})

    state = prefect.read_flow_run(run_id(execution)).state  # type: ignore[arg-type]

    assert state is not None
    assert state.state_details.pause_timeout is None
    assert state.message == "to look"


def test_resume_rolls_back(execution: dict[str, Any], rest: TestClient, store: Away) -> None:
    for n in range(3):
        rest.put(path(execution, "/checkpoint"), json={"state": n})
    rest.post(path(execution, "/pause"))

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000002"})

    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert answer.json()["state"] == 1
    assert ExecutionLog(store, execution["id"]).head().entry.source == 2


def test_resume_starts_over(execution: dict[str, Any], rest: TestClient) -> None:
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    rest.post(path(execution, "/pause"))

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000000"})

    assert answer.json()["state"] == {"found": []}


def test_a_terminated_execution_can_be_resumed(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    prefect.set_flow_run_state(run_id(execution), Cancelled(), force=True)
    assert rest.get(path(execution)).json()["status"] == "terminated"

    assert rest.post(path(execution, "/resume")).json()["status"] == "running"


def test_a_deleted_execution_is_gone(
    execution: dict[str, Any], rest: TestClient, store: Away
) -> None:
    answer = rest.delete(path(execution))

    assert (answer.status_code, answer.content) == (204, b"")
    assert list(store.scan("")) == []
    for again in (rest.get(path(execution)), rest.delete(path(execution))):
        assert_problem(again, 404, "execution_not_found")


def test_a_deletion_takes_all_artifacts_along(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    run = UUID(run_id(execution))
    for n in range(205):
        artifact = ArtifactCreate(flow_run_id=run, key=f"artifact-{n}", data="x", type="markdown")
        prefect.create_artifact(artifact)

    assert rest.delete(path(execution)).status_code == 204

    filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    assert prefect.read_artifacts(artifact_filter=filter_) == []


def test_a_run_that_is_just_being_cancelled_is_not_rolled_back(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    for n in range(3):
        rest.put(path(execution, "/checkpoint"), json={"state": n})
    for state in (Running(), Cancelling()):
        prefect.set_flow_run_state(run_id(execution), state, force=True)
    before = rest.get(path(execution)).json()

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000001"})

    assert "when its process has ended" in assert_problem(answer, 409, "status_conflict")["detail"]
    assert rest.get(path(execution)).json() == before


def test_a_run_that_nobody_ends_cancelling_is_ended(
    execution: dict[str, Any],
    rest: TestClient,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its worker died with its process: it can be rolled back, and deleted, all the same."""
    monkeypatch.setattr("prefect_executions.prefect.transitions.CANCEL_ENDS", timedelta(0))
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    for act in (
        lambda: rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000001"}),
        lambda: rest.delete(path(execution)),
    ):
        for state in (Running(), Cancelling()):
            prefect.set_flow_run_state(run_id(execution), state, force=True)

        assert act().status_code in (202, 204)
    assert_problem(rest.get(path(execution)), 404, "execution_not_found")


def test_a_pause_whose_time_is_over_can_be_resumed(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    """The Prefect UI gives a pause five minutes, after which Prefect fails the run."""
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    expired = Suspended(pause_expiration_time=datetime.now(UTC) - timedelta(seconds=1))
    prefect.set_flow_run_state(run_id(execution), expired, force=True)

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000001"})

    assert (answer.status_code, answer.json()["status"]) == (202, "running")


def test_a_creation_in_doubt_leaves_nothing(
    rest: TestClient, deployment: str, store: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has kept entry 0, and its answer was lost."""
    create = MemoryObjects.create

    def create_and_fail(self: MemoryObjects, key: str, data: bytes) -> None:
        create(self, key, data)
        monkeypatch.undo()
        raise StoreUnavailable("write", "no answer")

    monkeypatch.setattr(MemoryObjects, "create", create_and_fail)
    body = {"name": "a", "deployment": deployment, "parameters": {"n": 1}}

    assert_problem(rest.post("/v1/execution", json=body), 503, "store_unavailable")

    assert list(store.scan("")) == []


def test_a_half_deleted_execution_can_not_be_paused(
    rest: TestClient, execution: dict[str, Any], store: Away, prefect: SyncPrefectClient
) -> None:
    ExecutionLog(store, execution["id"]).delete()

    answer = rest.post(path(execution, "/pause"))

    assert answer.status_code == 404
    run = prefect.read_flow_run(UUID(execution["prefect"]["flow_run_id"]))
    assert run.state is not None
    assert run.state.name == "Scheduled"


def test_a_half_done_deletion_is_continued(
    execution: dict[str, Any], rest: TestClient, store: Away, prefect: SyncPrefectClient
) -> None:
    """Here whoever deleted died after Prefect had forgotten the run."""
    ExecutionLog(store, execution["id"]).delete()
    prefect.delete_flow_run(run_id(execution))  # type: ignore[arg-type]

    assert rest.delete(path(execution)).status_code == 204
    assert list(store.scan("")) == []


def test_deletion_of_a_process_that_does_not_end_is_202(
    execution: dict[str, Any],
    rest: TestClient,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_executions.executions.executions.DELETE_PATIENCE", 0.1)
    prefect.set_flow_run_state(run_id(execution), Running(), force=True)

    assert rest.delete(path(execution)).status_code == 202
    assert_problem(rest.get(path(execution)), 404, "execution_not_found")

    prefect.set_flow_run_state(run_id(execution), Cancelled(), force=True)
    assert rest.delete(path(execution)).status_code == 204


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


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": None}, "name"),
        ({"description": 1}, "description"),
        ({"deployment": ""}, "deployment"),
        ({"parameters": []}, "parameters"),
        ({"config": {"max_retries": -1}}, "config.max_retries"),
        ({"config": {"unknown": 1}}, "config.unknown"),
        ({"surplus": 1}, "surplus"),
        ({"name": "a\x00b"}, "name"),
        ({"agent_id": "\x00"}, "agent_id"),
        ({"deployment": "x" * 501}, "deployment"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(
    rest: TestClient, deployment: str, store: Away, wrong: dict[str, Any], field: str
) -> None:
    body = {"name": "a task", "deployment": deployment, "parameters": {"n": 1}} | wrong

    answer = rest.post("/v1/execution", json=body)

    assert_field(answer, "request_invalid", field)
    assert list(store.scan("")) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"state": {"scores": [1, NaN]}}', "state.scores[1]"),
        ('{"state": {"far": 1e999}}', "state.far"),
        ('{"state": {"a": "\\ud800"}}', "state.a"),
        ('{"state": 123456789012345678901}', "state"),
        (f'{{"state": {"[" * 300}{"]" * 300}}}', "state" + "[0]" * 31 + "[0…"),
    ],
    ids=["NaN", "infinity", "surrogate", "long integer", "deep"],
)
def test_a_state_that_can_not_be_kept_is_refused_with_its_path(
    execution: dict[str, Any], rest: TestClient, body: str, field: str
) -> None:
    answer = rest.put(
        path(execution, "/checkpoint"),
        content=body,
        headers={"content-type": "application/json"},
    )

    assert_field(answer, "state_invalid", field)
    assert rest.get(path(execution)).json() == execution


@pytest.mark.parametrize("body", ["", "{", "nonsense", "[1]", '"text"', "\x00", "{}"])
def test_bad_json_is_422(execution: dict[str, Any], rest: TestClient, body: str) -> None:
    answer = rest.put(
        path(execution, "/checkpoint"),
        content=body,
        headers={"content-type": "application/json"},
    )

    assert_problem(answer, 422, "request_invalid")


def test_bytes_that_are_no_text_are_refused(execution: dict[str, Any], rest: TestClient) -> None:
    answer = rest.put(
        path(execution, "/checkpoint"),
        content=b'{"state": "\xff"}',
        headers={"content-type": "application/json"},
    )

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_deployment_is_422(rest: TestClient, store: Away) -> None:
    for unknown in ("no/such", "nothing", str(uuid4()), "a/b/c", "a/b\x00", "a\n/b", "a/" * 200):
        answer = rest.post("/v1/execution", json={"name": "a", "deployment": unknown})

        assert_field(answer, "deployment_not_found", "deployment")
    assert list(store.scan("")) == []


@pytest.mark.parametrize("parameters", [{}, {"n": "many"}, {"n": 1, "m": 1e308 * 10}])
def test_wrong_parameters_are_422(
    rest: TestClient, deployment: str, store: Away, parameters: dict[str, Any]
) -> None:
    body = {"name": "a", "deployment": deployment, "parameters": parameters}

    answer = rest.post(
        "/v1/execution",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith("parameters")
    assert list(store.scan("")) == []


def test_an_unknown_checkpoint_is_404_and_changes_nothing(
    execution: dict[str, Any], rest: TestClient
) -> None:
    rest.post(path(execution, "/pause"))
    before = rest.get(path(execution)).json()

    for unknown in ("ckpt_000099", "ckpt_1", "nothing", ""):
        answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": unknown})

        assert_problem(answer, 404, "checkpoint_not_found")
    assert rest.get(path(execution)).json() == before


def test_resume_of_a_running_one_is_409(execution: dict[str, Any], rest: TestClient) -> None:
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    before = rest.get(path(execution)).json()

    for body in ({}, {"checkpoint_id": "ckpt_000001"}):
        assert_problem(rest.post(path(execution, "/resume"), json=body), 409, "status_conflict")
    assert rest.get(path(execution)).json() == before


def test_of_an_ended_one_everything_is_409(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    prefect.set_flow_run_state(run_id(execution), Completed(), force=True)
    before = rest.get(path(execution)).json()

    for answer in (
        rest.post(path(execution, "/pause")),
        rest.post(path(execution, "/resume")),
        rest.put(path(execution, "/checkpoint"), json={"state": 1}),
    ):
        assert_problem(answer, 409, "status_conflict")
    assert rest.get(path(execution)).json() == before


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


def test_health_needs_no_key(rest: TestClient) -> None:
    del rest.headers["Authorization"]

    assert rest.get("/health").json() == {"status": "ok"}


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
        assert "it is away" not in answer.text  # that is for the log
    store.away = False
    assert rest.get(path(execution)).json() == execution


def test_an_execution_that_could_not_be_created_never_starts(
    rest: TestClient, deployment: str, store: Away, prefect: SyncPrefectClient
) -> None:
    store.away = True

    rest.post("/v1/execution", json={"name": "a", "deployment": deployment, "parameters": {"n": 1}})

    of_deployment = FlowRunFilterDeploymentId(any_=[UUID(deployment)])
    runs = FlowRunFilter(deployment_id=of_deployment)
    [left] = prefect.read_flow_runs(flow_run_filter=runs)
    assert DELETING in left.tags  # for the supervisor, which does this:
    store.away = False
    assert Executions(store, FlowRuns(prefect)).delete(f"exec_{left.id.hex}")
    assert not prefect.read_flow_runs(flow_run_filter=runs)


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
    never = {"NotAnExecution", "StoreError", "StoreNotFound", "AlreadyExists"}
    never |= {
        "DurationExceeded",
        "InputError",
        "ReplayMismatch",
        "UnsuitableStore",
        "ExecutionDeleted",
    }  # the last one is an ExecutionNotFound
    below = {
        kind.__name__
        for kind in _descendants(ExecutionError)
        if kind.__module__ == ExecutionError.__module__  # and not of the client
    }

    assert {kind.__name__ for kind in PROBLEMS} == below - never


def _descendants(kind: type) -> set[type]:
    return {kind for sub in kind.__subclasses__() for kind in {sub, *_descendants(sub)}}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_a_key_it_only_listens_on_loopback(prefect: SyncPrefectClient, host: str) -> None:
    with pytest.raises(ValueError, match=r"host: .* can be reached by others"):
        serve(host=host, port=1)


def test_executions_have_no_labels_of_ours(
    rest: TestClient, deployment: str, prefect: SyncPrefectClient
) -> None:
    """A label that is null or nested makes every list of Prefect's fail: we set none."""
    state = {"nested": {"a": None}}
    body = {"name": "a", "deployment": deployment, "parameters": {"n": 1}, "state": state}
    created = rest.post("/v1/execution", json=body).json()

    run = prefect.read_flow_run(run_id(created))  # type: ignore[arg-type]

    assert all(name.startswith("prefect.") for name in run.labels)
    assert prefect.read_flow_runs()


# ---------------------------------------------------------------------- conditions, waiting, keys


def test_what_has_not_changed_is_not_sent_again(
    rest: TestClient, execution: dict[str, Any]
) -> None:
    first = rest.get(path(execution))
    tag = first.headers["ETag"]

    again = rest.get(path(execution), headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)

    other = rest.get(path(execution, "?states=false"), headers={"If-None-Match": tag})
    assert other.status_code == 200
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    changed = rest.get(path(execution), headers={"If-None-Match": tag})
    assert changed.status_code == 200
    rest.post(path(execution, "/pause"))
    paused = rest.get(path(execution), headers={"If-None-Match": changed.headers["ETag"]})
    assert paused.json()["status"] == "paused"


def test_the_same_request_with_the_same_key_is_answered_alike(
    rest: TestClient, deployment: str
) -> None:
    body = {"name": "a", "deployment": deployment, "parameters": {"n": 1}}
    headers = {"Idempotency-Key": "mine"}
    first = rest.post("/v1/execution", json=body, headers=headers)
    again = rest.post("/v1/execution", json=body, headers=headers)
    other = rest.post("/v1/execution", json={**body, "name": "b"}, headers=headers)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert_problem(other, 409, "idempotency_conflict")
    assert_field(
        rest.post("/v1/execution", json=body, headers={"Idempotency-Key": ""}),
        "request_invalid",
        "header Idempotency-Key",
    )


def test_a_task_type_may_stand_for_a_deployment(
    store: Away, prefect: SyncPrefectClient, deployment: str
) -> None:
    with opened(prefect, store, deployments={"research": deployment}) as rest:
        body = {"name": "a", "task_type": "research", "parameters": {"n": 1}}
        mapped = rest.post("/v1/execution", json=body).json()
        other = rest.post("/v1/execution", json={"name": "a", "task_type": "other"}).json()

    assert mapped["prefect"]["deployment"] == deployment
    assert mapped["prefect"]["attempt"] == 0
    assert other["prefect"]["attempt"] == 1


@pytest.mark.parametrize("name", ["chekpoints", "limit", ""])
def test_a_query_that_is_not_known_is_refused(
    rest: TestClient, execution: dict[str, Any], name: str
) -> None:
    answer = rest.get(path(execution), params={name: "1"})

    assert_field(answer, "request_invalid", f"query {name}")


@pytest.mark.parametrize("value", ["0.5", "1764000000", "yesterday", "2026-11-24T10:00:00"])
def test_a_time_has_its_date_and_zone(rest: TestClient, value: str) -> None:
    answer = rest.get("/v1/execution", params={"created_after": value})

    assert_field(answer, "request_invalid", "query created_after")


def test_a_body_that_is_no_text_is_refused(rest: TestClient) -> None:
    headers = {"content-type": "application/json"}
    answer = rest.post("/v1/execution", content=b"\xff\xfe", headers=headers)

    assert_field(answer, "request_invalid", "body")


def test_a_method_that_is_not_there_is_answered_with_those_that_are(rest: TestClient) -> None:
    answer = rest.patch("/v1/execution")

    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("value", ['"\\udaad"', "1e999", "18446744073709551616"])
def test_an_answer_that_is_no_json_is_refused(
    rest: TestClient, execution: dict[str, Any], value: str
) -> None:
    rest.post(path(execution, "/pause"))
    body = f'{{"input": {{"a": [{value}]}}}}'
    kind = {"Content-Type": "application/json"}

    answer = rest.post(path(execution, "/resume"), content=body, headers=kind)

    assert answer.status_code == 422
    assert answer.json()["code"] in ("input_invalid", "request_invalid")
    assert rest.get(path(execution)).json()["status"] == "paused"


def test_a_deletion_that_somebody_else_finishes_is_done(
    rest: TestClient,
    execution: dict[str, Any],
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefect.set_flow_run_state(UUID(execution["id"][5:]), Running(), force=True)
    ended, asked = Executions.finish_cancelling, []

    def finish(executions: Executions, run_id: UUID) -> bool:
        asked.append(run_id)
        if len(asked) == 1:
            return False
        monkeypatch.setattr(Executions, "finish_cancelling", ended)
        prefect.set_flow_run_state(run_id, Cancelled(), force=True)
        return executions.delete(execution["id"])

    monkeypatch.setattr(Executions, "finish_cancelling", finish)

    assert rest.delete(path(execution)).status_code == 204
    assert rest.get(path(execution)).status_code == 404


def test_who_waits_for_a_pause_is_told_when_no_process_is_at_work(
    rest: TestClient, execution: dict[str, Any]
) -> None:
    """None has begun: that is so at once."""
    paused = rest.post(path(execution, "/pause"), headers={"Prefer": "wait=30"})

    assert paused.status_code == 200
    assert paused.headers["Preference-Applied"] == "wait=30"


def test_who_waits_in_vain_is_told_so(rest: TestClient, execution: dict[str, Any]) -> None:
    rest.post(path(execution, "/pause"))

    resumed = rest.post(path(execution, "/resume"), headers={"Prefer": "respond-async, wait=0"})

    assert resumed.status_code == 202
    assert resumed.headers["Preference-Applied"] == "wait=0"


def test_who_waits_for_a_resume_is_told_when_it_has_begun(rest: TestClient) -> None:
    agent = rest.post("/v1/execution", json={"name": "a"}).json()
    rest.post(path(agent, "/pause"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rest.post, path(agent, "/resume"), headers={"Prefer": "wait=30"})
        while rest.post(path(agent, "/attempt")).status_code != 201:
            assert not waiting.done()

    assert waiting.result().status_code == 200
    assert waiting.result().json()["prefect"]["attempt"] == 2
    assert waiting.result().json()["steps_behind"] == []


def test_what_was_done_is_not_undone_by_a_prefect_that_is_away_just_then(
    rest: TestClient, execution: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> bool:
        raise PrefectUnavailable("just now")

    monkeypatch.setattr(Executions, "has_left", away)

    paused = rest.post(path(execution, "/pause"), headers={"Prefer": "wait=1"})

    assert (paused.status_code, paused.json()["status"]) == (202, "paused")


def test_who_waits_for_the_pause_of_an_agent_is_told_when_the_agent_is(rest: TestClient) -> None:
    agent = rest.post("/v1/execution", json={"name": "a"}).json()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rest.post, path(agent, "/pause"), headers={"Prefer": "wait=30"})
        saved = {"status": "running"}
        while saved["status"] == "running":
            assert not waiting.done()
            saved = rest.put(path(agent, "/checkpoint"), json={"state": 1, "attempt": 1}).json()

    assert waiting.result().status_code == 200


# ---------------------------------------------------------------------- many at once


def test_many_are_acted_on_each_for_itself(
    rest: TestClient, execution: dict[str, Any], prefect: SyncPrefectClient
) -> None:
    agent = rest.post("/v1/execution", json={"name": "a"}).json()
    rest.post(path(agent, "/complete"))
    nowhere = f"exec_{uuid4().hex}"
    ids = [execution["id"], agent["id"], nowhere, execution["id"]]

    done = rest.post("/v1/execution/bulk", json={"action": "pause", "ids": ids, "reason": "all"})

    first, second, third = done.json()["items"]
    assert first == {"id": execution["id"], "ok": True, "status": "paused", "problem": None}
    assert (second["ok"], second["status"]) == (False, "completed")
    assert second["problem"]["code"] == "status_conflict"
    assert (third["ok"], third["problem"]["code"]) == (False, "execution_not_found")
    assert rest.get(path(execution)).json()["prefect"]["message"] == "all"


def test_the_pages_of_all_that_was_changed_are_written_anew(prefect: SyncPrefectClient) -> None:
    told: list[UUID] = []
    with opened(prefect, MemoryObjects(), changed=told.append) as rest:
        agent = rest.post("/v1/execution", json={"name": "a"}).json()
        fork = rest.post(path(agent, "/fork")).json()
        ids = [agent["id"], fork["id"], f"exec_{uuid4().hex}"]
        told.clear()
        rest.post("/v1/execution/bulk", json={"action": "pause", "ids": ids})

    assert told == [UUID(agent["id"][5:]), UUID(fork["id"][5:])]


def test_a_filter_is_acted_on_part_by_part(rest: TestClient) -> None:
    made = [rest.post("/v1/execution", json={"name": "a"}).json()["id"] for _ in range(5)]
    body: dict[str, Any] = {"action": "pause", "filter": {"status": ["running"]}, "limit": 2}

    acted, cursor = [], None
    while True:
        done = rest.post("/v1/execution/bulk", json={**body, "cursor": cursor}).json()
        assert all(item["ok"] for item in done["items"])
        acted += [item["id"] for item in done["items"]]
        cursor = done["next_cursor"]
        if cursor is None:
            break

    assert acted == made[::-1]
    listed = rest.get("/v1/execution", params={"status": "paused"}).json()["items"]
    assert [item["id"] for item in listed] == acted


@pytest.mark.parametrize(
    "body",
    [
        {"action": "pause"},
        {"action": "pause", "ids": ["a"], "filter": {}},
        {"action": "pause", "ids": ["a"], "cursor": "x"},
        {"action": "pause", "ids": []},
        {"action": "stop", "filter": {}},
        {"action": "pause", "filter": {"statsu": ["running"]}},
    ],
    ids=str,
)
def test_what_is_not_clear_is_done_to_nobody(rest: TestClient, body: dict[str, Any]) -> None:
    assert_problem(rest.post("/v1/execution/bulk", json=body), 422, "request_invalid")
