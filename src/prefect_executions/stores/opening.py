"""The store of a flow: what `@execution(store=…)` names, or what a test puts in its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect_executions.stores.store import ExecutionStore, load_store

_replacement: ContextVar[ExecutionStore | None] = ContextVar("execution_store", default=None)


@contextmanager
def replaced_by(store: ExecutionStore) -> Iterator[None]:
    """Let `open_store` return this store, whatever it is asked for."""
    token = _replacement.set(store)
    try:
        yield
    finally:
        _replacement.reset(token)


def open_store(store: str | ExecutionStore | None) -> ExecutionStore:
    """The store of a flow, by its name, by default, or as it is.

    Raises:
        StoreNotFound, PrefectUnavailable: see `load_store`.
    """
    if (replacement := _replacement.get()) is not None:
        return replacement
    return store if isinstance(store, ExecutionStore) else load_store(store)
