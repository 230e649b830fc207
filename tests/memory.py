"""A store block in memory, for flows that are called in the tests' own process."""

from pydantic import BaseModel, PrivateAttr

from prefect_executions.blocks import ExecutionStore
from prefect_executions.entry import Entry
from prefect_executions.log import ExecutionLog
from prefect_executions.objects import Objects


class MemoryStore(ExecutionStore):
    """A store block whose objects a test gives."""

    _block_type_slug = "memory-store"
    _block_type_name = "Memory Store"

    _objects: Objects = PrivateAttr()

    @classmethod
    def of(cls, objects: Objects) -> "MemoryStore":
        store = cls(bucket="memory")
        store._objects = objects
        return store

    def objects(self) -> Objects:
        return self._objects


class Count(BaseModel):
    n: int = 0


def entries_of(objects: Objects, run_id: str) -> list[Entry]:
    history = ExecutionLog(objects, run_id).read(checkpoints=None)
    return [history.entries[seq] for seq in sorted(history.entries)]


def kinds(objects: Objects, run_id: str) -> list[str]:
    return [entry.kind.value for entry in entries_of(objects, run_id)]
