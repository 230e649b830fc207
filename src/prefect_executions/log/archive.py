"""A log as one file, which is written and read from its beginning to its end.

It is a tar archive: `execution.json` first, then the entries, oldest first, each as it is stored,
as `log/{number}`; `SHA256SUMS` comes last, so `sha256sum --check SHA256SUMS` checks what `tar`
has unpacked, and a file that was cut off has none.
"""

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Any, BinaryIO

from prefect_executions import serialization
from prefect_executions.errors import ArchiveError, ExecutionDeleted
from prefect_executions.log.entry_reader import EntryReader

FORMAT = 1
_FACTS, _SUMS = "execution.json", "SHA256SUMS"
_ENTRY = re.compile(r"log/([0-9]{9})")
_AT_ONCE = 8  # entries that are in memory at a time


def stored_entries(log: EntryReader) -> Iterator[tuple[int, bytes]]:
    """All entries of a log as they are stored, oldest first.

    Raises:
        ExecutionDeleted: an entry was removed meanwhile, with the log or by retention.
    """
    numbers = iter(sorted(log.numbers()))
    while some := list(islice(numbers, _AT_ONCE)):
        found = log.objects.get([log.key(number) for number in some])
        for number in some:
            if log.key(number) not in found:
                raise ExecutionDeleted(log.execution_id)
            yield number, found[log.key(number)]


def write_archive(
    file: BinaryIO, facts: dict[str, Any], entries: Iterable[tuple[int, bytes]]
) -> None:
    """Write an archive; the file need not be one that can be sought.

    Args:
        file: Where it goes.
        facts: What else is known of the execution, as JSON.
        entries: The numbers and bytes of the entries, oldest first.
    """
    sums: list[str] = []
    with tarfile.open(fileobj=file, mode="w|") as tar:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            sums.append(f"{sha256(data).hexdigest()}  {name}\n")

        add(_FACTS, serialization.dump({"v": FORMAT, **facts}, at="facts") + b"\n")
        for number, data in entries:
            add(f"log/{number:09d}", data)
        add(_SUMS, "".join(sums).encode())


class Archive:
    """An archive that is read once, from its beginning.

    Args:
        file: It; need not be one that can be sought.

    Attributes:
        facts: What it knows of the execution besides its log.
        digest: What tells it from other archives, once all entries were read.
        has_gaps: Whether numbers are missing, by then: its log was pruned, perhaps.

    Raises:
        ArchiveError: this is no archive, or one of a newer version.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.digest = ""
        self.has_gaps = False
        self._sums: list[str] = []
        self._members = self._read(file)
        name, data = next(self._members, ("", b""))
        if name != _FACTS:
            raise ArchiveError(f"its first part is {name or 'missing'}, not {_FACTS}.")
        try:
            self.facts: dict[str, Any] = serialization.load(data)
            version = self.facts["v"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{_FACTS} is damaged ({error!r}).") from error
        if version != FORMAT:
            raise ArchiveError(f"it is of format {version}; this version reads format {FORMAT}.")

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """The numbers and bytes of its entries, oldest first; the last one has proven all.

        Raises:
            ArchiveError: it is damaged, or cut off.
        """
        last = -1
        for name, data in self._members:
            if name == _SUMS:
                if data.decode("utf-8", "replace") != "".join(self._sums):
                    raise ArchiveError("its parts are not what was written: the digests differ.")
                self.digest = sha256(data).hexdigest()
                if next(self._members, None) is not None:
                    raise ArchiveError("something comes after its end.")
                return
            match = _ENTRY.fullmatch(name)
            if match is None or int(match[1]) <= last or (last == -1 and int(match[1]) != 0):
                raise ArchiveError(f"{name!r} is no entry that can stand here.")
            self.has_gaps |= int(match[1]) != last + 1
            last = int(match[1])
            self._sums.append(f"{sha256(data).hexdigest()}  {name}\n")
            yield last, data
        raise ArchiveError("its end is missing.")

    def _read(self, file: BinaryIO) -> Iterator[tuple[str, bytes]]:
        try:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                for member in tar:
                    part = tar.extractfile(member)
                    data = b"" if part is None else part.read()
                    if part is None or len(data) != member.size:
                        raise ArchiveError(f"its part {member.name!r} is cut off.")
                    if member.name == _FACTS:
                        self._sums.append(f"{sha256(data).hexdigest()}  {member.name}\n")
                    yield member.name, data
        except (tarfile.TarError, EOFError) as error:
            raise ArchiveError(f"it is no export, or cut off ({error}).") from error
