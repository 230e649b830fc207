"""The configurations and the code in docs/mcp.md work, and its table is that of the tools."""

import asyncio
import json
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import StdioServerParameters

from mcp_agents import Agent, agent, agent_at
from office import Office
from rest import KEY
from serving import serving

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def servers() -> list[dict[str, Any]]:
    return [json.loads(block)["mcpServers"]["executions"] for block in blocks("json")]


@pytest.fixture
def url(office: Office) -> Iterator[str]:
    with serving(office.app) as url:
        yield url


def test_the_configuration_for_stdio_starts_the_server(url: str) -> None:
    told = servers()[0]
    assert set(told["env"]) == {"PREFECT_EXECUTIONS_URL", "PREFECT_EXECUTIONS_API_KEY"}
    own = {"PREFECT_EXECUTIONS_URL": url, "PREFECT_EXECUTIONS_API_KEY": KEY}
    program = StdioServerParameters(
        command=str(Path(sys.executable).parent / told["command"]),
        args=told["args"],
        env={**os.environ, **own},
    )

    with agent(program) as here:
        assert here.call("list_executions")["items"] == []
        assert "delete_execution" not in here.tools()


def test_the_configuration_for_http_reaches_the_service(office: Office, url: str) -> None:
    told = servers()[1]
    path = told["url"].removeprefix("https://executions.example.com")
    kind, placeholder = told["headers"]["Authorization"].split()
    assert (kind, placeholder) == ("Bearer", "pxk_…")

    with agent_at(url, KEY, path=path) as here:
        assert here.call("list_executions")["items"] == []


def test_the_code_names_what_has_failed(office: Office, url: str, tmp_path: Path) -> None:
    office.fail(office.create(), "The disk is full.")
    (tmp_path / "document.py").write_text(blocks("python")[0])
    failures = runpy.run_path(f"{tmp_path / 'document.py'}")["failures"]

    (message,) = asyncio.run(failures(url, KEY)).values()

    assert "The disk is full." in message


def test_the_table_says_of_each_tool_what_it_does(agent: Agent) -> None:
    row = r"^\| `(\w+_\w+)` \| .*? \| (.*?) ?\| (.*?) ?\| (.*?) ?\|$"
    rows = re.findall(row, DOCUMENT, re.MULTILINE)
    told = {name: tuple(cell == "yes" for cell in cells) for name, *cells in rows}

    hints = {name: tool.annotations for name, tool in agent.tools().items()}
    assert told == {
        name: (not hint.read_only_hint, hint.destructive_hint, hint.idempotent_hint)
        for name, hint in hints.items()
        if hint
    }
