"""The command that continues an execution which was started by a call in a script."""

import inspect
import shlex
from pathlib import Path
from typing import Any

from prefect.flows import Flow


def way_back(flow: Flow[..., Any] | None, execution_id: str) -> str | None:
    """The command, or None where the flow can't be loaded from a file."""
    function = None if flow is None else inspect.unwrap(flow.fn)
    if function is None:
        return None
    name, file = function.__qualname__, Path(function.__code__.co_filename)
    if not (isinstance(function.__globals__.get(name), Flow) and file.is_file()):
        return None
    here, place = Path.cwd(), file.resolve()
    place = place.relative_to(here) if place.is_relative_to(here) else place
    return f"prefect-executions run {shlex.quote(f'{place}:{name}')} --resume {execution_id}"
