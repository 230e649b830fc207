"""The MCP server: its tools, and what clients are told of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations

from prefect_executions.mcp.access import Access, Connect
from prefect_executions.mcp.control import Control
from prefect_executions.mcp.reading import Reading
from prefect_executions.mcp.tasks import Tasks

NAME = "prefect-executions"
_INSTRUCTIONS = (
    "Durable executions of long-running agent tasks. list_executions finds them; get_execution "
    "says where one stands, why it failed and what it asks. States may be large: get_state reads "
    "parts of them by path, and diff_checkpoints what has changed. A failed one is continued by "
    "resume_execution, taken back by roll_back_execution, or tried another way beside it by "
    "fork_execution."
)


def make_server(connect: Connect, *, read_only: bool = False) -> MCPServer[Any]:
    """An MCP server with the tools.

    Args:
        connect: Makes the client of the service for a request.
        read_only: Whether it only has the tools that change nothing.
    """
    access = Access(connect)
    server: MCPServer[Any] = MCPServer(
        NAME,
        title="Durable executions",
        instructions=_INSTRUCTIONS,
        version=version(NAME),
        extensions=[] if read_only else [Tasks(access)],
        subscriptions=False,
        log_level="WARNING",
    )
    reading = Reading(access)
    for tool in (
        reading.list_executions,
        reading.get_execution,
        reading.list_checkpoints,
        reading.get_state,
        reading.diff_checkpoints,
    ):
        _add(server, tool, read_only=True, destructive=False, idempotent=True)
    if read_only:
        return server
    control = Control(access)
    _add(server, control.create_execution)
    _add(server, control.pause_execution, idempotent=True)
    _add(server, control.resume_execution)
    _add(server, control.roll_back_execution, destructive=True)
    _add(server, control.answer_question)
    _add(server, control.fork_execution)
    _add(server, control.cancel_execution, destructive=True, idempotent=True)
    _add(server, control.delete_execution, destructive=True, idempotent=True)
    return server


@asynccontextmanager
async def exchange(server: MCPServer[Any], *, max_body_bytes: int) -> AsyncIterator[Any]:
    """The server as an ASGI application for one request, whose path is `/mcp`.

    It keeps no sessions: each request stands for itself, so that any replica can answer it.
    """
    app = server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        max_request_body_size=max_body_bytes,
        # The service checks keys, and without any the `Host`.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    async with server.session_manager.run():  # that of `app`: each has one, to be used once
        yield app


def _add(
    server: MCPServer[Any],
    tool: Callable[..., Any],
    *,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
) -> None:
    hints = ToolAnnotations(
        read_only_hint=read_only,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=False,
    )
    server.add_tool(tool, annotations=hints)
