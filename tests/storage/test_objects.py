"""Every implementation of `Objects` in the package passes the suite that the package ships."""

import pytest

import prefect_executions.storage.directory
import prefect_executions.storage.objects
import prefect_executions.storage.s3
from prefect_executions.storage.conformance import ObjectsContract
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.s3 import S3Objects


class TestMemoryObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, memory: MemoryObjects) -> Objects:
        return memory


class TestDirectoryObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, directory: DirectoryObjects) -> Objects:
        return directory


class TestS3ObjectsOnARealServer(ObjectsContract):
    @pytest.fixture
    def objects(self, s3: S3Objects) -> Objects:
        return s3


class TestS3ObjectsOnMoto(ObjectsContract):
    @pytest.fixture
    def objects(self, moto: S3Objects) -> Objects:
        return moto


def test_every_implementation_is_tested() -> None:
    modules = (
        prefect_executions.storage.directory,
        prefect_executions.storage.objects,
        prefect_executions.storage.s3,
    )
    named = {name for module in modules for name in vars(module) if name.endswith("Objects")}

    assert named - {"Objects"} == {"DirectoryObjects", "MemoryObjects", "S3Objects"}
