"""An agent that has nothing but the tools of an MCP server, by the official client."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Request, Result, Tool
from pydantic import ConfigDict, Field

from prefect_executions.mcp.tasks import IDENTIFIER

PROGRAM = [sys.executable, "-m", "prefect_executions.cli", "mcp"]


class TaskRequest(Request[dict[str, Any], str]):
    """A request of the extension for tasks."""

    name_param = "taskId"


class TaskAnswer(Result):
    """Any answer about a task."""

    model_config = ConfigDict(extra="allow")

    result_type: str = Field(alias="resultType")


class CreatedTask(TaskAnswer):
    """A task in place of the result of a tool."""

    result_type: Literal["task"] = Field("task", alias="resultType")


class WithTasks(ClientExtension):
    """Lets a call be answered with a task."""

    identifier = IDENTIFIER

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    async def _resolve(self, task: CreatedTask, _: ClaimContext) -> CallToolResult:
        raise AssertionError(task)  # `Agent.created` takes it before


class Agent:
    """Calls tools, and waits for their answers."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self._client = client

    def tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools).tools}

    def extensions(self) -> dict[str, Any]:
        return self._client.server_capabilities.extensions or {}

    def result(self, tool: str, **arguments: Any) -> CallToolResult:
        return self._portal.call(self._client.call_tool, tool, arguments)

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a tool, which has to succeed."""
        result = self.result(tool, **arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    def created(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The task that a tool answers with."""
        call = partial(self._client.session.call_tool, tool, arguments, allow_claimed=True)
        task = self._portal.call(call)
        assert isinstance(task, CreatedTask), task
        return task.model_dump(by_alias=True, mode="json")

    def refused(self, tool: str, **arguments: Any) -> str:
        """What a tool says that has to refuse."""
        result = self.result(tool, **arguments)
        assert result.is_error, result
        (content,) = result.content
        return content.text  # type: ignore[union-attr]  # errors are text

    def task(self, method: str, id_: str, **params: Any) -> dict[str, Any]:
        """The answer to a request of the extension for tasks."""
        request = TaskRequest(method=method, params={"taskId": id_, **params})
        answer = self._portal.call(self._client.session.send_request, request, TaskAnswer)
        assert answer.result_type == "complete"
        return answer.model_dump(by_alias=True, mode="json", exclude={"result_type", "meta"})

    def task_refused(self, method: str, id_: str, **params: Any) -> tuple[int, str]:
        """The error of such a request."""
        try:
            answer = self.task(method, id_, **params)
        except MCPError as error:
            return error.code, error.message
        raise AssertionError(answer)


@contextmanager
def agent(server: Any, **options: Any) -> Iterator[Agent]:
    """An agent at a server: parameters of a program, a transport, or the server itself."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(server, **options)) as client,
    ):
        yield Agent(portal, client)


@contextmanager
def agent_at(
    service: FastAPI | str, key: str | None, *, path: str = "/mcp", **options: Any
) -> Iterator[Agent]:
    """An agent at `/mcp` of a service: of an application in this process, or at a URL."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    at = service if isinstance(service, str) else "http://127.0.0.1"
    inside = None if isinstance(service, str) else httpx2.ASGITransport(service)
    http = httpx2.AsyncClient(headers=headers, transport=inside, timeout=60)
    with agent(streamable_http_client(f"{at}{path}", http_client=http), **options) as here:
        yield here


@contextmanager
def agent_over_stdio(url: str, key: str, *options: str, **more: Any) -> Iterator[Agent]:
    """An agent that starts `prefect-executions mcp` for a service."""
    program = StdioServerParameters(
        command=PROGRAM[0],
        args=[*PROGRAM[1:], "--url", url, *options],
        env={**os.environ, "PREFECT_EXECUTIONS_API_KEY": key},
    )
    with agent(program, **more) as here:
        yield here
