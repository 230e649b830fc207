"""Copying a store: all of it is there and the same, whatever interrupts it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from logs import ID, filled, numbered
from prefect_executions.errors import StoreUnavailable
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.copying import Copied, copy
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.s3 import S3Objects

OTHER = ID.replace("0", "1")
LOG = f"ef/{ID}"


def everything(objects: Objects) -> dict[str, bytes]:
    return objects.get(list(objects.scan("")))


@pytest.fixture
def source(memory: MemoryObjects) -> MemoryObjects:
    """Two logs, a dead letter, and the marker of the owner."""
    for id_ in (ID, OTHER):
        filled(ExecutionLog(memory, id_), 20)
    memory.create("webhooks/one/dead/1", b"letter")
    memory.create("owner", b"this one")
    return memory


@dataclass
class Acting:
    """A store in which something happens before the `at`th creation."""

    inner: Objects
    at: int
    act: Callable[[], object]
    created: list[str] = field(default_factory=list)

    def create(self, key: str, data: bytes) -> None:
        self.created.append(key)
        if len(self.created) == self.at:
            self.act()
        self.inner.create(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_store_goes_to_a_bucket_and_back(
    source: MemoryObjects, directory: DirectoryObjects, s3: S3Objects
) -> None:
    stores: list[Objects] = [source, directory, s3, MemoryObjects()]
    for before, after in pairwise(stores):
        done = list(copy(before, after))

        assert [copied.problem for copied in done] == [None] * 3
        assert sum(copied.new for copied in done) == 2 * 22 + 1
        assert {c.folder: c.objects for c in done}[LOG] == 22

        again = list(copy(before, after))

        assert [(c.new, c.size, c.problem) for c in again] == [(0, 0, None)] * 3
        assert [c.objects for c in again] == [c.objects for c in done]
    expected = everything(source)
    del expected["owner"]
    assert everything(stores[-1]) == expected
    assert ExecutionLog(stores[-1], ID).head().state == numbered(20)


@pytest.mark.parametrize("at", [1, 2, 9, 22])
def test_what_is_interrupted_is_a_log_and_goes_on(source: MemoryObjects, at: int) -> None:
    """The oldest entries come first: an entry is never there without what it is made of."""
    source.delete(source.scan(f"{OTHER[-2:]}/{OTHER}/"))
    source.delete(["webhooks/one/dead/1"])

    def fail() -> None:
        raise StoreUnavailable("write", "the network is gone")

    target = MemoryObjects()
    with pytest.raises(StoreUnavailable):
        list(copy(source, Acting(target, at, fail)))

    log = ExecutionLog(target, ID)
    numbers = list(log.numbers())
    assert numbers == list(range(at - 1))[::-1]
    if numbers:
        assert log.head().entry == ExecutionLog(source, ID).read_entries(numbers[:1])[numbers[0]]
    (copied,) = copy(source, target)
    assert copied == Copied(LOG, objects=22, new=23 - at, size=copied.size)
    assert log.head().state == numbered(20)


def test_what_differs_is_named_and_stays(source: MemoryObjects) -> None:
    target = MemoryObjects()
    list(copy(source, target))
    for objects, state in ((source, b"1"), (target, b"2")):
        log = ExecutionLog(objects, ID)
        log.checkpoint(log.head(), state)
    before = everything(target)

    done = {copied.folder: copied for copied in copy(source, target)}

    assert f"{LOG}/999999977 is another object there" in f"{done[LOG].problem}"
    assert [c.problem for folder, c in done.items() if folder != LOG] == [None, None]
    assert everything(target) == before


def test_what_is_written_to_meanwhile_is_named_and_copied_the_next_time(
    source: MemoryObjects,
) -> None:
    source.delete(source.scan(f"{OTHER[-2:]}/{OTHER}/"))
    log, target = ExecutionLog(source, ID), MemoryObjects()

    def save() -> None:
        log.checkpoint(log.head(), numbered(21))

    done = {copied.folder: copied for copied in copy(source, Acting(target, 3, save))}

    assert f"{done[LOG].problem}".startswith("It was written to meanwhile")
    assert [copied.new for copied in copy(source, target)] == [1, 0]
    assert ExecutionLog(target, ID).head().state == numbered(21)


def test_what_is_refused_is_left_out(source: MemoryObjects) -> None:
    target = MemoryObjects()

    done = copy(source, target, refuse=lambda folder: "It runs." if folder == LOG else None)

    assert {c.folder: c.problem for c in done if c.problem} == {LOG: "It runs."}
    assert list(target.scan(f"{LOG}/")) == []
