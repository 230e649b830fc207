"""Every route without a key, with a key that lacks a permission, with another agent's key."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_executions.blocks.key import Permission, create_key, revoke_key
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack
from prefect_executions.prefect.deployments import OUTSIDE_DEPLOYMENT
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service import create_app
from prefect_executions.service.keyring import Keyring
from prefect_executions.storage.objects import MemoryObjects

BODIES: dict[str, Any] = {
    "create_execution": {"name": "a", "agent_id": "mine"},
    "act_on_executions": {"action": "pause", "filter": {}},
    "save_checkpoint": {"state": {}},
    "send_heartbeat": {"attempt": 1},
    "fail_execution": {"error": "no"},
}
OPEN = {"health"}
OF_THE_SERVICE = {"get_metrics"}
WITHOUT_AN_ID = {"create_execution", "list_executions", "act_on_executions"}


class Walked:
    """A service with an execution of one agent; all its routes are called."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        executions = Executions(MemoryObjects(), flow_runs)
        self.app = create_app(executions, Keyring(prefect, api_key=uuid4().hex))
        execution, _ = Creation(executions).create(name="a", agent_id="mine")
        self.id = execution.id
        self.executions = executions
        self.names: list[str] = []

    def key(self, *permissions: Permission, **narrowed: list[str]) -> str:
        name = f"key-{uuid4().hex}"
        self.names.append(name)
        return create_key(self.prefect, name, permissions=permissions, **narrowed)

    def routes(self) -> Iterator[tuple[str, str, str]]:
        for path, methods in self.app.openapi()["paths"].items():
            for method, operation in methods.items():
                yield operation["operationId"], method.upper(), path

    def walk(self, key: str | None, *, without: str = "") -> dict[str, httpx.Response]:
        """The answer of each route, except one: a permitted stream has no end."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        answers = {}
        with TestClient(self.app, headers=headers, raise_server_exceptions=False) as client:
            for name, method, path in self.routes():
                if name == without:
                    continue
                url = path.format(
                    execution_id=self.id, checkpoint_id="ckpt_000000", other_id="ckpt_000000"
                )
                asked = {"ids": [self.id, self.id]} if name == "compare_executions" else None
                answers[name] = client.request(method, url, json=BODIES.get(name), params=asked)
        return answers

    @property
    def changing(self) -> set[str]:
        return {name for name, method, _ in self.routes() if method in ("POST", "PUT")}


@pytest.fixture
def walked(stack: Stack) -> Iterator[Walked]:
    with get_client(sync_client=True) as prefect:
        here = Walked(prefect)
        yield here
        for name in here.names:
            revoke_key(prefect, name)


@pytest.mark.parametrize("key", [None, "wrong", f"pxk_{'a' * 43}"])
def test_without_a_key_nothing_but_health_is_answered(walked: Walked, key: str | None) -> None:
    answers = walked.walk(key)

    assert answers.pop("health").status_code == 200
    assert {answer.status_code for answer in answers.values()} == {401}
    assert all(answer.json()["code"] == "unauthorized" for answer in answers.values())
    assert walked.executions.get(walked.id).checkpoints == []


def test_a_key_that_only_reads_changes_nothing(walked: Walked) -> None:
    before = walked.executions.get(walked.id)
    changing = walked.changing | {"delete_execution"}

    key = walked.key(Permission.READ)
    for name, answer in walked.walk(key, without="stream_events").items():
        if name in changing:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), name
        elif name == "get_question":
            assert (answer.status_code, answer.json()["code"]) == (404, "question_not_found")
        else:
            assert answer.status_code == 200, name
    after = walked.executions.get(walked.id)
    assert after.model_dump(exclude={"elapsed_seconds"}) == before.model_dump(
        exclude={"elapsed_seconds"}
    )


def test_a_key_that_only_writes_neither_reads_nor_deletes(walked: Walked) -> None:
    answers = walked.walk(walked.key(Permission.WRITE))

    for name in answers.keys() - walked.changing - OPEN - OF_THE_SERVICE:
        assert answers[name].status_code == 403, name
    for name in walked.changing:
        assert answers[name].status_code not in (401, 403, 404), name


def test_to_delete_many_takes_the_permission_to_delete(walked: Walked) -> None:
    body = {"action": "delete", "ids": [walked.id]}
    headers = {"x-api-key": walked.key(Permission.WRITE)}
    with TestClient(walked.app, headers=headers) as client:
        refused = client.post("/v1/execution/bulk", json=body)
        headers = {"x-api-key": walked.key(Permission.WRITE, Permission.DELETE)}
        done = client.post("/v1/execution/bulk", json=body, headers=headers)

    assert refused.status_code == 403
    assert done.json()["items"] == [{"id": walked.id, "ok": True, "status": None, "problem": None}]


def test_to_delete_many_takes_no_other_permission(walked: Walked) -> None:
    body = {"action": "delete", "ids": [walked.id]}
    headers = {"x-api-key": walked.key(Permission.DELETE)}
    with TestClient(walked.app, headers=headers) as client:
        assert client.post("/v1/execution/bulk", json=body).status_code == 200
        assert (
            client.post("/v1/execution/bulk", json={**body, "action": "pause"}).status_code == 403
        )
        assert client.get("/metrics").status_code == 403


OTHERS = [
    ({"agents": ["another"]}, "forbidden", "agent_id"),
    ({"deployments": ["another/one"]}, "deployment_forbidden", "deployment"),
]


@pytest.mark.parametrize(("narrowed", "code", "field"), OTHERS, ids=["agent", "deployment"])
def test_for_another_s_key_the_execution_is_not_there(
    walked: Walked, narrowed: dict[str, list[str]], code: str, field: str
) -> None:
    answers = walked.walk(walked.key(*Permission, **narrowed))

    created = answers.pop("create_execution")
    assert (created.status_code, created.json()["code"]) == (403, code)
    assert [error["field"] for error in created.json()["errors"]] == [field]
    assert answers.pop("list_executions").json()["items"] == []
    assert answers.pop("act_on_executions").json()["items"] == []
    for name in OPEN:
        assert answers.pop(name).status_code == 200
    for name in OF_THE_SERVICE:  # what is counted there is not only its own
        refused = answers.pop(name)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "narrowed" in refused.json()["detail"]
    for name, answer in answers.items():
        assert (answer.status_code, answer.json()["code"]) == (404, "execution_not_found"), name
    assert walked.executions.get(walked.id).checkpoints == []


@pytest.mark.parametrize("narrowed", [other[0] for other in OTHERS], ids=["agent", "deployment"])
def test_what_another_s_key_is_told_is_what_it_is_told_of_nothing(
    walked: Walked, narrowed: dict[str, list[str]]
) -> None:
    """A refusal does not reveal that an execution exists."""
    key = walked.key(*Permission, **narrowed)
    there = walked.walk(key)
    there_id, walked.id = walked.id, f"exec_{uuid4().hex}"
    nowhere = walked.walk(key)

    for name in there.keys() - WITHOUT_AN_ID - OPEN - OF_THE_SERVICE:
        told = there[name].text.replace(there_id, "…")
        assert told == nowhere[name].text.replace(walked.id, "…"), name


@pytest.mark.parametrize(
    "narrowed",
    [
        {"agents": ["mine", "another"]},
        {"deployments": [OUTSIDE_DEPLOYMENT]},
        {"agents": ["mine"], "deployments": ["another/one", OUTSIDE_DEPLOYMENT]},
    ],
    ids=["agent", "deployment", "both"],
)
def test_its_own_key_does_all_of_it(walked: Walked, narrowed: dict[str, list[str]]) -> None:
    key = walked.key(*Permission, **narrowed)
    with TestClient(walked.app, headers={"x-api-key": key}) as client:
        assert client.get(f"/v1/execution/{walked.id}").status_code == 200
        assert [item["id"] for item in client.get("/v1/execution").json()["items"]] == [walked.id]
        assert client.delete(f"/v1/execution/{walked.id}").status_code == 204


def test_a_narrowed_key_acts_on_many_of_its_own_only(walked: Walked) -> None:
    for_others = {"x-api-key": walked.key(*Permission, deployments=["another/one"])}
    own = {"x-api-key": walked.key(*Permission, deployments=[OUTSIDE_DEPLOYMENT])}
    body = {"action": "pause", "ids": [walked.id]}
    with TestClient(walked.app) as client:
        [refused] = client.post("/v1/execution/bulk", json=body, headers=for_others).json()["items"]
        still = walked.executions.get(walked.id).status
        [done] = client.post("/v1/execution/bulk", json=body, headers=own).json()["items"]

    assert refused["problem"]["code"] == "execution_not_found"
    assert (still, done["status"]) == ("running", "paused")


def test_the_service_may_allow_some_deployments_only(walked: Walked) -> None:
    app = create_app(
        walked.executions,
        Keyring(walked.prefect, api_key=None),
        deployments={"research": "not/allowed"},
        allowed_deployments=["some/other"],
    )
    with TestClient(app, headers={"x-api-key": walked.key(*Permission)}) as client:
        for body in ({}, {"deployment": "not/allowed"}, {"task_type": "research"}):
            refused = client.post("/v1/execution", json={"name": "a", **body})
            assert (refused.status_code, refused.json()["code"]) == (403, "deployment_forbidden")
            assert "'some/other'" in refused.json()["detail"]
        refused = client.post(f"/v1/execution/{walked.id}/fork")
        assert (refused.status_code, refused.json()["code"]) == (403, "deployment_forbidden")
        assert client.post(f"/v1/execution/{walked.id}/pause").status_code == 202


def test_of_two_callers_with_the_same_idempotency_key_each_has_its_own(walked: Walked) -> None:
    made = set()
    for agent in ("mine", "another"):
        headers = {"x-api-key": walked.key(*Permission), "Idempotency-Key": "k"}
        with TestClient(walked.app, headers=headers) as client:
            body = {"name": "a", "agent_id": agent}
            answer = client.post("/v1/execution", json=body)
            assert answer.status_code == 201
            made.add(answer.json()["id"])
    assert len(made) == 2


def test_a_revoked_key_lets_nobody_in(stack: Stack) -> None:
    with get_client(sync_client=True) as prefect:
        name = f"key-{uuid4().hex}"
        secret = create_key(prefect, name, permissions=[Permission.READ])
        keyring = Keyring(prefect, api_key="k", max_age=0)
        app = create_app(Executions(MemoryObjects(), FlowRuns(prefect, store=uuid4().hex)), keyring)
        with TestClient(app, headers={"x-api-key": secret}) as client:
            assert client.get("/v1/execution").status_code == 200
            revoke_key(prefect, name)
            assert client.get("/v1/execution").status_code == 401
        keyring.close()
