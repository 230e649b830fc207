"""The same done to many executions, each for itself."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from prefect_executions.errors import ExecutionConflict, ExecutionError
from prefect_executions.models import BulkItem, Refusal, Status

PARALLEL = 8

Act = Callable[[str], Status | None]
Told = Callable[[ExecutionError], Refusal]


def to_each(ids: Iterable[str], act: Act, told: Told) -> list[BulkItem]:
    """Act on each execution; one that can't be acted on is not in the others' way.

    Args:
        ids: The executions; each counts once.
        act: What is done; returns the status that the execution has then, None: it is gone.
        told: What is told of an error.
    """

    def one(id_: str) -> BulkItem:
        try:
            return BulkItem(id=id_, ok=True, status=act(id_), problem=None)
        except ExecutionError as error:
            status = Status(error.status) if isinstance(error, ExecutionConflict) else None
            return BulkItem(id=id_, ok=False, status=status, problem=told(error))

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="executions-bulk") as pool:
        # Each in this context: it says which Prefect server is meant.
        acting = [pool.submit(copy_context().run, one, id_) for id_ in dict.fromkeys(ids)]
        return [item.result() for item in acting]
