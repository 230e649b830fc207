"""The commands that control an execution."""

from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from prefect_executions.cli.connection import connected
from prefect_executions.cli.options import NONE, CommonOptions, Id, State, json_of
from prefect_executions.cli.short_ids import whole
from prefect_executions.config import OnTimeout
from prefect_executions.forgotten import warning


def pause(
    execution_id: Id,
    *,
    reason: str | None = None,
    until: datetime | None = None,
    on_timeout: OnTimeout = OnTimeout.RESUME,
    wait: Annotated[float, Parameter(help="Seconds, for its process to leave.")] = 0,
    common: CommonOptions = NONE,
) -> None:
    """Pause an execution: its process ends at its next checkpoint."""
    ends = until.astimezone() if until and until.tzinfo is None else until
    with connected(common) as (client, output):
        id_ = whole(client, execution_id)
        paused = client.pause(id_, reason=reason, until=ends, on_timeout=on_timeout, wait=wait)
        output.show(paused, f"{paused.id} is {paused.status}.")


def cancel(
    execution_id: Id,
    *,
    wait: Annotated[float, Parameter(help="Seconds, for its process to end.")] = 0,
    common: CommonOptions = NONE,
) -> None:
    """Terminate an execution and keep it: it can be resumed."""
    with connected(common) as (client, output):
        cancelled = client.cancel(whole(client, execution_id), wait=wait)
        output.show(cancelled, f"{cancelled.id} is {cancelled.status}.")


def resume(
    execution_id: Id,
    *,
    checkpoint_id: Annotated[str | None, Parameter(help="Roll back to this one.")] = None,
    force: Annotated[
        bool, Parameter(negative="", help="Roll back a running one, too: it is paused first.")
    ] = False,
    reason: Annotated[str | None, Parameter(help="Why it is rolled back.")] = None,
    input: Annotated[State, Parameter(help="The answer to what it asks: JSON or @FILE.")] = None,  # noqa: A002
    wait: Annotated[float, Parameter(help="Seconds, for its next attempt to begin.")] = 0,
    common: CommonOptions = NONE,
) -> None:
    """Resume an execution, from its newest state or from a checkpoint."""
    with connected(common) as (client, output):
        answer = None if input is None else json_of(input, "--input")
        id_ = whole(client, execution_id)
        resumed = client.resume(
            id_,
            checkpoint_id=checkpoint_id,
            input=answer,
            force=force,
            reason=reason,
            wait=wait,
        )
        if resumed.steps_behind:
            output.say(warning(f"{checkpoint_id}", resumed.steps_behind))
        output.show(resumed, f"{resumed.id} is {resumed.status}.")
