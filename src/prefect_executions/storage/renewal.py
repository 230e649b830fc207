"""A store whose credentials are renewed when they are refused."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from threading import Lock
from time import monotonic
from typing import TypeVar

from prefect_executions.errors import StoreRefused
from prefect_executions.storage.objects import Objects

T = TypeVar("T")

PAUSE = 5.0  # seconds between two renewals


class RenewedObjects:
    """A store that asks for new credentials when a request is refused, and repeats the request.

    A request that is refused has done nothing, so it may be repeated.

    Args:
        inner: The store as it is now.
        renew: Returns the store with other credentials, or None when there are none. It is called
            every five seconds at most.
        clock: Returns the seconds of some clock.
    """

    def __init__(
        self,
        inner: Objects,
        renew: Callable[[], Objects | None],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._inner = inner
        self._renew = renew
        self._clock = clock
        self._renewed_at: float | None = None
        self._lock = Lock()

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        self._ask(lambda objects: objects.create(key, data))

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`."""
        wanted = list(keys)
        return self._ask(lambda objects: objects.get(wanted, first=first, skip=skip))

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`; credentials that are refused after the first page stay so."""
        return self._ask(lambda objects: _begun(objects.scan(prefix, limit=limit)))

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`."""
        return self._ask(lambda objects: objects.measure(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        gone = list(keys)
        self._ask(lambda objects: objects.delete(gone))

    def _ask(self, act: Callable[[Objects], T]) -> T:
        objects = self._inner
        try:
            return act(objects)
        except StoreRefused:
            renewed = self._renewal_of(objects)
            if renewed is None:
                raise
        return act(renewed)

    def _renewal_of(self, refused: Objects) -> Objects | None:
        """The store with other credentials than those that were refused."""
        with self._lock:
            if self._inner is not refused:  # another thread was quicker
                return self._inner
            now = self._clock()
            if self._renewed_at is not None and now - self._renewed_at < PAUSE:
                return None
            self._renewed_at = now
            renewed = self._renew()
            if renewed is not None:
                self._inner = renewed
            return renewed


def _begun(keys: Iterator[str]) -> Iterator[str]:
    """An iterator whose first request has been made."""
    return chain([key for key in [next(keys, None)] if key is not None], keys)
