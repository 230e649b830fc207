"""`/mcp`: the tools for agents over streamable HTTP, behind the same keys.

What a tool does is a request to the service in the same process, with the key of its caller. So
what the key allows, sees and may send is decided where it always is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from http import HTTPStatus
from typing import Any

import httpx
from anyio import to_thread
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from prefect_executions.client import AsyncClient
from prefect_executions.client.profiles import Profile
from prefect_executions.errors import UnsuitablePackage
from prefect_executions.extras import require_extra
from prefect_executions.service.dependencies import audit_inside
from prefect_executions.service.middleware.authentication import secret_of
from prefect_executions.service.problems import problem

PATH = "/mcp"
_HERE = "http://127.0.0.1"
_SERVICE = "prefect_executions.service"  # in the scope of a request: the application of the service


class Mcp:
    """The route of the tools; the package `mcp` is loaded by the first request.

    Args:
        max_body_bytes: The size of one request's body.
    """

    path = PATH  # for counters and spans, by route

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["route"] = self
        if scope["method"] != "POST":  # without sessions there is no stream to get or to end
            refusal = problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Send MCP requests by POST; there are no sessions here, and no streams.",
                headers={"Allow": "POST"},
            )
            await refusal(scope, receive, send)
            return
        try:
            server = await to_thread.run_sync(lambda: self._server)
        except UnsuitablePackage as error:
            absent = problem(HTTPStatus.NOT_FOUND, "not_found", f"There are no tools here. {error}")
            await absent(scope, receive, send)
            return
        audit_inside(scope)
        # Out here, since a body over the limit raises what must not get into a group of tasks.
        whole = _replayed(await Request(scope, receive).body(), receive)
        async with self._tools.exchange(server, max_body_bytes=self._max_body_bytes) as app:
            await app({**scope, _SERVICE: scope["app"]}, whole, send)  # `app` puts itself there

    @cached_property
    def _tools(self) -> Any:
        """The module of the MCP server.

        Raises:
            UnsuitablePackage: The package `mcp` is missing, or too old or too new.
        """
        require_extra("mcp")
        from prefect_executions.mcp import server  # noqa: PLC0415  # an extra, and slow to load

        return server

    @cached_property
    def _server(self) -> Any:
        return self._tools.make_server(_as_caller)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What an application receives whose request has been read already: the body, and the rest."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


@asynccontextmanager
async def _as_caller(ctx: Any) -> AsyncIterator[AsyncClient]:
    """A client of this service with the key, and from the address, of a request."""
    scope: Scope = ctx.request.scope
    client = AsyncClient(
        profile=Profile(_HERE, secret_of(scope), None, None),
        patience=0,  # the caller decides whether to try again
        transport=httpx.ASGITransport(
            scope[_SERVICE],
            raise_app_exceptions=False,
            client=scope.get("client") or ("unknown", 0),
        ),
    )
    async with client:
        yield client
