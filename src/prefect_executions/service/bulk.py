"""Bulk actions: one action on many executions, each independent of the others."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from prefect_executions.config import Status
from prefect_executions.errors import ExecutionConflict, ExecutionError
from prefect_executions.models import BulkItem, Refusal

PARALLEL = 8

Act = Callable[[str], Status | None]
Refuse = Callable[[ExecutionError], Refusal]


def to_each(ids: Iterable[str], act: Act, refusal_of: Refuse) -> list[BulkItem]:
    """Act on each execution; a failure for one does not stop the others.

    Args:
        ids: The executions; duplicates count once.
        act: The action; returns the new status of the execution, or None when it is deleted.
        refusal_of: Makes an error into a part of the answer.
    """

    def one(id_: str) -> BulkItem:
        try:
            return BulkItem(id=id_, ok=True, status=act(id_), problem=None)
        except ExecutionError as error:
            status = Status(error.status) if isinstance(error, ExecutionConflict) else None
            return BulkItem(id=id_, ok=False, status=status, problem=refusal_of(error))

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="executions-bulk") as pool:
        # Each in a copy of this context, which has the settings of the Prefect server.
        acting = [pool.submit(copy_context().run, one, id_) for id_ in dict.fromkeys(ids)]
        return [item.result() for item in acting]
