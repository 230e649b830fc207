"""The tools at `/mcp` of the service, with a key that may do everything."""

from datetime import UTC, datetime, timedelta

from mcp_agents import Agent
from office import Office

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}},
    "required": ["approved"],
}


def test_each_tool_says_whether_it_changes_or_destroys(agent: Agent) -> None:
    hints = {name: tool.annotations for name, tool in agent.tools().items()}

    assert {name for name, hint in hints.items() if hint and hint.read_only_hint} == {
        *("list_executions", "get_execution", "list_checkpoints", "get_state", "diff_checkpoints")
    }
    assert {name for name, hint in hints.items() if hint and hint.destructive_hint} == {
        *("roll_back_execution", "cancel_execution", "delete_execution")
    }
    assert {name for name, hint in hints.items() if hint and not hint.idempotent_hint} == {
        *("create_execution", "resume_execution", "roll_back_execution"),
        *("answer_question", "fork_execution"),
    }
    for name, tool in agent.tools().items():
        assert tool.description, name
        bare = [field for field in tool.input_schema["properties"].values() if len(field) < 2]
        assert not bare, name


def test_an_execution_is_created_and_found(agent: Agent) -> None:
    made = agent.call(
        "create_execution",
        name="a survey",
        agent_id="me",
        state={"n": 1},
        config={"max_retries": 2},
        idempotency_key="once",
    )
    again = agent.call(
        "create_execution",
        name="a survey",
        agent_id="me",
        state={"n": 1},
        config={"max_retries": 2},
        idempotency_key="once",
    )
    found = agent.call("list_executions", where={"agent_id": "me", "status": ["running"]})

    assert made["status"] == "running"
    assert made["config"]["max_retries"] == 2
    assert "state" not in made
    assert again["id"] == made["id"]
    assert [item["id"] for item in found["items"]] == [made["id"]]


def test_lists_go_on_where_they_ended(agent: Agent, office: Office) -> None:
    ids = [office.create(agent_id="one") for _ in range(3)]
    saved = office.save(ids[0], 1, 2, 3)

    first = agent.call("list_executions", where={"agent_id": "one"}, limit=2, order="asc")
    rest = agent.call(
        "list_executions", where={"agent_id": "one"}, order="asc", cursor=first["next_cursor"]
    )
    newest = agent.call("list_checkpoints", execution_id=ids[0], limit=2)
    oldest = agent.call("list_checkpoints", execution_id=ids[0], cursor=newest["next_cursor"])

    assert [item["id"] for item in first["items"] + rest["items"]] == ids
    assert [item["id"] for item in newest["items"]] == saved[:0:-1]
    assert saved[0] in [item["id"] for item in oldest["items"]]


def test_states_are_read_by_path(agent: Agent, office: Office) -> None:
    id_ = office.create({"notes": ["a" * 10_000]})
    first, second = office.save(id_, {"notes": ["b" * 10_000, "c"]}, {"notes": []})

    whole = agent.call("get_state", execution_id=id_, checkpoint_id=first)
    note = agent.call("get_state", execution_id=id_, checkpoint_id=first, path="/notes/1")
    piece = agent.call(
        "get_state", execution_id=id_, checkpoint_id=first, path="/notes/0", offset=9_000
    )
    newest = agent.call("get_state", execution_id=id_)
    diff = agent.call("diff_checkpoints", execution_id=id_, checkpoint_id=second, other_id=first)

    assert (whole["kind"], whole["left_out"], whole["value"]) == ("object", True, None)
    assert [part["path"] for part in whole["parts"]] == ["/notes"]
    assert note["value"] == "c"
    assert (piece["value"], piece["next_offset"]) == ("b" * 1_000, None)
    assert newest["value"] == {"notes": []}
    assert [change["op"] for change in diff["changes"]] == ["add", "add"]
    assert [change["left_out"] for change in diff["changes"]].count(True) == 1
    assert "nothing" not in agent.refused("get_state", execution_id=id_, path="/nothing/here/x")[:9]


def test_a_state_of_16_mb_never_travels_whole(agent: Agent, office: Office) -> None:
    id_ = office.create({"pages": ["x" * 1_000_000] * 15})
    (saved,) = office.save(id_, {"pages": ["y" * 1_000_000] * 16})

    answers = [
        agent.result("get_execution", execution_id=id_),
        agent.result("list_checkpoints", execution_id=id_),
        agent.result("get_state", execution_id=id_),
        agent.result("get_state", execution_id=id_, checkpoint_id=saved, path="/pages/3"),
        agent.result("diff_checkpoints", execution_id=id_, checkpoint_id=saved, other_id=saved),
        agent.result("get_state", execution_id=id_, limit=16_000_000),
    ]

    assert all(len(answer.model_dump_json()) < 30_000 for answer in answers)
    assert "200000" in answers[-1].content[0].text  # type: ignore[union-attr]  # the limit


def test_a_result_that_is_large_is_read_by_path(agent: Agent, office: Office) -> None:
    small, large = office.create(), office.create()
    office.complete(small, {"found": 1})
    office.complete(large, {"pages": ["x" * 5_000, "end"]})

    short = agent.call("get_execution", execution_id=small)
    long = agent.call("get_execution", execution_id=large)
    part = agent.call("get_state", execution_id=large, of="result", path="/pages/1")

    assert (short["result"], short["result_left_out"]) == ({"found": 1}, False)
    assert (long["result"], long["result_left_out"]) == (None, True)
    assert part["value"] == "end"


def test_pause_resume_and_roll_back(agent: Agent, office: Office) -> None:
    id_ = office.create({"n": 0})
    first, _ = office.save(id_, {"n": 1}, {"n": 2})
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    paused = agent.call("pause_execution", execution_id=id_, reason="to look", until=until)
    resumed = agent.call("resume_execution", execution_id=id_)
    refused = agent.refused("resume_execution", execution_id=id_)
    back = agent.call("roll_back_execution", execution_id=id_, checkpoint_id=first, force=True)
    state = agent.call("get_state", execution_id=id_)

    assert (paused["status"], paused["prefect"]["message"]) == ("paused", "to look")
    assert paused["question"] is None
    assert resumed["status"] == "running"
    assert "it is running" in refused
    assert "get_execution shows its status" in refused
    assert back["status"] == "running"
    assert state["value"] == {"n": 1}


def test_a_question_is_read_and_answered(agent: Agent, office: Office) -> None:
    id_ = office.create()
    key = office.ask(id_, APPROVAL, "Go **on**?")

    asked = agent.call("get_execution", execution_id=id_)["question"]
    wrong = agent.refused("answer_question", execution_id=id_, answer={"aproved": "x"})
    done = agent.call("answer_question", execution_id=id_, answer={"approved": True})
    late = agent.refused("answer_question", execution_id=id_, answer={"approved": True})

    assert (asked["id"], asked["prompt"], asked["answer_schema"]) == (key, "Go **on**?", APPROVAL)
    assert "approved" in wrong
    assert "get_execution shows the question" in wrong
    assert done["status"] == "running"
    assert "nothing is asked" in late or "it is running" in late


def test_a_fork_leaves_the_other_as_it_is(agent: Agent, office: Office) -> None:
    id_ = office.create({"n": 0})
    first, _ = office.save(id_, {"n": 1}, {"n": 2})

    fork = agent.call("fork_execution", execution_id=id_, checkpoint_id=first, name="another way")

    origin = {"execution_id": id_, "checkpoint_id": first, "effects": "record"}
    assert fork["forked_from"] == origin
    assert agent.call("get_state", execution_id=fork["id"])["value"] == {"n": 1}
    assert agent.call("get_state", execution_id=id_)["value"] == {"n": 2}


def test_what_is_cancelled_stays_and_what_is_deleted_goes(agent: Agent, office: Office) -> None:
    id_ = office.create()

    cancelled = agent.call("cancel_execution", execution_id=id_)
    deleted = agent.call("delete_execution", execution_id=id_)
    gone = agent.refused("get_execution", execution_id=id_)

    assert cancelled["status"] == "terminated"
    assert deleted == {"id": id_, "finished": True}
    assert f"There is no execution '{id_}'" in gone
    assert "list_executions shows those" in gone


def test_a_wait_ends_with_the_execution(agent: Agent, office: Office) -> None:
    id_ = office.create()
    running = agent.call("get_execution", execution_id=id_, wait=0.1)
    office.complete(id_, None)

    ended = agent.call("get_execution", execution_id=id_, wait=50)

    assert (running["status"], ended["status"]) == ("running", "completed")


def test_wrong_arguments_are_named(agent: Agent, office: Office) -> None:
    assert "limit" in agent.refused("list_executions", limit=0)
    assert "where.stats" in agent.refused("list_executions", where={"stats": "x"})
    assert "execution_id" in agent.refused("get_execution")
    missing = agent.refused("create_execution", name="a", deployment="no/where")
    assert "There is no deployment 'no/where'" in missing
