"""Executions as tasks of the protocol, for clients that declare the extension."""

from collections.abc import Iterator

import pytest
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

from mcp_agents import Agent, WithTasks, agent_at
from office import Office
from prefect_executions.blocks.key import Permission
from prefect_executions.mcp.tasks import IDENTIFIER
from rest import KEY

MISSING_CAPABILITY = -32021
APPROVAL = {
    "$defs": {"Verdict": {"enum": ["yes", "no"], "type": "string"}},
    "properties": {
        "verdict": {"$ref": "#/$defs/Verdict"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
    },
    "required": ["verdict"],
    "type": "object",
}


@pytest.fixture
def tasker(office: Office) -> Iterator[Agent]:
    """An agent that declares the extension."""
    with agent_at(office.app, KEY, extensions=[WithTasks()]) as here:
        yield here


def test_what_creates_an_execution_answers_with_its_task(tasker: Agent, office: Office) -> None:
    task = tasker.created("create_execution", name="a")
    fork = tasker.created("fork_execution", execution_id=task["taskId"])
    other = tasker.call("get_execution", execution_id=task["taskId"])

    assert IDENTIFIER in tasker.extensions()
    assert task["resultType"] == "task"
    assert (task["status"], task["ttlMs"], task["pollIntervalMs"]) == ("working", None, 2_000)
    assert task["createdAt"].endswith("Z")
    assert task["lastUpdatedAt"].endswith("Z")
    assert office.executions.get(task["taskId"]).name == "a"
    assert fork["resultType"] == "task"
    assert fork["taskId"] != task["taskId"]
    assert other["id"] == task["taskId"]
    assert tasker.refused("create_execution", name="a", deployment="no/where")


def test_a_task_comes_to_the_result_that_the_tool_would_have_had(
    tasker: Agent, office: Office
) -> None:
    id_ = office.create()
    working = tasker.task("tasks/get", id_)
    office.complete(id_, {"found": 1})

    done = tasker.task("tasks/get", id_)

    assert working["status"] == "working"
    assert done["status"] == "completed"
    assert done["result"]["structuredContent"]["result"] == {"found": 1}
    assert '"found": 1' in done["result"]["content"][0]["text"]


def test_a_failure_is_the_error_of_the_task(tasker: Agent, office: Office) -> None:
    id_ = office.create()
    office.fail(id_, "The disk is full.")

    failed = tasker.task("tasks/get", id_)

    assert failed["status"] == "failed"
    assert failed["error"] == {"code": INTERNAL_ERROR, "message": failed["statusMessage"]}
    assert "The disk is full." in failed["statusMessage"]


def test_a_question_is_input_that_the_task_requires(tasker: Agent, office: Office) -> None:
    id_ = office.create()
    key = office.ask(id_, APPROVAL, "Go **on**?")

    asked = tasker.task("tasks/get", id_)
    for ignored in (
        {"another": {"action": "accept", "content": {"verdict": "yes"}}},
        {key: {"action": "decline"}},
    ):
        tasker.task("tasks/update", id_, inputResponses=ignored)
    still = tasker.task("tasks/get", id_)
    wrong = {key: {"action": "accept", "content": {"verdict": "perhaps"}}}
    code, refusal = tasker.task_refused("tasks/update", id_, inputResponses=wrong)
    answer = {key: {"action": "accept", "content": {"verdict": "yes"}}}
    acknowledged = tasker.task("tasks/update", id_, inputResponses=answer)

    assert (asked["status"], still["status"]) == ("input_required", "input_required")
    assert asked["inputRequests"][key] == {
        "method": "elicitation/create",
        "params": {
            "mode": "form",
            "message": "Go **on**?",
            "requestedSchema": {
                "type": "object",
                "properties": {
                    "verdict": {"enum": ["yes", "no"], "type": "string"},
                    "note": {"type": "string", "default": None},
                },
                "required": ["verdict"],
            },
        },
    }
    assert (code, "perhaps" in refusal) == (INVALID_PARAMS, True)
    assert acknowledged == {}
    assert tasker.task("tasks/get", id_)["status"] == "working"


def test_another_pause_is_work_that_waits(tasker: Agent, office: Office) -> None:
    id_ = office.create()
    office.executions.pause(id_, reason="to look")

    paused = tasker.task("tasks/get", id_)

    assert paused["status"] == "working"
    assert paused["statusMessage"] == "It is paused: to look. resume_execution continues it."


def test_to_cancel_a_task_terminates_its_execution(tasker: Agent, office: Office) -> None:
    running, completed = office.create(), office.create()
    office.complete(completed, None)

    for id_ in (running, running, completed):
        assert tasker.task("tasks/cancel", id_) == {}

    assert tasker.task("tasks/get", running)["status"] == "cancelled"
    assert tasker.task("tasks/get", completed)["status"] == "completed"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_a_task_of_another_s_key_is_not_known(office: Office, method: str) -> None:
    other = office.create(agent_id="other")
    params = {"inputResponses": {}} if method == "tasks/update" else {}

    with agent_at(
        office.app, office.key(*Permission, agents=["mine"]), extensions=[WithTasks()]
    ) as agent:
        code, said = agent.task_refused(method, other, **params)
        nothing = agent.task_refused(method, f"exec_{'0' * 32}", **params)

    assert code == INVALID_PARAMS
    assert nothing == (code, said.replace(other, f"exec_{'0' * 32}"))
    assert office.executions.get(other).status == "running"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_without_the_extension_there_are_no_tasks(
    agent: Agent, office: Office, method: str
) -> None:
    id_ = office.create()
    params = {"inputResponses": {}} if method == "tasks/update" else {}

    code, _ = agent.task_refused(method, id_, **params)
    made = agent.call("create_execution", name="a")

    assert code == MISSING_CAPABILITY
    assert made["status"] == "running"


def test_the_old_protocol_has_no_tasks(office: Office) -> None:
    with agent_at(office.app, KEY, mode="legacy", extensions=[WithTasks()]) as agent:
        code, _ = agent.task_refused("tasks/get", office.create())
        made = agent.call("create_execution", name="a")

    assert code == METHOD_NOT_FOUND
    assert made["status"] == "running"


def test_a_key_that_only_reads_follows_tasks_and_changes_none(office: Office) -> None:
    id_ = office.create()

    with agent_at(office.app, office.key(Permission.READ), extensions=[WithTasks()]) as agent:
        assert agent.task("tasks/get", id_)["status"] == "working"
        code, said = agent.task_refused("tasks/cancel", id_)

    assert code == INTERNAL_ERROR
    assert "has not the permission" in said
