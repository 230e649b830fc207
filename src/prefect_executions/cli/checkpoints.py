"""The commands for checkpoints and states."""

import json
from itertools import islice

from prefect_executions.cli.connection import connected
from prefect_executions.cli.options import NONE, CommonOptions, Id, Limit, State, json_of
from prefect_executions.cli.output import gathered
from prefect_executions.cli.short_ids import whole


def checkpoint(
    execution_id: Id,
    state: State,
    *,
    label: str | None = None,
    attempt: int | None = None,
    common: CommonOptions = NONE,
) -> None:
    """Save a checkpoint by hand."""
    with connected(common) as (client, output):
        value = json_of(state or "", "STATE")
        saved = client.checkpoint(whole(client, execution_id), value, label=label, attempt=attempt)
        output.show(saved, f"{saved.checkpoint.id}: saved; the execution is {saved.status}.")


def checkpoints(execution_id: Id, *, limit: Limit = 50, common: CommonOptions = NONE) -> None:
    """List the checkpoints of an execution, newest first."""
    with connected(common) as (client, output):
        wanted = islice(client.checkpoints(whole(client, execution_id)), limit or None)
        found = gathered(wanted, "checkpoints")
        rows = (
            (
                *(c.id, c.label, c.timestamp),
                f"{c.attempt}, by {c.saved_by}" if c.saved_by else c.attempt,
                f"{c.size:,} B",
            )
            for c in found
        )
        output.rows(found, "id label saved attempt size", rows)


def state(
    execution_id: Id, checkpoint_id: str | None = None, *, common: CommonOptions = NONE
) -> None:
    """Print the state of an execution, or of one checkpoint, as JSON."""
    with connected(common) as (client, output):
        if checkpoint_id is None:
            value = client.get(whole(client, execution_id), checkpoints="none").state
        else:
            value = client.get_checkpoint(whole(client, execution_id), checkpoint_id).state
        output.show(value, json.dumps(value, ensure_ascii=False, indent=2))


def diff(
    execution_id: Id, checkpoint_id: str, other_id: str, *, common: CommonOptions = NONE
) -> None:
    """Show what has changed between two checkpoints, as JSON Patch."""
    with connected(common) as (client, output):
        found = client.diff(whole(client, execution_id), checkpoint_id, other_id)
        lines = [json.dumps(change, ensure_ascii=False) for change in found.patch]
        output.show(found, "\n".join(lines) or "Nothing has changed.")
