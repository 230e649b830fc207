"""The MCP server over stdin and stdout, for an agent on this machine."""

import asyncio
from contextlib import nullcontext

from prefect_executions.client import AsyncClient
from prefect_executions.mcp.server import make_server

PATIENCE = 10.0  # seconds: longer than the service's `Retry-After`


def run(url: str | None, *, profile: str | None, read_only: bool) -> None:
    """Serve until stdin ends.

    Args:
        url: The service; by default see `client.profiles`.
        profile: The name of a profile.
        read_only: Whether it only has the tools that change nothing.

    Raises:
        ValueError: There is no such profile, or URL or key is not valid.
    """
    asyncio.run(_serve(AsyncClient(url, profile=profile, patience=PATIENCE), read_only))


async def _serve(client: AsyncClient, read_only: bool) -> None:
    async with client:
        await make_server(lambda _: nullcontext(client), read_only=read_only).run_stdio_async()
