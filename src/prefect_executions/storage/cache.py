"""A cache of objects in memory. It needs no invalidation, since an object never changes."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Lock

from prefect_executions.storage.objects import Objects

_SHARE = 16  # an object larger than this part of the cache is not kept


class CachedObjects:
    """A store that keeps in memory what was written and read; the least recently used goes first.

    Threads may share it. Listings are not cached, so a reader that lists first, as `LogReader` does
    to find the head, sees deletions. An object that another process has deleted may still be read.

    Args:
        inner: The store.
        max_bytes: How many bytes are kept at most.
    """

    def __init__(self, inner: Objects, *, max_bytes: int = 64 << 20) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._size = 0
        # The bytes of each object, and whether they are all of them.
        self._kept: OrderedDict[str, tuple[bytes, bool]] = OrderedDict()
        self._lock = Lock()

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        self._inner.create(key, data)
        with self._lock:
            self._keep(key, data, whole=True)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`; what does not begin with the object's first byte is not kept."""
        end = None if first is None else skip + first
        found: dict[str, bytes] = {}
        missing: list[str] = []
        with self._lock:
            for key in keys:
                data, whole = self._kept.get(key, (b"", False))
                if whole or (end is not None and 0 < end <= len(data)):
                    found[key] = data[skip:end]
                    self._kept.move_to_end(key)
                else:
                    missing.append(key)
        if missing:
            fetched = self._inner.get(missing, first=first, skip=skip)
            found |= fetched
            if skip:
                return found
            with self._lock:
                for key, data in fetched.items():
                    self._keep(key, data, whole=first is None or len(data) < first)
        return found

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`."""
        return self._inner.scan(prefix, limit=limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`."""
        return self._inner.measure(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        gone = list(keys)
        self._inner.delete(gone)
        with self._lock:
            for key in gone:
                self._drop(key)

    def _keep(self, key: str, data: bytes, *, whole: bool) -> None:
        if len(data) > self._max_bytes // _SHARE:
            return
        self._drop(key)
        self._kept[key] = data, whole
        self._size += len(data)
        while self._size > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        data, _ = self._kept.pop(key, (b"", False))
        self._size -= len(data)
