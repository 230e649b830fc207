"""Objects in a directory of this machine, which several processes may use at once.

A key is a path: `7f/exec_…/999999998` is the file `7f/exec_…/999999998.obj`. In names all but `a`
to `z`, `0` to `9`, `-` and `_` is written as `%` and two hex digits, and only files of objects have
a dot. So a key may be the beginning of another, keys that differ in capitals alone are two on every
file system, and what others put here (`.DS_Store`, `lost+found`) is no object.

An object is written whole to a file in `.new`, then linked to its name: of all processes that link
to one name the file system lets exactly one succeed, and no reader finds a part of an object. A
process that is killed leaves at most a file in `.new`, which counts for nothing, and is removed
when it is an hour old. There is no lock: a frozen process holds nobody up.

What was created or deleted is durable when the call returns: the file is synced before it is
linked, and then its folder and those above. So an object of which a reader knows can only be lost,
in a power failure, while the call that creates it has not returned.
"""

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

from prefect_executions.errors import (
    AlreadyExists,
    StoreRefused,
    StoreUnavailable,
    UnsuitableStore,
)

LEFT_OVER = 3600.0  # seconds after which a file in `.new` is taken for one that was left over
_NEW = ".new"
_OBJECT = ".obj"
_NOTHING = "%"  # in place of an empty name
_TRIES = 100  # how often others may remove the folder of a new object, as it was empty

_KNOWN = 10_000  # folders that are known to be durable, at most

_PLAIN = re.compile(r"[a-z0-9_-]+")
_UNSAFE = re.compile(rb"[^a-z0-9_-]")


@dataclass(frozen=True)
class DirectoryObjects:
    """Objects in a directory, on a file system with hard links.

    Args:
        path: The directory; made when the first object is created.
    """

    path: Path
    # The numbers of the folders that are durable in the folders above them.
    _known: dict[Path, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        with self._errors("write", key):
            place = self._file_of(key)
            for _ in range(_TRIES):
                with suppress(FileNotFoundError), self._written(data) as new:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _link(new, place, key)
                    break
            else:
                raise StoreUnavailable("write", f"{place.parent} was removed again and again")
            self._sync(place.parent)

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A new file with these bytes, which are durable; removed at the end."""
        self._unfinished.mkdir(parents=True, exist_ok=True)
        new = self._unfinished / uuid4().hex
        try:
            with new.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield new
        finally:
            new.unlink(missing_ok=True)

    @cached_property
    def _unfinished(self) -> Path:
        """The folder of new files; what killed processes have left there is removed at first."""
        folder, now = self.path / _NEW, time.time()
        with suppress(FileNotFoundError), os.scandir(folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    if now - entry.stat().st_mtime > LEFT_OVER:
                        os.unlink(entry.path)
        return folder

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`."""
        found: dict[str, bytes] = {}
        for key in keys:
            with (
                self._errors("read", key),
                suppress(FileNotFoundError),
                self._file_of(key).open("rb") as file,
            ):
                file.seek(skip)
                found[key] = file.read() if first is None else file.read(first)
        return found

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`: the folders that may have such keys are read, one after another."""
        return islice((key for key, _ in self._walk(prefix)), limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`: the folders are read, and the size of each file."""
        sizes: list[int] = []
        for key, file in self._walk(prefix):
            with self._errors("list", key), suppress(FileNotFoundError):
                sizes.append(file.stat().st_size)
        return len(sizes), sum(sizes)

    def _walk(self, prefix: str) -> Iterator[tuple[str, Path]]:
        """The keys that begin with a prefix, in order, and their files."""
        folder, _, beginning = prefix.rpartition("/")
        above = prefix[: len(prefix) - len(beginning)]
        place = self.path.joinpath(*map(_quoted, folder.split("/"))) if above else self.path
        return self._walk_in(place, above, beginning)

    def _walk_in(self, folder: Path, above: str, beginning: str) -> Iterator[tuple[str, Path]]:
        names: list[str] = []
        with self._errors("list", above + beginning), suppress(FileNotFoundError):
            names = os.listdir(folder)
        keys = ((_key_of(name), name) for name in names)
        here = [(key, name) for key, name in keys if key is not None and key.startswith(beginning)]
        for key, name in sorted(here):
            if name.endswith(_OBJECT):
                yield above + key, folder / name
            else:
                yield from self._walk_in(folder / name, above + key, "")

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`; folders that have become empty are removed, too."""
        folders: set[Path] = set()
        for key in keys:
            file = self._file_of(key)
            with self._errors("delete", key), suppress(FileNotFoundError):
                file.unlink()
                folders.add(file.parent)
        for folder in folders:
            with self._errors("delete", f"{folder}"):
                self._sync(folder)
                self._remove_empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it, up to the first that has something in it."""
        with suppress(FileNotFoundError):
            while folder != self.path:
                try:
                    folder.rmdir()
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise
                self._known.pop(folder, None)
                folder = folder.parent

    def _sync(self, folder: Path) -> None:
        """Make durable what was created and deleted in a folder, and the folder itself.

        For the latter those above are synced, once: another process may have made them, and not
        synced them yet. A folder that is gone was removed as it was empty.
        """
        if os.name == "nt":  # folders can't be synced there
            return
        durable: dict[Path, int] = {}
        while folder != self.path.parent.parent:
            with suppress(FileNotFoundError):
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                    number = os.fstat(descriptor).st_ino
                finally:
                    os.close(descriptor)
                if self._known.get(folder) == number:
                    break
                durable[folder] = number
            folder = folder.parent
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(durable)

    @contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        """Translate the errors of the file system; they name the directory."""
        try:
            yield
        except OSError as error:
            kind = StoreRefused if error.errno in _SETTINGS else StoreUnavailable
            raise kind(operation, f"directory {str(self.path)!r}: {key!r}: {error}") from error

    def _file_of(self, key: str) -> Path:
        *folders, name = map(_quoted, key.split("/"))
        return self.path.joinpath(*folders, name + _OBJECT)


def _link(new: Path, place: Path, key: str) -> None:
    try:
        os.link(new, place)
    except FileExistsError:
        raise AlreadyExists(key) from None
    except OSError as error:
        if error.errno in (
            errno.EPERM,
            errno.ENOTSUP,
            errno.EOPNOTSUPP,
            errno.ENOSYS,
            errno.EMLINK,
        ):
            raise UnsuitableStore(
                f"{place.parent} is on a file system without hard links, by which an object is "
                f"created whole and once ({error}). Use a directory on another one."
            ) from error
        raise


def _quoted(name: str) -> str:
    escaped = _UNSAFE.sub(lambda unsafe: b"%%%02x" % unsafe[0][0], name.encode())
    return escaped.decode() or _NOTHING


def _key_of(file: str) -> str | None:
    """The part of keys that a file stands for, or a folder, with its slash; None of others."""
    quoted, slash = (file[: -len(_OBJECT)], "") if file.endswith(_OBJECT) else (file, "/")
    if _PLAIN.fullmatch(quoted):
        return quoted + slash
    name = "" if quoted == _NOTHING else unquote(quoted)
    return name + slash if _quoted(name) == quoted else None


# Waiting does not help.
_SETTINGS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EEXIST,  # a file where a folder should be
    errno.ELOOP,
}
