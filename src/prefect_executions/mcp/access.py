"""A client of the service for each call of a tool."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context

from prefect_executions.client import AsyncClient
from prefect_executions.mcp.refusals import refusals

Connect = Callable[[ServerRequestContext[Any, Any]], AbstractAsyncContextManager[AsyncClient]]


class Access:
    """The clients of the service, each for one call.

    Args:
        connect: Makes the client for a request: over stdio always the same one, at `/mcp` one with
            the key of that request.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    @asynccontextmanager
    async def client(self, ctx: Context[Any]) -> AsyncIterator[AsyncClient]:
        """The client for a call of a tool.

        Raises:
            ToolError: The service refuses something.
        """
        with refusals():
            async with self.plain_client(ctx.request_context) as client:
                yield client

    def plain_client(
        self, ctx: ServerRequestContext[Any, Any]
    ) -> AbstractAsyncContextManager[AsyncClient]:
        """The client for a request, which raises `ServiceError`."""
        return self._connect(ctx)
