"""The state of flows that run in the tests' own process, and what was saved of it."""

from pydantic import BaseModel

from prefect_executions.log.entry import Entry
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.objects import Objects


class Count(BaseModel):
    n: int = 0


def entries_of(objects: Objects, run_id: str) -> list[Entry]:
    history = ExecutionLog(objects, run_id).read(checkpoints=None)
    return [history.entries[seq] for seq in sorted(history.entries)]


def kinds(objects: Objects, run_id: str) -> list[str]:
    return [entry.kind.value for entry in entries_of(objects, run_id)]
