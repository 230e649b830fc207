"""The command that runs a flow of a file here, and continues what has died."""

import asyncio
import inspect
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from prefect_executions.cli.exits import MISSING, REFUSED, USAGE, end


def run(
    entrypoint: Annotated[str, Parameter(help="FILE:FLOW, as in first.py:research.")],
    *,
    resume: Annotated[str, Parameter(help="The execution; its process has died.")],
    from_: Annotated[
        str | None, Parameter(name="--from", help="Roll back to this checkpoint first: ckpt_….")
    ] = None,
) -> None:
    """Continue an execution here, which was started by a call of its flow in a script.

    It goes on from its newest checkpoint, or from an earlier one, with the parameters that it was
    called with. One whose process is alive is refused. Executions of deployments are continued by
    workers: see `resume`.
    """
    from prefect.exceptions import MissingFlowError, Pause, ScriptError  # noqa: PLC0415
    from prefect.flows import Flow, load_flow_from_entrypoint  # noqa: PLC0415

    from prefect_executions import execution  # noqa: PLC0415

    if ":" not in entrypoint:
        end(USAGE, f"{entrypoint}: name the file and the flow in it, as in first.py:research.")
    if not (file := Path(entrypoint.rpartition(":")[0])).is_file():
        end(MISSING, f"{file}: there is no such file.")
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except (MissingFlowError, ValueError) as error:
        end(MISSING, f"{error}")
    except ScriptError as error:
        raise error.user_exc from None
    try:
        result: Any = execution.resume(flow, resume, checkpoint_id=from_)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except Pause as pause:
        state = "deleted" if pause.state is None else f"{pause.state.name}"
        end(REFUSED, f"This process has left the execution, which is {state} now.")
