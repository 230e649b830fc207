"""An agent with nothing but the tools of MCP, on real executions."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from mcp_agents import Agent, agent_at, agent_over_stdio
from rest import KEY
from world import World, eventually


@pytest.fixture(params=[agent_at, agent_over_stdio], ids=["http", "stdio"])
def agent(request: pytest.FixtureRequest, world: World) -> Iterator[Agent]:
    """An agent at the service."""
    with request.param(f"{world.rest.base_url}".rstrip("/"), KEY) as here:
        yield here


def until(here: Agent, id_: str, *statuses: str) -> dict[str, Any]:
    """Wait by the tool alone until an execution stands there."""

    def look() -> dict[str, Any] | None:
        now = here.call("get_execution", execution_id=id_, wait=20)
        return now if now["status"] in statuses else None

    found: dict[str, Any] = eventually(look, f"it is {statuses}")
    return found


def mend(here: Agent, name: str, repaired: Any) -> dict[str, Any]:
    """What a scripted agent does that is given the tools and a name: it reads, and decides by that.

    Args:
        here: The agent.
        name: What the executions are called that it looks after.
        repaired: Called with the page that it has found to be damaged, to get it whole.
    """
    (failed,) = here.call("list_executions", where={"status": ["failed"], "name": name})["items"]
    found = here.call("get_execution", execution_id=failed["id"])
    page = re.search(r"page (\d+) is damaged", found["prefect"]["message"])
    assert page is not None, found
    wrong = int(page[1])
    points = here.call("list_checkpoints", execution_id=failed["id"])["items"]
    after = next(point for point in points if point["label"] == f"page {wrong}")
    before = next(point for point in points if point["label"] == f"page {wrong - 1}")
    path = f"/read/{wrong - 1}"
    seen = here.call("get_state", execution_id=failed["id"], checkpoint_id=after["id"], path=path)
    changed = here.call(
        "diff_checkpoints",
        execution_id=failed["id"],
        checkpoint_id=before["id"],
        other_id=after["id"],
    )
    assert seen["value"] == "??"
    assert [(change["path"], change["value"]) for change in changed["changes"]] == [(path, "??")]
    repaired(wrong)
    fork = here.call(
        "fork_execution",
        execution_id=failed["id"],
        checkpoint_id=before["id"],
        name=f"{name}, with page {wrong} read anew",
    )
    return until(here, fork["id"], "completed", "failed")


@pytest.mark.journey
def test_an_agent_finds_a_failed_execution_and_forks_it_from_before_the_mistake(
    world: World, agent: Agent
) -> None:
    name = f"sum {uuid4().hex}"
    damaged = world.data / "damaged-pages"
    damaged.write_text("3")
    made = agent.call(
        "create_execution", name=name, deployment="adding/test", parameters={"pages": 4}
    )
    until(agent, made["id"], "failed")

    mended = mend(agent, name, lambda _: damaged.unlink())

    before = agent.call("get_execution", execution_id=made["id"])
    assert (mended["status"], mended["result"]) == ("completed", 1 + 2 + 3 + 4)
    assert mended["forked_from"]["execution_id"] == made["id"]
    labels = [point["label"] for point in mended["checkpoints"]]
    assert labels == [None, "page 4", "page 3"]  # the last is of the end
    assert before["status"] == "failed"
