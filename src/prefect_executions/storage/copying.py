"""Copying the objects of a store to another one; it may be interrupted, and begun again.

The unit is a folder: all keys up to their last slash, such as the log of one execution. Its objects
are copied one after another, the one with the greatest key first: of a log that is the oldest
entry, so what has been copied of one is a log at every moment. Each object is read back and
compared. An object that is there already is compared, too, and never overwritten. Keys without a
slash, like the marker of a store's owner, belong to a store and are not copied.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice

from prefect_executions.errors import AlreadyExists
from prefect_executions.storage.objects import Objects

_FOLDERS = 8  # that are copied at a time
_OBJECTS = 8  # of a folder that are in memory at a time


@dataclass(frozen=True)
class Copied:
    """What has become of one folder.

    Args:
        folder: The part that its keys have in common, without the last slash.
        objects: How many of its objects are in the other store, byte for byte.
        new: How many of these were not there before.
        size: How many bytes the new ones have.
        problem: Why not all of it was copied; None where it was.
    """

    folder: str
    objects: int = 0
    new: int = 0
    size: int = 0
    problem: str | None = None


def copy(
    source: Objects, target: Objects, *, refuse: Callable[[str], str | None] = lambda _: None
) -> Iterator[Copied]:
    """Copy all folders of a store; yields what has become of each.

    Args:
        source: The store; nothing in it is changed.
        target: The other store.
        refuse: Called with a folder; returns why it is not to be copied, or None.

    Raises:
        StoreUnavailable: One of the stores did not answer, or refused.
    """

    def one(folder: str, keys: list[str]) -> Copied:
        why = refuse(folder)
        if why is not None:
            return Copied(folder, problem=why)
        return _copy_folder(source, target, folder, keys)

    found = (
        (folder, list(keys))
        for folder, keys in groupby(source.scan(""), lambda key: key.rpartition("/")[0])
        if folder
    )
    with ThreadPoolExecutor(_FOLDERS, thread_name_prefix="copy") as pool:
        while some := list(islice(found, _FOLDERS)):
            yield from pool.map(one, *zip(*some, strict=True))


def _copy_folder(source: Objects, target: Objects, folder: str, keys: list[str]) -> Copied:
    there = set(target.scan(f"{folder}/"))
    objects = new = size = 0
    for some in _batches(reversed(keys)):
        data = source.get(some)
        for key in some:
            if key in data and key not in there:
                with suppress(AlreadyExists):  # by another copy at the same time
                    target.create(key, data[key])
                    new, size = new + 1, size + len(data[key])
        back = target.get(data)
        for key in some:
            if key in data and back.get(key) != data[key]:
                what = f"{key} is another object there: both stores were written to since a copy."
                return Copied(folder, objects, new, size, what)
        objects += len(data)
    if list(source.scan(f"{folder}/")) != keys:
        what = "It was written to meanwhile. Copy again when nothing runs."
        return Copied(folder, objects, new, size, what)
    return Copied(folder, objects, new, size)


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, _OBJECTS)):
        yield some
