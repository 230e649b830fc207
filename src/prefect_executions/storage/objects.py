"""Immutable objects: the protocol of a store, and a store in memory."""

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol, runtime_checkable

from prefect_executions.circuit import Circuit
from prefect_executions.errors import AlreadyExists


@runtime_checkable
class Objects(Protocol):
    """A store of immutable bytes under ASCII keys.

    Durability rests on one law: of all calls that create the same key, concurrently or not, exactly
    one succeeds, and from then on every reader gets its bytes. A store that breaks it loses
    executions. Every implementation, those in this package and yours, has to pass the tests in
    `prefect_executions.storage.conformance`.

    Every method raises `StoreUnavailable` when the store does not respond or refuses, and its kind
    `StoreRefused` when asking again would not help.
    """

    def create(self, key: str, data: bytes) -> None:
        """Store `data` under a new key. It is durable when this returns.

        Raises:
            AlreadyExists: the key is taken. It may have been taken by this same call, when the
                store's client repeated a request: read the object to know.
        """
        ...

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """Fetch objects, in parallel when that is quicker; absent ones are left out.

        Args:
            keys: Their keys.
            first: Fetch only the first so many bytes of each, at least 1; by default all.
            skip: Before that, leave out so many bytes of each. An object that has no more is empty.
        """
        ...

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """List the keys that begin with `prefix`, in the order of their bytes, at most `limit`."""
        ...

    def measure(self, prefix: str) -> tuple[int, int]:
        """How many keys begin with `prefix`, and how many bytes their objects have."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; absent ones are no error."""
        ...


@runtime_checkable
class Guardable(Protocol):
    """A store whose requests can go through a circuit, so that no caller waits for long."""

    def within(self, circuit: Circuit) -> Objects:
        """The same store, each of whose requests goes through the circuit."""
        ...


@runtime_checkable
class Remote(Protocol):
    """A store on another machine: it may answer late, and has a clock of its own."""

    def hurried(self, seconds: float) -> Objects:
        """The same store, each of whose requests is given up after about so many seconds."""
        ...

    def read_date(self) -> str | None:
        """The header `Date` of an answer, by the store's clock; None if it does not say the time.

        Raises:
            StoreUnavailable: the store did not respond, or refused.
        """
        ...


class MemoryObjects:
    """Objects in the memory of this process, for tests."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        with self._lock:
            if key in self._data:
                raise AlreadyExists(key)
            self._data[key] = bytes(data)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`."""
        part = slice(skip, None if first is None else skip + first)
        with self._lock:
            return {key: self._data[key][part] for key in keys if key in self._data}

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`."""
        with self._lock:
            found = sorted(key for key in self._data if key.startswith(prefix))
        return islice(found, limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`."""
        with self._lock:
            sizes = [len(data) for key, data in self._data.items() if key.startswith(prefix)]
        return len(sizes), sum(sizes)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        with self._lock:
            for key in keys:
                self._data.pop(key, None)
