"""A place for immutable objects: five verbs over bytes, and the law that durability rests on."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol, runtime_checkable
from uuid import uuid4

from prefect_executions.errors import AlreadyExists, UnsuitableStore

_PROBE_ROUNDS = 3
_PROBE_WRITERS = 4


@runtime_checkable
class Objects(Protocol):
    """Immutable bytes under keys of plain ASCII.

    The law: of many who create the same key, concurrently or after one another, exactly one
    succeeds, and from then on everybody reads that one's bytes. An implementation that can't keep
    it loses executions. `prefect_executions.storage.conformance` is the suite that every
    implementation has to pass, those in this package and yours.

    Every verb raises `StoreUnavailable` when the store does not answer or refuses.
    """

    def create(self, key: str, data: bytes) -> None:
        """Keep `data` under a new key; durable when it returns.

        Raises:
            AlreadyExists: the key is taken. After an earlier call ended in doubt, by this very
                call's own write, perhaps: read it to know.
        """
        ...

    def get(self, keys: Iterable[str], *, first: int | None = None) -> dict[str, bytes]:
        """Fetch several objects, in parallel where that is quicker; absent ones are left out.

        Args:
            keys: Which.
            first: Of each no more than so many bytes, at least 1; by default all of it.
        """
        ...

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """List the keys that begin with `prefix`, in the order of their bytes, `limit` at most."""
        ...

    def measure(self, prefix: str) -> tuple[int, int]:
        """How many keys begin with `prefix`, and how many bytes are kept under them."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; absent ones are no error."""
        ...


class MemoryObjects:
    """Objects in this process's memory: for tests, and for looking at what is written."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        with self._lock:
            if key in self._data:
                raise AlreadyExists(key)
            self._data[key] = bytes(data)

    def get(self, keys: Iterable[str], *, first: int | None = None) -> dict[str, bytes]:
        """See `Objects.get`."""
        with self._lock:
            return {key: self._data[key][:first] for key in keys if key in self._data}

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


def probe(objects: Objects) -> None:
    """Check that a store keeps the law of `Objects`, with about 15 requests; leaves nothing there.

    Some S3-compatible servers ignore `If-None-Match`, others keep it only while nobody else writes,
    so every round lets several writers create one fresh key at once.

    Raises:
        UnsuitableStore: several creators of one key succeeded.
        StoreUnavailable: the store did not answer, or refused.
    """
    keys = [f"probe-{uuid4().hex}" for _ in range(_PROBE_ROUNDS)]

    def create(key: str, start: threading.Barrier) -> bool:
        start.wait()
        try:
            objects.create(key, b"probe")
        except AlreadyExists:
            return False
        return True

    try:
        with ThreadPoolExecutor(_PROBE_WRITERS) as pool:
            for key in keys:
                start = threading.Barrier(_PROBE_WRITERS)
                claims = pool.map(create, [key] * _PROBE_WRITERS, [start] * _PROBE_WRITERS)
                if (winners := sum(claims)) != 1:
                    raise UnsuitableStore(
                        f"{winners} of {_PROBE_WRITERS} concurrent creators of one object "
                        "succeeded: the store does not keep `If-None-Match: *`, so two processes "
                        "could both extend an execution's history. Use Amazon S3 or a server that "
                        "makes conditional writes atomic."
                    )
    finally:
        objects.delete(keys)
