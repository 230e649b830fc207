"""Credentials that are refused are read anew, and what was refused is repeated."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from prefect_executions.errors import StoreRefused, StoreUnavailable
from prefect_executions.storage.conformance import ObjectsContract
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.renewal import PAUSE, RenewedObjects


@dataclass
class Locked:
    """A store that refuses everything as long as it is locked."""

    inner: MemoryObjects
    error: StoreUnavailable | None = None
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def ask(*args: Any, **options: Any) -> Any:
            self.asked += 1
            if self.error is not None:
                raise self.error
            return method(*args, **options)

        return ask


REFUSAL = StoreRefused("write", "InvalidAccessKeyId")


@dataclass
class Renewals:
    """Gives other stores, one after the other, and counts how often it was asked."""

    stores: list[Objects | None]
    asked: int = 0
    seconds: float = field(default=0.0)

    def __call__(self) -> Objects | None:
        self.asked += 1
        return self.stores.pop(0)


class TestRenewedObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, memory: MemoryObjects) -> Objects:
        return RenewedObjects(memory, lambda: None)


ACTS: dict[str, Callable[[Objects], object]] = {
    "create": lambda objects: objects.create("new", b"data"),
    "get": lambda objects: objects.get(key for key in ["old"]),
    "scan": lambda objects: list(objects.scan("")),
    "measure": lambda objects: objects.measure(""),
    "delete": lambda objects: objects.delete(key for key in ["old"]),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_was_refused_is_repeated_with_other_credentials(
    memory: MemoryObjects, act: str
) -> None:
    memory.create("old", b"data")
    plain = MemoryObjects()
    plain.create("old", b"data")
    renewals = Renewals([memory])
    objects = RenewedObjects(Locked(memory, REFUSAL), renewals)

    assert ACTS[act](objects) == ACTS[act](plain)

    assert memory._data == plain._data
    assert list(objects.scan("")) == list(plain.scan(""))
    assert renewals.asked == 1


def test_without_other_credentials_the_refusal_stands_and_is_asked_about_now_and_then(
    memory: MemoryObjects,
) -> None:
    now = 100.0
    renewals = Renewals([None, None, memory])
    objects = RenewedObjects(Locked(memory, REFUSAL), renewals, clock=lambda: now)

    for seconds, asked in [(0, 1), (PAUSE - 0.1, 1), (0.1, 2), (PAUSE - 0.1, 2)]:
        now += seconds
        with pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
            objects.create("a", b"")
        assert renewals.asked == asked
    now += 0.1
    objects.create("a", b"")
    assert memory._data == {"a": b""}


def test_a_store_that_is_away_is_not_renewed(memory: MemoryObjects) -> None:
    renewals = Renewals([])
    objects = RenewedObjects(Locked(memory, StoreUnavailable("read", "no answer")), renewals)

    with pytest.raises(StoreUnavailable):
        objects.get(["a"])

    assert renewals.asked == 0


def test_threads_share_one_renewal(memory: MemoryObjects) -> None:
    renewals = Renewals([memory])
    objects = RenewedObjects(Locked(memory, REFUSAL), renewals)
    numbers = count()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: objects.create(f"{next(numbers)}", b""), range(50)))

    assert len(memory._data) == 50
    assert renewals.asked == 1
