"""The conformance suite of `Objects`: inherit from it, and pytest tests your backend.

    from prefect_executions.storage.conformance import ObjectsContract

    class TestMyObjects(ObjectsContract):
        @pytest.fixture
        def objects(self) -> Objects:
            return MyObjects(prefix=uuid4().hex)   # empty at the start of every test

No test is skipped: a backend that fails one can't keep executions. `probe` is a short version that
runs each time a store is set up.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from prefect_executions.errors import AlreadyExists
from prefect_executions.storage.objects import Objects
from prefect_executions.storage.probe import probe

WRITERS = 6
ROUNDS = 10


class ObjectsContract:
    """The tests that every implementation of `Objects` must pass."""

    @pytest.fixture
    def objects(self) -> Objects:
        """An empty store. Override it."""
        raise NotImplementedError("give the suite an `objects` fixture")

    def test_is_an_objects(self, objects: Objects) -> None:
        """It has the five methods."""
        assert isinstance(objects, Objects)

    def test_what_was_created_is_read(self, objects: Objects) -> None:
        """Bytes come back unchanged, whatever they are."""
        data = bytes(range(256)) * 300

        objects.create("a/1", data)

        assert objects.get(["a/1"]) == {"a/1": data}

    def test_empty_object(self, objects: Objects) -> None:
        """An object may have no bytes."""
        objects.create("a/1", b"")

        assert objects.get(["a/1"]) == {"a/1": b""}

    def test_absent_objects_are_left_out(self, objects: Objects) -> None:
        """`get` returns the objects that exist, even when that is none."""
        objects.create("a/1", b"one")

        assert objects.get(["a/0", "a/1", "a/2"]) == {"a/1": b"one"}
        assert objects.get(["a/0"]) == {}
        assert objects.get([]) == {}

    def test_many_are_read_at_once(self, objects: Objects) -> None:
        """`get` takes more keys than would be requested in parallel."""
        expected = {f"a/{n:03d}": b"%d" % n for n in range(60)}
        for key, data in expected.items():
            objects.create(key, data)

        assert objects.get(expected) == expected

    def test_only_the_first_bytes_are_read(self, objects: Objects) -> None:
        """A shorter object is read as a whole, and so is an empty one."""
        expected = {"a/0": b"", "a/1": b"abc", "a/2": b"abcd", "a/3": bytes(range(256)) * 300}
        for key, data in expected.items():
            objects.create(key, data)

        for first in (1, 3, 4, 1000, 1 << 20):
            cut = {key: data[:first] for key, data in expected.items()}
            assert objects.get([*expected, "a/9"], first=first) == cut
            for key, data in cut.items():
                assert objects.get([key], first=first) == {key: data}
            assert objects.get(["a/9"], first=first) == {}

    def test_a_part_of_an_object_is_read(self, objects: Objects) -> None:
        """What is left out may be all that there is."""
        data = bytes(range(256)) * 300
        objects.create("a/1", data)
        objects.create("a/2", b"abc")

        for skip, first in ((1, 1), (2, 1000), (70_000, 6_800), (70_000, 1 << 20), (5, None)):
            end = None if first is None else skip + first
            expected = {"a/1": data[skip:end], "a/2": b"abc"[skip:end]}
            assert objects.get(["a/1", "a/2", "a/9"], first=first, skip=skip) == expected
            assert objects.get(["a/1"], first=first, skip=skip) == {"a/1": data[skip:end]}

    def test_second_creation_is_refused_and_changes_nothing(self, objects: Objects) -> None:
        """The object under a taken key stays as it is."""
        objects.create("a/1", b"first")

        with pytest.raises(AlreadyExists) as refusal:
            objects.create("a/1", b"second")

        assert refusal.value.key == "a/1"
        assert objects.get(["a/1"]) == {"a/1": b"first"}

    def test_of_concurrent_creators_exactly_one_succeeds(self, objects: Objects) -> None:
        """Everyone then reads the winner's bytes."""
        start = Barrier(WRITERS)

        def create(key: str, writer: int) -> int | None:
            start.wait()
            try:
                objects.create(key, b"%d" % writer)
            except AlreadyExists:
                return None
            return writer

        with ThreadPoolExecutor(WRITERS) as pool:
            for number in range(ROUNDS):
                key = f"race/{number}"
                claims = pool.map(create, [key] * WRITERS, range(WRITERS))
                winners = [writer for writer in claims if writer is not None]
                assert len(winners) == 1, f"{len(winners)} of {WRITERS} created {key!r}"
                assert objects.get([key]) == {key: b"%d" % winners[0]}

    def test_scan_lists_in_order_of_bytes(self, objects: Objects) -> None:
        """The smallest key comes first, whatever the order of creation."""
        for number in (7, 0, 12, 3):
            objects.create(f"a/{number:04d}", b"")

        assert list(objects.scan("a/")) == ["a/0000", "a/0003", "a/0007", "a/0012"]

    def test_scan_sees_a_creation_at_once(self, objects: Objects) -> None:
        """A listing after a creation has the new key: the head of a log is found this way."""
        for number in range(30, 0, -1):
            objects.create(f"a/{number:04d}", b"")

            assert list(objects.scan("a/", limit=1)) == [f"a/{number:04d}"]

    def test_scan_keeps_to_prefix_and_limit(self, objects: Objects) -> None:
        """Neither neighbours nor more keys than asked for are listed."""
        for key in ("a/1", "a/2", "a/3", "ab/1", "b/1"):
            objects.create(key, b"")

        assert list(objects.scan("a/")) == ["a/1", "a/2", "a/3"]
        assert list(objects.scan("a/", limit=2)) == ["a/1", "a/2"]
        assert list(objects.scan("c/")) == []

    def test_scan_goes_past_one_page(self, objects: Objects) -> None:
        """All keys are listed, even if they are more than one response of S3 holds."""
        keys = [f"a/{number:05d}" for number in range(1005)]
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(objects.create, keys, [b""] * len(keys)))

        assert list(objects.scan("a/")) == keys

    def test_measure_counts_keys_and_bytes(self, objects: Objects) -> None:
        """It counts all keys that begin with the prefix, and their bytes."""
        for key, data in {"a/1": b"", "a/2": b"abc", "ab/1": b"abcd", "b/1": b"12345"}.items():
            objects.create(key, data)

        assert objects.measure("a/") == (2, 3)
        assert objects.measure("a") == (3, 7)
        assert objects.measure("c/") == (0, 0)

    def test_deleted_objects_are_gone_and_their_keys_free(self, objects: Objects) -> None:
        """Several objects are deleted at once, and absent ones are no error."""
        for key in ("a/1", "a/2", "a/3"):
            objects.create(key, b"old")

        objects.delete(["a/1", "a/2", "a/9"])
        objects.delete([])

        assert list(objects.scan("a/")) == ["a/3"]
        assert objects.get(["a/1", "a/2"]) == {}
        objects.create("a/1", b"new")
        assert objects.get(["a/1"]) == {"a/1": b"new"}

    def test_probe_accepts_it(self, objects: Objects) -> None:
        """A backend that passes this suite passes the short check, which leaves no objects."""
        probe(objects)

        assert list(objects.scan("")) == []
