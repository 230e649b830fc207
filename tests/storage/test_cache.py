"""The cache passes the conformance suite, and it caches."""

import pytest

from prefect_executions.storage.cache import CachedObjects
from prefect_executions.storage.conformance import ObjectsContract
from prefect_executions.storage.objects import MemoryObjects, Objects
from stores import Counting


class TestCachedObjects(ObjectsContract):
    @pytest.fixture
    def objects(self) -> Objects:
        return CachedObjects(MemoryObjects())


class TestCachedObjectsWithLittleRoom(ObjectsContract):
    @pytest.fixture
    def objects(self) -> Objects:
        return CachedObjects(MemoryObjects(), max_bytes=100)


@pytest.fixture
def inner() -> Counting:
    counting = Counting(MemoryObjects())
    for n in range(10):
        counting.create(f"a/{n}", b"%d" % n * 100)
    return counting


def test_what_was_read_is_not_read_again(inner: Counting) -> None:
    cached = CachedObjects(inner)
    keys = [f"a/{n}" for n in range(5)]

    assert cached.get(keys) == cached.get(keys)
    cached.get(["a/1", "a/7"])

    assert inner.rounds == [5, 1]


@pytest.mark.parametrize("first", [50, 100, 101])
def test_a_beginning_is_kept_as_one(inner: Counting, first: int) -> None:
    cached = CachedObjects(inner)
    assert cached.get(["a/1"], first=first) == {"a/1": (b"1" * 100)[:first]}

    assert cached.get(["a/1"], first=20) == {"a/1": b"1" * 20}
    assert inner.rounds == [1]
    assert cached.get(["a/1"]) == {"a/1": b"1" * 100}
    assert inner.rounds == ([1] if first > 100 else [1, 1])


def test_what_is_absent_is_asked_for_each_time(inner: Counting) -> None:
    cached = CachedObjects(inner)

    assert cached.get(["b"]) == {}
    inner.create("b", b"now")

    assert cached.get(["b"]) == {"b": b"now"}


def test_the_least_recently_used_goes_when_room_is_short(inner: Counting) -> None:
    cached = CachedObjects(inner, max_bytes=1600)
    for n in range(10):
        inner.create(f"b/{n}", b"%d" % n * 100)
    keys = [*(f"a/{n}" for n in range(10)), *(f"b/{n}" for n in range(6))]
    for key in keys:
        cached.get([key])
    cached.get(["a/0"])
    inner.forget()

    cached.get(["b/9"])

    assert cached.get(["a/0", "b/0"]).keys() == {"a/0", "b/0"}
    assert inner.rounds == [1]
    cached.get(["a/1"])
    assert inner.rounds == [1, 1]


def test_what_is_large_is_not_kept(inner: Counting) -> None:
    cached = CachedObjects(inner, max_bytes=1599)

    cached.get(["a/1"])
    cached.get(["a/1"])

    assert inner.rounds == [1, 1]


def test_what_is_deleted_here_is_gone(inner: Counting) -> None:
    cached = CachedObjects(inner)
    cached.get(["a/1"])

    cached.delete(["a/1"])

    assert cached.get(["a/1"]) == {}
