"""The command that runs an execution again here, with what it has recorded."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from prefect_executions.cli.exits import MISSING, REFUSED, USAGE, end
from prefect_executions.cli.options import StoreName


def replay(
    source: Annotated[str, Parameter(help="The execution, or a file that `export` has written.")],
    *,
    flow: Annotated[
        str | None, Parameter(help="FILE:FLOW; by default the entrypoint of its deployment.")
    ] = None,
    from_: Annotated[
        str | None, Parameter(name="--from", help="A checkpoint; by default the beginning.")
    ] = None,
    break_at: Annotated[
        str | None, Parameter(help="Stop in the debugger before this step; `up` leads to its call.")
    ] = None,
    allow: Annotated[
        list[str] | None, Parameter(negative="", help="A step that may run, though not recorded.")
    ] = None,
    store: StoreName = None,
) -> None:
    """Run an execution again, in this process; nothing is written anywhere.

    Steps get what was recorded of them, and a step that was never recorded is refused before it
    runs. The code is that which is here: in its directory, as the deployment names it.
    """
    from prefect.exceptions import MissingFlowError, ScriptError  # noqa: PLC0415
    from prefect.flows import load_flow_from_entrypoint  # noqa: PLC0415

    from prefect_executions.testkit.origin import read_origin  # noqa: PLC0415
    from prefect_executions.testkit.replaying import replay  # noqa: PLC0415

    try:
        origin = read_origin(source, store=store)
    except FileNotFoundError:
        end(MISSING, f"{source}: there is no such execution, and no such file.")
    entrypoint = flow or origin.entrypoint
    if entrypoint is None or ":" not in entrypoint:
        end(USAGE, "Where its code is, is not known: name it by --flow FILE:FLOW.")
    if not (file := Path(entrypoint.rpartition(":")[0])).is_file():
        end(MISSING, f"{file}: there is no such file here; name it by --flow FILE:FLOW.")
    try:
        code: Any = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except (MissingFlowError, ValueError) as error:
        end(MISSING, f"{error}")
    except ScriptError as error:
        raise error.user_exc from None

    def stop(step: str) -> None:
        if step == break_at:
            breakpoint()

    trial = replay(code, origin, checkpoint_id=from_, allow=allow or (), before_step=stop)
    print(f"It is {trial.status}.")
    if trial.error is not None:
        end(REFUSED, f"{type(trial.error).__name__}: {trial.error}")
    json.dump(trial.get().result, sys.stdout, ensure_ascii=False, indent=2)
    print()
