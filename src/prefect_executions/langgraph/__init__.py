"""LangGraph on the execution log: checkpointers that need no Prefect, where a thread is a log."""

from prefect_executions.extras import require_extra

require_extra("langgraph")

from prefect_executions.langgraph.checkpointer import (  # noqa: E402
    DirectorySaver,
    S3Saver,
    Saver,
)

__all__ = ["DirectorySaver", "S3Saver", "Saver"]
