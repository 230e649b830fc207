"""The command that serves the tools for agents over stdin and stdout."""

from typing import Annotated

from cyclopts import Parameter

from prefect_executions.cli.exits import REFUSED, clearly, end
from prefect_executions.errors import UnsuitablePackage
from prefect_executions.extras import require_extra


def mcp(
    *,
    url: Annotated[
        str | None,
        Parameter(help="Of the service; by default $PREFECT_EXECUTIONS_URL, or a profile's."),
    ] = None,
    profile: Annotated[
        str | None, Parameter(help="Of ~/.config/prefect-executions/config.toml.")
    ] = None,
    read_only: Annotated[
        bool, Parameter(negative="", help="Only the tools that change nothing.")
    ] = False,
) -> None:
    """Serve the tools of MCP to an agent, over stdin and stdout; an agent's program starts it."""
    try:
        require_extra("mcp")
    except UnsuitablePackage as error:
        end(REFUSED, f"{error}")
    from prefect_executions.mcp.stdio import run  # noqa: PLC0415  # takes a second to load

    with clearly():
        run(url, profile=profile, read_only=read_only)
