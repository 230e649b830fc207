"""The command that finds where an execution went wrong."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from prefect_executions.cli.connection import connected
from prefect_executions.cli.exits import MISSING, USAGE, end
from prefect_executions.cli.options import NONE, CommonOptions, Id
from prefect_executions.cli.short_ids import whole
from prefect_executions.models import RecordedStep

_SHOWN = 200  # characters of a step's result


def bisect(
    execution_id: Id,
    *,
    bad: Annotated[
        str | None, Parameter(help="A Python expression over `state` that is true of a bad one.")
    ] = None,
    module: Annotated[
        str | None,
        Parameter(help="In place of it FILE:FUNCTION, called with a state: check.py:is_bad."),
    ] = None,
    good: Annotated[
        str | None, Parameter(help="A checkpoint that is good: look only after it.")
    ] = None,
    until: Annotated[
        str | None, Parameter(help="A checkpoint that is bad; by default the newest.")
    ] = None,
    common: CommonOptions = NONE,
) -> None:
    """Find the first bad checkpoint, what changed with it, and the steps recorded in between.

    It is found by halving, so that all before it are taken for good, and all after it for bad. The
    expression is run on this machine, and is your own code.
    """
    if (bad is None) is (module is None):
        end(USAGE, "Give --bad, as in 'len(state[\"done\"]) < 3', or --module: one of the two.")
    is_bad = _expression(bad) if bad is not None else _function(f"{module}")
    with connected(common) as (client, output):
        from prefect_executions.client import bisect as find  # noqa: PLC0415

        id_ = whole(client, execution_id)
        try:
            found = find(client, id_, is_bad, good=good, bad=until)
        except ValueError as problem:
            end(USAGE, f"{problem}")
        label = f" {found.bad.label}" if found.bad.label else ""
        before = "the first of all" if found.good is None else f"{found.good.id} before it is good"
        lines = [f"{found.bad.id}{label} is the first bad one; {before} ({found.loads} requests)."]
        if found.wavering:
            lines.append(
                f"It wavers near there: {', '.join(found.wavering)} say otherwise. Narrow it down "
                "by --good and --until."
            )
        if found.diff is None:
            lines.append("The two states are too large to be compared here: read both by `state`.")
        else:
            lines += [json.dumps(change, ensure_ascii=False) for change in found.diff.patch]
            lines += map(_told, found.diff.steps)
        output.show(found, "\n".join(lines))


def _told(step: RecordedStep) -> str:
    """A line about a step."""
    result = json.dumps(step.result, ensure_ascii=False)
    shown = "…" if step.result_left_out else result[:_SHOWN] + "…" * (len(result) > _SHOWN)
    returned = f" returned {shown}" if step.outcome == "done" else f" is {step.outcome}"
    return f"step {step.step}{returned}, at {step.recorded_at:%Y-%m-%d %H:%M:%S} UTC"


def _expression(text: str) -> Callable[[Any], bool]:
    try:
        code = compile(text, "--bad", "eval")
    except SyntaxError as error:
        end(USAGE, f"--bad: {text!r} is no Python expression ({error.msg}).")
    return lambda state: bool(eval(code, {"state": state}))


def _function(entrypoint: str) -> Callable[[Any], bool]:
    file, colon, name = entrypoint.rpartition(":")
    if not colon:
        end(
            USAGE, f"--module: {entrypoint}: name the file and the function in it, check.py:is_bad."
        )
    if not Path(file).is_file():
        end(MISSING, f"--module: {file}: there is no such file.")
    found = runpy.run_path(file).get(name)
    if not callable(found):
        end(MISSING, f"--module: {file} has no function {name!r}.")
    function: Callable[[Any], bool] = found
    return function
