"""The command that compares executions."""

import json
from typing import Annotated

from cyclopts import Parameter

from prefect_executions.cli.connection import connected
from prefect_executions.cli.exits import USAGE, end
from prefect_executions.cli.options import NONE, CommonOptions
from prefect_executions.cli.short_ids import whole
from prefect_executions.models import Compared, Comparison

_COLUMNS = "id name status active attempts checkpoints same changed only requests bytes result"
_SHOWN = 60  # characters of a result


def compare(
    executions: Annotated[list[str], Parameter(help="Two or more: their ids, or first digits.")],
    *,
    common: CommonOptions = NONE,
) -> None:
    """Compare executions with the first of them: results, steps, and states label by label."""
    if len(executions) < 2:
        end(USAGE, "Give two executions or more.")
    with connected(common) as (client, output):
        found = client.compare(*(whole(client, each) for each in executions))
        if common.json:
            output.show(found, "")
            return
        output.rows(found.executions, _COLUMNS, map(_row, found.executions))
        output.say("\n".join(_differences(found)) or "Steps and states are the same.")


def _row(it: Compared) -> tuple[object, ...]:
    result = json.dumps(it.result, ensure_ascii=False)
    steps = it.steps
    return (
        *(it.id, it.name, it.status, f"{it.elapsed_seconds} s", it.attempts, it.checkpoints),
        *(steps.same, steps.changed, steps.only, it.requests, f"{it.bytes_stored:,} B"),
        result[:_SHOWN] + "…" * (len(result) > _SHOWN),
    )


def _differences(found: Comparison) -> list[str]:
    """A line for each step, and for each checkpoint, that is not the same."""
    lines = [
        f"step {step.step}: other results"
        if step.what == "changed"
        else f"step {step.step}: only in {', '.join(step.ids)}"
        for step in found.steps
    ]
    for checkpoint in found.checkpoints:
        for id_, patch in checkpoint.patches.items():
            where = f"{checkpoint.label}: {checkpoint.ids[id_]} of {id_}"
            if patch is None:
                lines.append(f"{where} differs by more than is shown here")
            lines += [f"{where}: {json.dumps(each, ensure_ascii=False)}" for each in patch or ()]
    return lines
