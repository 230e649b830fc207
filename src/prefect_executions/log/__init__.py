"""The append-only log of an execution: entries, changes against earlier ones, fencing."""

from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head

__all__ = ["ExecutionLog", "Head"]
