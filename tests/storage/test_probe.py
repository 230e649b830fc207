"""The short check of a store: what it finds, and that it says what was wrong first."""

from collections.abc import Iterable, Iterator
from threading import Barrier
from typing import Any

import boto3
import pytest

from prefect_executions.errors import AlreadyExists, StoreUnavailable, UnsuitableStore
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.storage.probe import probe
from prefect_executions.storage.s3 import S3Objects


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


class Framed(MemoryObjects):
    """A store that keeps the framing of an upload in chunks."""

    def create(self, key: str, data: bytes) -> None:
        super().create(key, b"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:A\r\n" % (len(data), data))


class Forgetful(MemoryObjects):
    """A store that acknowledges what it does not keep."""

    def get(self, keys: Iterable[str], **_: Any) -> dict[str, bytes]:
        return super().get(key for key in keys if not key)


class InOrderOfCreation(MemoryObjects):
    """A store whose listings are not in the order of keys."""

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        return iter([key for key in self._data if key.startswith(prefix)][:limit])


@pytest.mark.parametrize(
    ("store", "finding"),
    [
        (Careless(), "4 of 4 concurrent creators"),
        (LooksFirst(), "4 of 4 concurrent creators"),
        (Framed(), r"of 64 bytes the store gives back \d+ bytes.*`checksums`.*`when_required`"),
        (Forgetful(), "gives back nothing"),
        (InOrderOfCreation(), "are listed as"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryObjects) else "",
)
def test_what_breaks_the_law_is_refused_and_leaves_nothing(
    store: MemoryObjects, finding: str
) -> None:
    with pytest.raises(UnsuitableStore, match=finding):
        probe(store)

    assert store._data == {}


def test_probe_leaves_nothing(memory: MemoryObjects) -> None:
    probe(memory)

    assert list(memory.scan("")) == []


class Undeletable:
    """A store that refuses to delete."""

    def delete(self, keys: Iterable[str]) -> None:
        raise StoreUnavailable("delete", f"AccessDenied: {[*keys]}")


class CarelessUndeletable(Undeletable, Careless): ...


class Unwritable(Undeletable, MemoryObjects):
    def create(self, key: str, data: bytes) -> None:
        raise StoreUnavailable("write", f"SignatureDoesNotMatch: {key}, {len(data)} bytes")


class Kept(Undeletable, MemoryObjects): ...


@pytest.mark.parametrize(
    ("store", "finding"),
    [
        (CarelessUndeletable(), "concurrent creators"),
        (Unwritable(), "could not write: SignatureDoesNotMatch"),
        (Kept(), "could not delete: AccessDenied"),
    ],
    ids=["law", "write", "delete"],
)
def test_the_first_finding_is_told(store: MemoryObjects, finding: str) -> None:
    with pytest.raises((UnsuitableStore, StoreUnavailable), match=finding):
        probe(store)


@pytest.mark.parametrize("is_versioned", [False, True])
def test_a_versioned_bucket_is_told_where_conditions_are_not_kept(
    moto: S3Objects, is_versioned: bool
) -> None:
    """As Ceph 16, which keeps them in others."""
    client = boto3.client(
        "s3",
        endpoint_url=moto.endpoint,
        region_name=moto.region,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    if is_versioned:
        client.put_bucket_versioning(
            Bucket=moto.bucket, VersioningConfiguration={"Status": "Enabled"}
        )

    def ignore(params: dict[str, Any], **_: object) -> None:
        params["headers"].pop("If-None-Match", None)

    moto._client.meta.events.register("before-call.s3.PutObject", ignore)

    with pytest.raises(UnsuitableStore) as refusal:
        probe(moto)

    assert "4 of 4 concurrent creators" in str(refusal.value)
    assert ("is versioned" in str(refusal.value)) is is_versioned
