"""A log as a file: what is written is read, and what is damaged is refused."""

import io
import random
import tarfile
from hashlib import sha256

import pytest

from logs import ID, filled, large, step_after
from prefect_executions.errors import ArchiveError
from prefect_executions.log.archive import Archive, stored_entries, write_archive
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.objects import MemoryObjects


@pytest.fixture
def log() -> ExecutionLog:
    """A log with steps, a large result, claims and a gap where entries were removed."""
    log = ExecutionLog(MemoryObjects(), ID)
    head = filled(log, 20)
    head = log.record(head, [step_after(head)])
    log.checkpoint(head, b"{}", records=[large(1 << 20)])
    log._claim(1, fence=False)
    log.mark_pruned()
    log.remove([7, 15])
    return log


def archived(log: ExecutionLog) -> bytes:
    file = io.BytesIO()
    write_archive(file, {"name": "a"}, stored_entries(log))
    return file.getvalue()


class Stream(io.RawIOBase):
    """A file that can only be read onwards, or written."""

    def __init__(self, data: bytes = b"") -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.file.read(min(size, 1000) if size > 0 else size)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self.file.write(data)


def test_what_is_written_is_read_entry_by_entry(log: ExecutionLog) -> None:
    stored = list(stored_entries(log))
    written = Stream()

    write_archive(written, {"name": "a"}, iter(stored))  # type: ignore[arg-type]
    archive = Archive(Stream(written.file.getvalue()))  # type: ignore[arg-type]

    assert archive.facts["name"] == "a"
    assert list(archive.entries()) == stored
    assert archive.has_gaps
    there = set(log.objects.scan("")) - {log.pruned_key}
    assert [log.key(seq) for seq, _ in stored] == sorted(there, reverse=True)
    assert written.file.getvalue() == archived(log)


def test_tar_and_sha256sum_read_it_too(log: ExecutionLog) -> None:
    with tarfile.open(fileobj=io.BytesIO(archived(log))) as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    sums = parts.pop("SHA256SUMS").decode().splitlines()
    assert sums == [f"{sha256(data).hexdigest()}  {name}" for name, data in parts.items()]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_damaged_or_cut_off_is_refused(log: ExecutionLog, seed: int) -> None:
    data, chance = archived(log), random.Random(seed)
    place = chance.randrange(len(data))
    if seed % 2:
        data = data[:place]
    else:
        data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]

    try:
        stored = list(Archive(io.BytesIO(data)).entries())
    except ArchiveError:
        return
    assert stored == list(stored_entries(log))  # it was padding, or the owner of a part


def test_what_is_no_archive_is_refused() -> None:
    for data in (b"", b"x" * 2000, archived_of({"v": 2}), archived_of({})):
        with pytest.raises(ArchiveError):
            Archive(io.BytesIO(data))


def archived_of(facts: dict[str, int]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w|") as tar:
        data = repr(facts).replace("'", '"').encode()
        member = tarfile.TarInfo("execution.json")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return file.getvalue()
