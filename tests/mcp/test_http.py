"""`/mcp` of the service: keys and what they see, protocols old and new, and without the package."""

import logging

import pytest
from fastapi.testclient import TestClient

from mcp_agents import agent_at
from office import Office
from prefect_executions.blocks.key import Permission
from prefect_executions.errors import UnsuitablePackage
from prefect_executions.service import mcp as route
from rest import KEY, assert_problem


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_clients_of_the_old_and_the_new_protocol_are_served(office: Office, mode: str) -> None:
    id_ = office.create()

    with agent_at(office.app, KEY, mode=mode) as agent:
        assert "get_execution" in agent.tools()
        assert agent.call("get_execution", execution_id=id_)["id"] == id_


def test_a_key_that_only_reads_changes_nothing(office: Office) -> None:
    id_ = office.create({"n": 1})
    (saved,) = office.save(id_, {"n": 2})
    one = {"execution_id": id_}
    changes = {
        "create_execution": {"name": "a"},
        "pause_execution": one,
        "resume_execution": one,
        "roll_back_execution": {**one, "checkpoint_id": saved, "force": True},
        "answer_question": {**one, "answer": {}},
        "fork_execution": one,
        "cancel_execution": one,
        "delete_execution": one,
    }

    with agent_at(office.app, office.key(Permission.READ)) as agent:
        reading = {name for name, tool in agent.tools().items() if tool.annotations.read_only_hint}  # type: ignore[union-attr]
        assert {*changes} == {*agent.tools()} - reading
        for name, arguments in changes.items():
            refusal = agent.refused(name, **arguments)
            assert "This key has not the permission" in refusal, name
            assert "Ask the person who gave you the key" in refusal, name
        assert agent.call("get_state", **one)["value"] == {"n": 2}

    assert office.executions.get(id_).status == "running"


def test_a_key_narrowed_to_an_agent_sees_and_makes_only_its_own(office: Office) -> None:
    other, own = office.create(agent_id="other"), office.create(agent_id="mine")
    key = office.key(*Permission, agents=["mine"])

    with agent_at(office.app, key) as agent:
        listed = agent.call("list_executions")["items"]
        made = agent.call("create_execution", name="a", agent_id="mine")
        refused = agent.refused("create_execution", name="a", agent_id="other")
        unseen = [
            agent.refused("get_execution", execution_id=other),
            agent.refused("delete_execution", execution_id=other),
        ]
        missing = agent.refused("get_execution", execution_id=f"exec_{'0' * 32}")

    assert [item["id"] for item in listed] == [own]
    assert made["agent_id"] == "mine"
    assert "none of the agents that this key may act for" in refused
    assert [text.replace(other, "…").split("executing")[1].split(":", 1)[1] for text in unseen] == [
        missing.replace(f"exec_{'0' * 32}", "…").split("executing")[1].split(":", 1)[1]
    ] * 2


@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_a_key_there_is_nothing(office: Office, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with TestClient(office.app, headers=headers) as client:
        assert_problem(client.post("/mcp", json={}), 401, "unauthorized")


def test_there_are_no_streams(office: Office) -> None:
    with TestClient(office.app, headers={"x-api-key": KEY}) as client:
        for method in ("GET", "DELETE"):
            answer = client.request(method, "/mcp")
            assert_problem(answer, 405, "method_not_allowed")
            assert answer.headers["Allow"] == "POST"


def test_without_the_package_there_are_no_tools(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(extra: str) -> None:
        raise UnsuitablePackage("mcp", None, ">=2.3,<3", extra)

    monkeypatch.setattr(route, "require_extra", lacks)
    with TestClient(office.app, headers={"x-api-key": KEY}) as client:
        problem = assert_problem(client.post("/mcp", json={}), 404, "not_found")

    assert "pip install 'prefect-executions[mcp]'" in problem["detail"]


def test_only_what_a_tool_changes_is_in_the_audit_log_by_the_name_of_its_key(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = office.create()
    key = office.key(*Permission)
    with caplog.at_level(logging.INFO, "prefect_executions.audit"), agent_at(office.app, key) as it:
        it.call("pause_execution", execution_id=id_)
        it.call("get_execution", execution_id=id_)

    (line,) = [one.getMessage() for one in caplog.records if one.name == "prefect_executions.audit"]
    assert line.startswith(f"{office.names[-1]} POST /v1/execution/{id_}/pause 202 in ")


def test_an_absent_store_is_an_error_that_says_to_try_again(office: Office) -> None:
    with agent_at(office.app, KEY) as agent:
        id_ = office.create()
        office.objects.away = True
        refused = agent.refused("get_execution", execution_id=id_)

    assert "The store of executions does not answer" in refused
    assert "Try again in a moment" in refused


def test_a_body_over_the_limit_is_refused(office: Office) -> None:
    pieces = (b" " * (1 << 20) for _ in range(17))  # without a Content-Length
    with TestClient(office.app, headers={"x-api-key": KEY}) as client:
        assert_problem(client.post("/mcp", content=pieces), 413, "body_too_large")
