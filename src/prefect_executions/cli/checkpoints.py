"""The commands for checkpoints and states."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prefect_executions.cli.connection import connected
from prefect_executions.cli.exits import REFUSED, USAGE, end
from prefect_executions.cli.options import NONE, CommonOptions, Id, Limit, State, json_of
from prefect_executions.cli.output import gathered
from prefect_executions.cli.short_ids import whole
from prefect_executions.config import Status

Why = Annotated[str | None, Parameter(help="Why it is saved by hand; shown with the checkpoint.")]


def checkpoint(
    execution_id: Id,
    state: State,
    *,
    label: str | None = None,
    attempt: int | None = None,
    reason: Why = None,
    common: CommonOptions = NONE,
) -> None:
    """Save a checkpoint by hand."""
    with connected(common) as (client, output):
        value = json_of(state or "", "STATE")
        saved = client.checkpoint(
            whole(client, execution_id), value, label=label, attempt=attempt, reason=reason
        )
        output.show(saved, f"{saved.checkpoint.id}: saved; the execution is {saved.status}.")


def edit(
    execution_id: Id,
    *,
    label: str | None = None,
    reason: Why = None,
    common: CommonOptions = NONE,
) -> None:
    """Correct the state of an execution that is paused or has ended, in $VISUAL or $EDITOR.

    It is saved as a checkpoint of its own, from which the execution goes on when it is resumed.
    """
    with connected(common) as (client, output):
        id_ = whole(client, execution_id)
        before = client.get(id_, checkpoints="none")
        if before.status == Status.RUNNING:
            end(REFUSED, f"{id_} is running, and would go on with its own state: pause it first.")
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(before.state, file, ensure_ascii=False, indent=2)
            file.write("\n")
        _edited(file.name)
        state = json_of(f"@{file.name}", file.name)
        if state == before.state:
            Path(file.name).unlink()
            output.say("Nothing was changed, and nothing was saved.")
            return
        try:
            saved = client.checkpoint(
                id_, state, label=label, reason=reason, after=before.continues_from
            )
        except Exception:
            sys.stderr.write(f"What you have written is in {file.name}.\n")
            raise
        Path(file.name).unlink()
        output.show(saved, f"{saved.checkpoint.id}: saved; the execution is {saved.status}.")


def _edited(file: str) -> None:
    """Let a person change a file; or end the command, if the editor fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.run([*shlex.split(editor), file], check=False).returncode
    except OSError as error:
        end(USAGE, f"{editor}: {error.strerror}; name your editor in EDITOR.")
    if code:
        end(REFUSED, f"{editor} has ended with {code}; nothing was saved.")


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
