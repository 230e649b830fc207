"""The list of executions in the inspector."""

from html import unescape

from fastapi.testclient import TestClient

from html_pages import Seen, log_in
from office import Office
from prefect_executions.approvals import ToolApproval
from prefect_executions.blocks.key import Permission
from prefect_executions.config import Status
from prefect_executions.executions.creation import Creation
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.artifacts import PageArtifact, page_facts
from prefect_executions.prefect.run_page import RunPage


def listed(page: str) -> list[str]:
    """The executions of a page, in their order."""
    links = [link.removeprefix("/ui/") for link in Seen(page).links]
    return [link for link in dict.fromkeys(links) if link.startswith("exec_")]


def test_what_needs_an_answer_is_on_top(reader: TestClient, office: Office) -> None:
    asking = office.create(state={})
    office.ask(asking, ToolApproval.model_json_schema(), "May **it** go on?")
    running = office.create(state={})
    failed = office.create(state={})
    office.fail(failed, "the disk is full")

    everything = reader.get("/ui/").text
    paused = reader.get("/ui/", params={"status": "paused"}).text
    others = reader.get("/ui/", params={"status": "failed"}).text

    assert listed(everything) == [asking, failed, running]
    assert everything.index("Needs an answer") < everything.index(asking)
    assert "the disk is full" in everything
    assert listed(paused) == [asking]
    assert listed(others) == [failed]
    assert "Needs an answer" not in others


def test_executions_are_counted_by_status(reader: TestClient, office: Office) -> None:
    for agent in ("one", "one", "two"):
        office.create(agent_id=agent)
    office.complete(office.create(agent_id="one"), None)

    everything = reader.get("/ui/").text
    narrowed = reader.get("/ui/", params={"agent_id": "two"}).text
    by_name = reader.get("/ui/", params={"name": "task"}).text

    assert "Running <b>3</b>" in everything
    assert "Completed <b>1</b>" in everything
    assert "Running <b>1</b>" in narrowed
    assert "Completed <b>0</b>" in narrowed
    assert "/ui/?status=failed&agent_id=two" in Seen(narrowed).links
    assert "Running</a>" in by_name, "Prefect can't count by a part of a name"


def test_a_narrowed_key_counts_only_what_it_sees(reader: TestClient, office: Office) -> None:
    office.create(agent_id="one")
    own = office.create(agent_id="two")
    log_in(reader, office.key(Permission.READ, agents=["two"]))

    page = reader.get("/ui/").text

    assert listed(page) == [own]
    assert "Running <b>1</b>" in page


def test_progress_attempt_and_origin_are_shown(reader: TestClient, office: Office) -> None:
    id_ = office.create(state={})
    fork, _ = Creation(office.executions).fork(id_)
    run_id = flow_run_id(id_)
    before = page_facts(office.prefect, [run_id])
    shown = RunPage(
        execution_id=id_,
        status=Status.RUNNING,
        attempt=3,
        active_seconds=1,
        state=b'{"done": 3, "total": 4}',
        checkpoints=[],
    )

    PageArtifact(office.prefect, run_id).show(shown)

    page = unescape(reader.get("/ui/").text)
    assert before == {}
    assert "attempt 3" in page
    assert '<progress max="1" value="0.75"' in page
    assert "75% (3 of 4)" in page
    assert f'title="forked from {id_}"' in page
    assert listed(page)[0] == fork.id
    assert 'title="20' in page, "relative times have UTC in their tooltips"
