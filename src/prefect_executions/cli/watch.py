"""The command that follows an execution."""

import sys
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from prefect_executions.cli.connection import connected
from prefect_executions.cli.exits import REFUSED
from prefect_executions.cli.options import NONE, CommonOptions, Id
from prefect_executions.cli.output import harmless, status
from prefect_executions.cli.short_ids import whole
from prefect_executions.config import Status

PATIENCE = 300.0  # seconds that the service may be away while a command watches


def watch(
    execution_id: Id,
    *,
    until_ended: Annotated[bool, Parameter(help="Stop when it has ended.")] = True,
    common: CommonOptions = NONE,
) -> None:
    """Follow an execution: status changes and checkpoints, a line each, as they happen.

    Exits with 1 if it has ended and not completed, or was deleted.
    """
    with connected(common, PATIENCE) as (client, output):
        for event in client.stream(whole(client, execution_id)):
            data = event.data
            if event.kind == "status":
                state_name, message = data["state_name"], data["message"] or ""
                text: str | Text = status(Status(data["status"])).append(
                    harmless(f" ({state_name}) {message}"), style="default"
                )
            elif event.kind == "checkpoint":
                text = f"{data['checkpoint_id']} {data['label'] or ''} ({data['size']:,} B)"
            else:
                text = "deleted"
            if not output.as_json:
                output.console.print(f"{data['at'][:19]} ", end="")
            output.show({"event": event.kind, **data}, text)
            sys.stdout.flush()
            if event.kind == "deleted":
                sys.exit(REFUSED)
            if event.kind == "status" and until_ended and Status(data["status"]).ended:
                sys.exit(0 if data["status"] == Status.COMPLETED else REFUSED)
