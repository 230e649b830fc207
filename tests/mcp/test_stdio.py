"""`prefect-executions mcp`: the tools over stdin and stdout of a real process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient

from mcp_agents import PROGRAM, WithTasks, agent_over_stdio
from prefect_executions.blocks.key import Permission, create_key, revoke_key
from prefect_executions.cli import main
from prefect_executions.cli import mcp as command
from prefect_executions.errors import UnsuitablePackage
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY
from serving import served


@pytest.fixture
def url(prefect: SyncPrefectClient) -> Iterator[str]:
    with served(prefect, MemoryObjects(), store=uuid4().hex) as url:
        yield url


def test_an_agent_does_all_of_it(url: str) -> None:
    with agent_over_stdio(url, KEY) as agent:
        id_ = agent.call("create_execution", name="a", state={"n": 1})["id"]
        listed = agent.call("list_executions")["items"]
        paused = agent.call("pause_execution", execution_id=id_, reason="to look")
        resumed = agent.call("resume_execution", execution_id=id_)
        agent.call("roll_back_execution", execution_id=id_, checkpoint_id="ckpt_000000", force=True)
        lines = agent.call("list_checkpoints", execution_id=id_)["items"]
        state = agent.call("get_state", execution_id=id_, path="/n")
        diff = agent.call(
            "diff_checkpoints",
            execution_id=id_,
            checkpoint_id="ckpt_000000",
            other_id="ckpt_000000",
        )
        unasked = agent.refused("answer_question", execution_id=id_, answer={"a": 1})
        fork = agent.call("fork_execution", execution_id=id_)
        cancelled = agent.call("cancel_execution", execution_id=fork["id"])
        deleted = agent.call("delete_execution", execution_id=id_)
        gone = agent.refused("get_execution", execution_id=id_)

    assert [item["id"] for item in listed] == [id_]
    assert (paused["status"], resumed["status"]) == ("paused", "running")
    assert lines == []
    assert state["value"] == 1
    assert diff["changes"] == []
    assert "get_execution shows" in unasked
    assert cancelled["status"] == "terminated"
    assert deleted["finished"]
    assert "There is no execution" in gone


def test_an_execution_is_a_task(url: str) -> None:
    with agent_over_stdio(url, KEY, extensions=[WithTasks()]) as agent:
        task = agent.created("create_execution", name="a")
        agent.task("tasks/cancel", task["taskId"])

        assert agent.task("tasks/get", task["taskId"])["status"] == "cancelled"


def test_read_only_has_only_the_tools_that_read(url: str) -> None:
    with agent_over_stdio(url, KEY, "--read-only") as agent:
        tools = agent.tools()
        refused = agent.refused("delete_execution", execution_id="exec_1")

        assert agent.extensions() == {}
        assert agent.call("list_executions")["items"] == []

    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
    assert "Unknown tool" in refused


def test_keys_hold_here_as_well(url: str, prefect: SyncPrefectClient) -> None:
    names = [f"key-{uuid4().hex}" for _ in range(2)]
    reader = create_key(prefect, names[0], permissions=[Permission.READ])
    mine = create_key(prefect, names[1], permissions=[*Permission], agents=["mine"])
    try:
        with agent_over_stdio(url, reader) as agent:
            assert "has not the permission" in agent.refused("create_execution", name="a")
            assert agent.call("list_executions")["items"] == []
        with agent_over_stdio(url, mine) as agent:
            assert agent.call("create_execution", name="a", agent_id="mine")["agent_id"] == "mine"
            assert "agent_id" in agent.refused("create_execution", name="a", agent_id="other")
        with agent_over_stdio(url, "wrong") as agent:
            refused = agent.refused("list_executions")
    finally:
        for name in names:
            revoke_key(prefect, name)
    assert "does not know the key in PREFECT_EXECUTIONS_API_KEY" in refused


def test_a_wrong_address_ends_the_command_before_it_serves(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "--profile", "nowhere"],
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 2
    assert "there is no 'nowhere'" in done.stderr


def test_the_server_loads_neither_prefect_nor_boto3() -> None:
    code = (
        "import sys\nimport prefect_executions.mcp.stdio, prefect_executions.cli.app\n"
        "print([m for m in ('prefect', 'boto3', 'fastapi') if m in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_without_the_package_the_command_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(extra: str) -> None:
        raise UnsuitablePackage("mcp", "1.9", ">=2.3,<3", extra)

    monkeypatch.setattr(command, "require_extra", lacks)

    with pytest.raises(SystemExit) as ended:
        main(["mcp"])

    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "mcp 1.9 is installed" in said
    assert "pip install 'prefect-executions[mcp]'" in said
