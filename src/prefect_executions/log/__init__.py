"""The append-only log of an execution: entries, states, journal and fencing."""

from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head, History

__all__ = ["Entry", "ExecutionLog", "Head", "History", "Kind", "Outcome", "Record"]
