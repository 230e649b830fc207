"""The commands for keys, which are blocks in Prefect itself."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from prefect_executions.cli.exits import clearly
from prefect_executions.cli.output import Output

if TYPE_CHECKING:
    from prefect_executions.blocks.key import Key

app = App(name="keys", help="Create, list and revoke keys of the service; asks Prefect itself.")

_Json = Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")]


def _plain(key: "Key") -> dict[str, Any]:
    return {
        "name": key.name,
        "permissions": sorted(key.permissions),
        "agents": None if key.agents is None else sorted(key.agents),
        "deployments": None if key.deployments is None else sorted(key.deployments),
        "rate_limit": key.rate_limit,
        "created_at": key.created_at and key.created_at.isoformat(),
        "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
        "problem": key.problem,
    }


def _reach(key: "Key") -> str:
    """Which executions a key may access."""
    only = [f"agent {agent}" for agent in sorted(key.agents or ())]
    only += [f"deployment {deployment}" for deployment in sorted(key.deployments or ())]
    return ", ".join(only) or "all"


@app.command
def create(
    name: str,
    *,
    permission: Annotated[
        list[Literal["read", "write", "delete"]], Parameter(negative="", help="One or more.")
    ],
    agent_id: Annotated[
        list[str] | None, Parameter(negative="", help="Only executions of these agents.")
    ] = None,
    deployment: Annotated[
        list[str] | None,
        Parameter(negative="", help="Only executions of these deployments: flow/deployment."),
    ] = None,
    rate_limit: Annotated[str | None, Parameter(help="As in 100/minute.")] = None,
    json: _Json = False,
) -> None:
    """Create a key, and show it once."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.blocks.key import Permission, create_key  # noqa: PLC0415

    with get_client(sync_client=True) as client, clearly():
        secret = create_key(
            client,
            name,
            permissions=[Permission(each) for each in permission],
            agents=agent_id,
            deployments=deployment,
            rate_limit=rate_limit,
        )
    output = Output(as_json=json)
    output.show({"name": name, "key": secret}, secret)
    if not json:
        print("Keep it: it is not shown again.", file=sys.stderr)


@app.command(name="list")
def list_(*, json: _Json = False) -> None:
    """List the keys, without their secrets."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.blocks.key import list_keys  # noqa: PLC0415

    with get_client(sync_client=True) as client, clearly():
        found = list_keys(client)
    output = Output(as_json=json)
    if json:
        output.show([_plain(key) for key in found], "")
        return
    rows = [
        (
            key.name,
            " ".join(sorted(key.permissions)),
            _reach(key),
            key.created_at,
            key.last_used_at or "never",
            key.problem or "",
        )
        for key in found
    ]
    output.rows(rows, "name permissions executions created used problem", rows)


@app.command
def revoke(name: str) -> None:
    """Revoke a key: within five seconds no replica lets it in; a minute while Prefect is away."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.blocks.key import revoke_key  # noqa: PLC0415

    with get_client(sync_client=True) as client, clearly():
        revoke_key(client, name)
    print(f"{name} is revoked.")
