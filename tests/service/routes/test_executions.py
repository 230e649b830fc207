"""Creating, listing, reading and deleting executions over REST, one by one and in bulk."""

import json
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.states import Cancelled, Running

from prefect_executions.errors import StoreUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import DELETING
from prefect_executions.storage.objects import MemoryObjects
from rest import Away, assert_field, assert_problem, opened, path, run_id
from world import eventually


def test_a_new_execution_has_what_was_asked_for(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    got = rest.get(path(execution)).json()

    assert got == execution | {"elapsed_seconds": 0}
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


def test_get_comes_without_the_state_where_it_is_not_wanted(
    execution: dict[str, Any], rest: TestClient
) -> None:
    whole = rest.get(path(execution))
    without = rest.get(path(execution), params={"state": False})
    again = rest.get(path(execution), headers={"If-None-Match": without.headers["ETag"]})

    assert without.json() == whole.json() | {"state": None}
    assert again.json()["state"] == {"found": []}  # the tag is that of another answer
    assert whole.json()["created_at"].endswith("Z")


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


def test_an_id_may_have_capitals_and_the_dashes_of_a_uuid(
    execution: dict[str, Any], rest: TestClient
) -> None:
    written = f"EXEC_{str(UUID(execution['id'][5:])).upper()}"

    assert rest.get(f"/v1/execution/{written}").json()["id"] == execution["id"]
    saved = rest.put(f"/v1/execution/{written}/checkpoint", json={"state": 1})
    assert saved.status_code == 201
    told = rest.post("/v1/execution/bulk", json={"action": "pause", "ids": [written]}).json()
    assert [item["id"] for item in told["items"]] == [execution["id"]]
    assert rest.delete(f"/v1/execution/{written}").status_code == 204
    assert rest.get(path(execution)).status_code == 404


def test_config_may_be_null(rest: TestClient) -> None:
    made = rest.post("/v1/execution", json={"name": "a", "config": None})

    assert made.status_code == 201
    assert made.json()["config"]["max_retries"] is None


def test_a_deleted_execution_is_gone(
    execution: dict[str, Any], rest: TestClient, store: Away
) -> None:
    answer = rest.delete(path(execution))

    assert (answer.status_code, answer.content) == (204, b"")
    assert list(store.scan("")) == []
    assert_problem(rest.get(path(execution)), 404, "execution_not_found")


def test_a_second_delete_is_as_good_as_the_first(
    execution: dict[str, Any], rest: TestClient
) -> None:
    """Prefect has the event of the deletion; of others nothing is known."""
    rest.delete(path(execution))

    eventually(lambda: rest.delete(path(execution)).status_code == 204, "the deletion is known")

    served: Any = rest.app
    narrowed = served.state.executions.seen_by(frozenset(["agent 7"]))
    assert not narrowed.was_deleted(execution["id"])
    unknown = f"/v1/execution/exec_{uuid4().hex}"
    assert_problem(rest.delete(unknown), 404, "execution_not_found")


def test_head_is_get_without_a_body(execution: dict[str, Any], rest: TestClient) -> None:
    got = rest.get(path(execution))

    answer = rest.head(path(execution))

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == got.headers["etag"]
    assert rest.head("/v1/execution/exec_none").status_code == 404
    assert rest.head(path(execution, "/events")).status_code == 405


@pytest.mark.long
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


def test_a_creation_in_doubt_leaves_nothing(
    rest: TestClient, deployment: str, store: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has kept entry 0, but its answer was lost."""
    create = MemoryObjects.create

    def create_and_fail(self: MemoryObjects, key: str, data: bytes) -> None:
        create(self, key, data)
        monkeypatch.undo()
        raise StoreUnavailable("write", "no answer")

    monkeypatch.setattr(MemoryObjects, "create", create_and_fail)
    body = {"name": "a", "deployment": deployment, "parameters": {"n": 1}}

    assert_problem(rest.post("/v1/execution", json=body), 503, "store_unavailable")

    assert list(store.scan("")) == []


def test_a_half_done_deletion_is_continued(
    execution: dict[str, Any], rest: TestClient, store: Away, prefect: SyncPrefectClient
) -> None:
    """The first deletion died after it had deleted the flow run."""
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


def test_an_unknown_deployment_is_422(rest: TestClient, store: Away) -> None:
    for unknown in ("no/such", "nothing", str(uuid4()), "a/b/c", "a/b\x00", "a\n/b", "a/" * 200):
        answer = rest.post("/v1/execution", json={"name": "a", "deployment": unknown})

        assert_field(answer, "deployment_not_found", "deployment")
    assert list(store.scan("")) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n": "many"},
        {"n": 1, "m": 1e308 * 10},
        {"n": 1, "m": ["a\0b"]},
        {"n": 1, "m": {"\0": 1}},
        {"n": 1, "m": "\\\0"},
    ],
)
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


def test_executions_have_no_labels_of_ours(
    rest: TestClient, deployment: str, prefect: SyncPrefectClient
) -> None:
    """A label that is null or nested makes every list in Prefect fail, so we set none."""
    state = {"nested": {"a": None}}
    body = {"name": "a", "deployment": deployment, "parameters": {"n": 1}, "state": state}
    created = rest.post("/v1/execution", json=body).json()

    run = prefect.read_flow_run(run_id(created))  # type: ignore[arg-type]

    assert all(name.startswith("prefect.") for name in run.labels)
    assert prefect.read_flow_runs()


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


@pytest.mark.parametrize("value", ["0.5", "1764000000", "yesterday", "2026-11-24T10:00:00"])
def test_a_time_has_its_date_and_zone(rest: TestClient, value: str) -> None:
    answer = rest.get("/v1/execution", params={"created_after": value})

    assert_field(answer, "request_invalid", "query created_after")


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


def test_a_creation_without_a_deployment_says_how_to_go_on(rest: TestClient) -> None:
    """What it says to call can be called so."""
    body = {"name": "a", "config": {"checkpoint_interval_seconds": 20}}
    made = rest.post("/v1/execution", json=body).json()

    how = made["prefect"]["message"]
    assert made["prefect"]["runs_on"] == "nobody yet"
    assert rest.get(path(made)).json()["prefect"] == made["prefect"]
    assert "longer than 60 s counts as a crash" in how
    assert "create it with `deployment`" in how
    calls = re.findall(r"(PUT|POST) …/(\w+/\w+) with (\{.*?\})", how)
    assert [url for _, url, _ in calls] == [
        f"{made['id']}/{last}" for last in ("checkpoint", "heartbeat", "complete", "fail")
    ]
    for method, url, fields in calls[:3]:
        body = json.loads(fields.replace("…", "1"))
        answer = rest.request(method, f"/v1/execution/{url}", json=body)
        assert answer.is_success, answer.text
    ended = rest.get(path(made)).json()
    assert (ended["status"], ended["prefect"]["runs_on"]) == ("completed", None)


def test_where_a_worker_runs_it_nothing_is_said_to_go_on(
    execution: dict[str, Any], rest: TestClient
) -> None:
    fork = rest.post(path(execution, "/fork")).json()

    assert [each["prefect"]["message"] for each in (execution, fork)] == [None, None]
    assert [each["prefect"]["runs_on"] for each in (execution, fork)] == ["nobody yet"] * 2
