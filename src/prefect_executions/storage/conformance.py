"""The laws of `Objects` as pytest classes: inherit, give a fixture, and your backend is tested.

    from prefect_executions.storage.conformance import ObjectsContract

    class TestMyObjects(ObjectsContract):
        @pytest.fixture
        def objects(self) -> Objects:
            return MyObjects(prefix=uuid4().hex)   # empty at the start of every test

Nothing is skipped: a backend that can't pass a test can't keep executions. `probe` is the part of
the suite that a store can afford to run each time it is set up.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from prefect_executions.errors import AlreadyExists
from prefect_executions.storage.objects import Objects, probe

WRITERS = 6
ROUNDS = 10


class ObjectsContract:
    """What every implementation of `Objects` must do."""

    @pytest.fixture
    def objects(self) -> Objects:
        """An empty store; override it."""
        raise NotImplementedError("give the suite an `objects` fixture")

    def test_is_an_objects(self, objects: Objects) -> None:
        """The five verbs are there."""
        assert isinstance(objects, Objects)

    def test_what_was_created_is_read(self, objects: Objects) -> None:
        """Bytes come back as they were, whatever they are."""
        data = bytes(range(256)) * 300

        objects.create("a/1", data)

        assert objects.get(["a/1"]) == {"a/1": data}

    def test_empty_object(self, objects: Objects) -> None:
        """No bytes are bytes too."""
        objects.create("a/1", b"")

        assert objects.get(["a/1"]) == {"a/1": b""}

    def test_absent_objects_are_left_out(self, objects: Objects) -> None:
        """Get answers what is there, also when that is nothing."""
        objects.create("a/1", b"one")

        assert objects.get(["a/0", "a/1", "a/2"]) == {"a/1": b"one"}
        assert objects.get(["a/0"]) == {}
        assert objects.get([]) == {}

    def test_many_are_read_at_once(self, objects: Objects) -> None:
        """Get takes more keys than one would ask for in parallel."""
        expected = {f"a/{n:03d}": b"%d" % n for n in range(60)}
        for key, data in expected.items():
            objects.create(key, data)

        assert objects.get(expected) == expected

    def test_only_the_first_bytes_are_read(self, objects: Objects) -> None:
        """Of an object that has no more, all of it; also of one that has none."""
        expected = {"a/0": b"", "a/1": b"abc", "a/2": b"abcd", "a/3": bytes(range(256)) * 300}
        for key, data in expected.items():
            objects.create(key, data)

        for first in (1, 3, 4, 1000, 1 << 20):
            cut = {key: data[:first] for key, data in expected.items()}
            assert objects.get([*expected, "a/9"], first=first) == cut
            for key, data in cut.items():
                assert objects.get([key], first=first) == {key: data}
            assert objects.get(["a/9"], first=first) == {}

    def test_second_creation_is_refused_and_changes_nothing(self, objects: Objects) -> None:
        """A taken key stays what it is."""
        objects.create("a/1", b"first")

        with pytest.raises(AlreadyExists) as refusal:
            objects.create("a/1", b"second")

        assert refusal.value.key == "a/1"
        assert objects.get(["a/1"]) == {"a/1": b"first"}

    def test_of_concurrent_creators_exactly_one_succeeds(self, objects: Objects) -> None:
        """And everybody reads the winner's bytes."""
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
        """The smallest key first, whatever the order of creation."""
        for number in (7, 0, 12, 3):
            objects.create(f"a/{number:04d}", b"")

        assert list(objects.scan("a/")) == ["a/0000", "a/0003", "a/0007", "a/0012"]

    def test_scan_sees_a_creation_at_once(self, objects: Objects) -> None:
        """A listing after a creation contains it; the head of a log is found by this."""
        for number in range(30, 0, -1):
            objects.create(f"a/{number:04d}", b"")

            assert list(objects.scan("a/", limit=1)) == [f"a/{number:04d}"]

    def test_scan_keeps_to_prefix_and_limit(self, objects: Objects) -> None:
        """Neighbours are not listed, nor more than asked for."""
        for key in ("a/1", "a/2", "a/3", "ab/1", "b/1"):
            objects.create(key, b"")

        assert list(objects.scan("a/")) == ["a/1", "a/2", "a/3"]
        assert list(objects.scan("a/", limit=2)) == ["a/1", "a/2"]
        assert list(objects.scan("c/")) == []

    def test_scan_goes_past_one_page(self, objects: Objects) -> None:
        """More keys than one answer of S3 holds are all listed."""
        keys = [f"a/{number:05d}" for number in range(1005)]
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(objects.create, keys, [b""] * len(keys)))

        assert list(objects.scan("a/")) == keys

    def test_measure_counts_keys_and_bytes(self, objects: Objects) -> None:
        """Of all that begin with the prefix, past one page of S3's answers, too."""
        for key, data in {"a/1": b"", "a/2": b"abc", "ab/1": b"abcd", "b/1": b"12345"}.items():
            objects.create(key, data)

        assert objects.measure("a/") == (2, 3)
        assert objects.measure("a") == (3, 7)
        assert objects.measure("c/") == (0, 0)

    def test_deleted_objects_are_gone_and_their_keys_free(self, objects: Objects) -> None:
        """Deleting is of several at once, and of absent ones without complaint."""
        for key in ("a/1", "a/2", "a/3"):
            objects.create(key, b"old")

        objects.delete(["a/1", "a/2", "a/9"])
        objects.delete([])

        assert list(objects.scan("a/")) == ["a/3"]
        assert objects.get(["a/1", "a/2"]) == {}
        objects.create("a/1", b"new")
        assert objects.get(["a/1"]) == {"a/1": b"new"}

    def test_probe_accepts_it(self, objects: Objects) -> None:
        """What passes this suite passes the short check, which leaves nothing behind."""
        probe(objects)

        assert list(objects.scan("")) == []
