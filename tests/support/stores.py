"""Stores around a real one that count requests or let them fail."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from prefect_executions.errors import AlreadyExists, StoreUnavailable
from prefect_executions.storage.objects import Objects


@dataclass
class Counting:
    """Counts requests as S3 would: one per created or listed object, one round per `get`.

    Args:
        inner: The store.
        created: The bytes of each object created.
        rounds: How many objects each `get` has asked for.
        received: How many bytes each `get` has brought.
        scans: How often keys were listed.
    """

    inner: Objects
    created: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    scans: int = 0

    def create(self, key: str, data: bytes) -> None:
        self.created.append(len(data))
        self.inner.create(key, data)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        wanted = list(keys)
        self.rounds.append(len(wanted))
        found = self.inner.get(wanted, first=first, skip=skip)
        self.received.append(sum(map(len, found.values())))
        return found

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        self.scans += 1
        return self.inner.scan(prefix, limit=limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        return self.inner.measure(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def forget(self) -> None:
        self.created, self.rounds, self.received, self.scans = [], [], [], 0


class Fault(Enum):
    """A fault that a creation may meet."""

    NONE = auto()
    LOST = auto()  # the request did not arrive, and the caller gets an error
    ANSWER_LOST = auto()  # it arrived, and the caller gets an error
    REPEATED = auto()  # it arrived, the answer was lost, and the client repeated the request


@dataclass
class Faulty:
    """Lets the next creations fail as planned, and others act just before them."""

    inner: Objects
    faults: list[Fault] = field(default_factory=list)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def create(self, key: str, data: bytes) -> None:
        if self.meanwhile:
            # Neither the faults nor what comes meanwhile are for the others.
            faults, others = self.faults, self.meanwhile
            self.faults, self.meanwhile = [], []
            others.pop()()
            self.faults, self.meanwhile = faults, others
        fault = self.faults.pop() if self.faults else Fault.NONE
        if fault is Fault.LOST:
            raise StoreUnavailable("write", "connection reset")
        self.inner.create(key, data)
        if fault is Fault.ANSWER_LOST:
            raise StoreUnavailable("write", "no answer")
        if fault is Fault.REPEATED:
            raise AlreadyExists(key)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        return self.inner.get(keys, first=first, skip=skip)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        return self.inner.scan(prefix, limit=limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        return self.inner.measure(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)
