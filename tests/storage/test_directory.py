"""Objects in a directory: any keys, writers that are killed, what is left of them, errors."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import killed_writers
from logs import ID, assert_linear
from prefect_executions.errors import (
    AlreadyExists,
    StoreRefused,
    StoreUnavailable,
    UnsuitableStore,
)
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.directory import LEFT_OVER, DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects
from strategies import examples

KILLS = 80

parts = st.sampled_from(
    ["", "a", "A", "a.obj", "b", "ab", "%", "%61", ".", "..", ".new", "a-b", "~"]
)
keys = st.lists(parts, min_size=1, max_size=3).map("/".join)
acts = st.tuples(st.sampled_from(["create", "create", "create", "delete"]), keys)


@pytest.fixture
def here(directory: DirectoryObjects) -> DirectoryObjects:
    return directory


@settings(max_examples=examples(150))
@given(acts=st.lists(acts, max_size=25), prefixes=st.lists(keys, max_size=6))
def test_it_is_as_memory_is(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str]], prefixes: list[str]
) -> None:
    """Whatever the keys: one may be the beginning of another, or differ by capitals alone."""
    memory, here = MemoryObjects(), DirectoryObjects(tmp_path_factory.mktemp("any") / "objects")

    def act(objects: Any, what: str, key: str, data: bytes) -> bool:
        try:
            objects.create(key, data) if what == "create" else objects.delete([key])
        except AlreadyExists:
            return False
        return True

    for number, (what, key) in enumerate(acts):
        data = b"x" * number
        assert act(here, what, key, data) is act(memory, what, key, data)

    for prefix in ["", *prefixes, *(key for _, key in acts)]:
        found = list(memory.scan(prefix))
        assert list(here.scan(prefix)) == found
        assert list(here.scan(prefix, limit=2)) == found[:2]
        assert here.measure(prefix) == memory.measure(prefix)
        assert here.get(found) == memory.get(found)
    here.delete(memory.scan(""))
    assert {*here.path.glob("*")} <= {here.path / ".new"}


def test_what_others_put_there_is_no_object(here: DirectoryObjects) -> None:
    here.create("a/1", b"one")
    for name in (".DS_Store", "lost+found", "Thumbs.db", "%61.obj", "%ff.obj", "B.obj"):
        (here.path / name).touch()
        (here.path / "a" / name).touch()

    assert list(here.scan("")) == ["a/1"]
    assert here.measure("") == (1, 3)


def test_what_was_left_over_is_removed_and_what_is_being_written_is_not(
    here: DirectoryObjects,
) -> None:
    new = here.path / ".new"
    new.mkdir(parents=True)
    for name in ("old", "young"):
        (new / name).write_bytes(b"half")
    hour_ago = time.time() - LEFT_OVER - 1
    os.utime(new / "old", (hour_ago, hour_ago))

    here.create("a", b"data")

    assert os.listdir(new) == ["young"]
    assert list(here.scan("")) == ["a"]


def test_a_writer_that_was_frozen_for_long_writes_once_more(
    here: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unfinished file was taken for left over, or the empty folder was removed."""
    links, link = [], os.link

    def thaw(source: Path, target: Path) -> None:
        links.append(target)
        if len(links) == 1:
            source.unlink()
        if len(links) == 2:
            target.parent.rmdir()
        link(source, target)

    monkeypatch.setattr(os, "link", thaw)
    here.create("a/b", b"data")

    assert len(links) == 3
    assert here.get(["a/b"]) == {"a/b": b"data"}
    assert os.listdir(here.path / ".new") == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EPERM, UnsuitableStore),
        (errno.EOPNOTSUPP, UnsuitableStore),
        (errno.ENOSPC, StoreUnavailable),
        (errno.EACCES, StoreRefused),
        (errno.ENOENT, StoreUnavailable),
    ],
)
def test_a_file_system_that_refuses_is_told(
    here: DirectoryObjects, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(error) as told:
        here.create("a", b"data")

    assert type(told.value) is error
    assert f"{here.path}" in f"{told.value}" or "'a'" in f"{told.value}"
    assert os.listdir(here.path / ".new") == []


def test_a_file_in_the_place_of_a_folder_is_told(here: DirectoryObjects) -> None:
    here.path.mkdir()
    (here.path / "a").touch()

    for act in (
        lambda: here.create("a/b", b""),
        lambda: here.get(["a/b"]),
        lambda: list(here.scan("a/")),
        lambda: here.delete(["a/b"]),
    ):
        with pytest.raises(StoreRefused, match=r"'?a/"):
            act()


def test_a_disk_that_fails_is_no_success(
    here: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is linked of which the bytes may not be durable."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreUnavailable, match="Input/output error"):
        here.create("a/b", b"data")

    assert list(here.scan("")) == []


def test_what_is_created_is_durable_with_all_folders_above(
    here: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it has its name; then its folder, and new folders' folders."""
    order: list[str] = []
    sync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def linked(source: Path, target: Path) -> None:
        order.append(f"link {target}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)

    def paths(create: Iterable[str]) -> list[list[str]]:
        found = []
        for key in create:
            order.clear()
            here.create(key, b"data")
            found.append(order[1:])
            assert order[0].startswith(f"{here.path}/.new/")
        return found

    root = f"{here.path}"
    assert paths(["a/b/1", "a/b/2", "a/c/1"]) == [
        [f"link {root}/a/b/1.obj", f"{root}/a/b", f"{root}/a", root, f"{here.path.parent}"],
        [f"link {root}/a/b/2.obj", f"{root}/a/b"],
        [f"link {root}/a/c/1.obj", f"{root}/a/c", f"{root}/a"],
    ]
    here.delete(["a/b/1", "a/b/2", "a/c/1"])
    assert paths(["a/b/1"]) == [
        [f"link {root}/a/b/1.obj", f"{root}/a/b", f"{root}/a", root],
    ]


def test_of_writers_that_are_killed_nothing_durable_is_lost_and_no_part_is_seen(
    here: DirectoryObjects,
) -> None:
    """Two processes write to each of two logs, and are killed with SIGKILL at any moment."""
    logs = [ExecutionLog(here, id_) for id_ in (ID, ID.replace("0", "1"))]
    for log in logs:
        log.create({"name": "task"}, b'""')

    command = [sys.executable, killed_writers.__file__, f"{here.path}", f"{KILLS}"]
    told = subprocess.check_output([*command, *(log.execution_id for log in logs)], text=True)

    durable = {line for line in told.splitlines() if line}
    found = set()
    for log in logs:
        history = log.read(checkpoints=None, journal=True)
        entries = [history.entries[seq] for seq in range(history.head.entry.seq + 1)]
        assert_linear(entries)
        assert len({entry.nonce for entry in entries}) == len(entries)
        for seq in history.numbers:
            found.add(f"{log.execution_id} {seq} {sha256(history.state(seq)).hexdigest()}")
        log.delete()
        log.purge()
    assert durable <= found
    assert len(durable) >= KILLS
    assert os.listdir(here.path) == [".new"]
    assert len(os.listdir(here.path / ".new")) <= KILLS + 2 * killed_writers.WRITERS
