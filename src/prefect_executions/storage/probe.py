"""A short check that a store keeps the law of `Objects`, which runs each time one is set up."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from secrets import token_bytes
from threading import Barrier
from typing import Protocol, runtime_checkable
from uuid import uuid4

from prefect_executions.errors import AlreadyExists, StoreError, UnsuitableStore
from prefect_executions.storage.objects import Objects

_ROUNDS = 3
_WRITERS = 4
_BYTES = 64


@runtime_checkable
class Versioning(Protocol):
    """A store that can tell whether it keeps versions of an object."""

    def is_versioned(self, key: str) -> bool:
        """Whether an object that is there has a version."""
        ...


def probe(objects: Objects) -> None:
    """Check that a store keeps the law of `Objects`, with about 20 requests. No objects are left.

    Some S3-compatible servers ignore `If-None-Match`, always or in versioned buckets, and others
    only honour it while there is one writer. So in every round several writers create one new key
    at once. Others keep the framing of an upload within the object, so all is read back.

    Raises:
        UnsuitableStore: several of these writers succeeded, other bytes came back, the keys were
            not listed in order, or the store does not know such requests.
        StoreUnavailable: the store did not respond, or refused.
    """
    # Some servers make a bucket that is not there when something is written to it.
    next(objects.scan("", limit=1), None)
    # Created last first, so that a listing in the order of creation is not in order.
    prefix = f"probe-{uuid4().hex}-"
    sent = {f"{prefix}{number}": token_bytes(_BYTES) for number in reversed(range(_ROUNDS))}
    try:
        for key, data in sent.items():
            _race(objects, key, data)
        _read_back(objects, prefix, sent)
    except StoreError:
        with suppress(StoreError):  # what was found first is what counts
            objects.delete(sent)
        raise
    objects.delete(sent)


def _race(objects: Objects, key: str, data: bytes) -> None:
    """Let several writers create a key at once, of whom exactly one may succeed."""
    start = Barrier(_WRITERS)

    def create(_: int) -> bool:
        start.wait()
        try:
            objects.create(key, data)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(_WRITERS) as pool:
        winners = sum(pool.map(create, range(_WRITERS)))
    if winners == 1:
        return
    problem = (
        f"{winners} of {_WRITERS} concurrent creators of one object succeeded: the store does not "
        "keep `If-None-Match: *`, so two processes could both extend an execution's history. "
    )
    if _is_versioned(objects, key):
        raise UnsuitableStore(
            f"{problem}The bucket is versioned, and some servers ignore it there. Use a bucket "
            "without versioning and Object Lock."
        )
    raise UnsuitableStore(
        f"{problem}Use Amazon S3 or a server that makes conditional writes atomic."
    )


def _is_versioned(objects: Objects, key: str) -> bool:
    """Whether the store tells that it is versioned."""
    with suppress(StoreError):
        return isinstance(objects, Versioning) and objects.is_versioned(key)
    return False


def _read_back(objects: Objects, prefix: str, sent: dict[str, bytes]) -> None:
    found = objects.get(sent)
    for key, data in sent.items():
        if (back := found.get(key)) != data:
            size = "nothing" if back is None else f"{len(back)} bytes"
            raise UnsuitableStore(
                f"of an object of {len(data)} bytes the store gives back {size}, or other ones. "
                "Perhaps it keeps the framing of uploads with a checksum: set `checksums` of the "
                "Execution Store to `when_required`, or use another server."
            )
    if (listed := list(objects.scan(prefix))) != sorted(sent):
        raise UnsuitableStore(
            f"the keys {sorted(sent)} are listed as {listed}: the newest entry of a log would not "
            "be found. Use a server that lists what was created at once, in the order of keys."
        )
