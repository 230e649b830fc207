"""LangGraph on the execution log: checkpointers that need no Prefect, and graphs as executions.

`S3Saver` and `DirectorySaver` stand alone: a thread is a log. Inside an execution `invoke` runs a
graph that is compiled with `checkpointer=saver()`: its checkpoints are the execution's own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prefect_executions.extras import require_extra

require_extra("langgraph")

from prefect_executions.langgraph.checkpointer import (  # noqa: E402
    DirectorySaver,
    S3Saver,
    Saver,
)

if TYPE_CHECKING:
    from prefect_executions.langgraph.inside import InterruptAnswer, ainvoke, invoke, saver

_INSIDE = ("InterruptAnswer", "ainvoke", "invoke", "saver")

__all__ = ["DirectorySaver", "InterruptAnswer", "S3Saver", "Saver", "ainvoke", "invoke", "saver"]


def __getattr__(name: str) -> Any:
    """Load what is used in executions when it is asked for: the others do without Prefect."""
    if name not in _INSIDE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.inside"), name)
