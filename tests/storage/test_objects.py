"""Every implementation of `Objects` in the package passes the suite that the package ships."""

from threading import Barrier

import pytest

import prefect_executions.storage.objects
import prefect_executions.storage.s3
from prefect_executions.errors import AlreadyExists, UnsuitableStore
from prefect_executions.storage.conformance import ObjectsContract
from prefect_executions.storage.objects import MemoryObjects, Objects, probe
from prefect_executions.storage.s3 import S3Objects


class TestMemoryObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, memory: MemoryObjects) -> Objects:
        return memory


class TestS3ObjectsOnARealServer(ObjectsContract):
    @pytest.fixture
    def objects(self, s3: S3Objects) -> Objects:
        return s3


class TestS3ObjectsOnMoto(ObjectsContract):
    @pytest.fixture
    def objects(self, moto: S3Objects) -> Objects:
        return moto


def test_every_implementation_is_tested() -> None:
    modules = (prefect_executions.storage.objects, prefect_executions.storage.s3)
    named = {name for module in modules for name in vars(module) if name.endswith("Objects")}

    assert named - {"Objects"} == {"MemoryObjects", "S3Objects"}


class Careless(MemoryObjects):
    """A store that overwrites, as some S3-compatible servers do with `If-None-Match`."""

    def create(self, key: str, data: bytes) -> None:
        self._data[key] = data


class LooksFirst(MemoryObjects):
    """A store that checks and then writes, which is only right with one writer."""

    def __init__(self) -> None:
        super().__init__()
        self._all_have_looked = Barrier(4)

    def create(self, key: str, data: bytes) -> None:
        there = key in self._data
        self._all_have_looked.wait()
        if there:
            raise AlreadyExists(key)
        self._data[key] = data


@pytest.mark.parametrize("store", [Careless(), LooksFirst()], ids=["overwrites", "looks first"])
def test_probe_refuses_a_store_with_several_winners(store: MemoryObjects) -> None:
    with pytest.raises(UnsuitableStore, match="4 of 4 concurrent creators"):
        probe(store)

    assert list(store.scan("")) == []


def test_probe_leaves_nothing(memory: MemoryObjects) -> None:
    probe(memory)

    assert list(memory.scan("")) == []
