"""The stored entries of one log: their keys, and reading them by their numbers.

One object is one entry, and the number of an entry decides its key:

    {shard}/{execution_id}/{999_999_999 - seq:09d}

`shard` is the last two hex digits of the id. Ids are ordered by time, so the shard spreads
executions that are made one after another over S3's partitions. Numbers run downwards, so the first
key of a listing is the newest entry: it is found with one request, however long the log is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count, islice, takewhile
from typing import Protocol

from prefect_executions.errors import CorruptEntry, ExecutionDeleted, ExecutionNotFound
from prefect_executions.log.entry import Entry, Kind, Truncated
from prefect_executions.log.journal import Large, Record
from prefect_executions.log.zstd import decompress
from prefect_executions.storage.objects import Objects

MAX_SEQ = 999_999_999
_READ = 2 << 20  # bytes of an entry that are read at first; after them mostly come large results
_WITH_STATE = 256 << 10  # bytes that are read at first for the state alone, which comes first
_OUTLINE = 4 << 10  # bytes that are read at first of a header; most are shorter
_AT_ONCE = 8  # entries that are read to find one that is no claim, where there mostly is none
_CLAIMS = 16  # entries that are read at once to find the newest that is no claim


class _Parse(Protocol):
    """Makes an entry from its bytes, or from the first of them."""

    def __call__(self, data: bytes, *, key: str, seq: int) -> Entry: ...


@dataclass(frozen=True)
class EntryReader:
    """Reads the entries of one log by their numbers.

    Args:
        objects: The store.
        execution_id: The execution whose log it is.
    """

    objects: Objects
    execution_id: str

    def exists(self) -> bool:
        """Whether there is any entry, the tombstone included."""
        return self.newest() is not None

    def cost(self) -> tuple[int, int]:
        """How many objects there are, and how many bytes they have: a LIST per 1,000 of them.

        Each is an entry, but for the mark of a log that was pruned.
        """
        return self.objects.measure(self.key(None))

    def numbers(self, limit: int | None = None) -> Iterator[int]:
        """The numbers of all entries, newest first: a LIST per 1,000 of them.

        Args:
            limit: How many at most.
        """
        keys = self.objects.scan(self.key(None), limit=None if limit is None else limit + 1)
        return islice((_seq_of(key) for key in keys if key != self.pruned_key), limit)

    def newest(self) -> int | None:
        """The number of the newest entry, or None when there is no log: one LIST."""
        return next(self.numbers(limit=1), None)

    def is_pruned(self) -> bool:
        """Whether any entry has been removed from the log: one LIST."""
        return any(True for _ in self.objects.scan(self.pruned_key, limit=1))

    @property
    def pruned_key(self) -> str:
        """The key of what `pruning` leaves."""
        return f"{self.key(None)}-pruned"

    def require_newest(self) -> int:
        """The number of the newest entry: one LIST.

        Raises:
            ExecutionNotFound: there is no log.
        """
        return self.require_newest_and_pruned()[0]

    def require_newest_and_pruned(self) -> tuple[int, bool]:
        """The number of the newest entry, and whether any was removed from the log: one LIST.

        Raises:
            ExecutionNotFound: there is no log.
        """
        keys = [*self.objects.scan(self.key(None), limit=2)]
        is_pruned = self.pruned_key in keys
        if len(keys) == is_pruned:
            raise ExecutionNotFound(self.execution_id)
        return _seq_of(keys[is_pruned]), is_pruned

    def below_claims(self) -> tuple[int, int]:
        """Find the newest entry that is no claim (see `claims`): one LIST, and mostly one GET each.

        Returns:
            Its number, and how many claims come right after it.

        Raises:
            ExecutionDeleted: there is none.
        """
        claims: set[int] = set()
        numbers = self.numbers()
        while batch := list(islice(numbers, _CLAIMS if claims else 1)):
            for entry in reversed(self.outlines_of(batch)):
                if entry.kind is not Kind.CLAIM:
                    following = takewhile(claims.__contains__, count(entry.seq + 1))
                    return entry.seq, len(list(following))
                claims.add(entry.seq)
        raise ExecutionDeleted(self.execution_id)

    def has_entry(self, seq: int) -> bool:
        """Whether an entry is in the store now, even if it was read before: one LIST."""
        return any(True for _ in self.objects.scan(self.key(seq), limit=1))

    def read_entries(
        self, seqs: Iterable[int], *, parse: _Parse = Entry.from_bytes, first: int = _READ
    ) -> dict[int, Entry]:
        """Read entries by their numbers; those that do not exist are left out.

        One parallel round of GETs, and another for entries that `first` bytes are not enough of.

        Args:
            seqs: The numbers.
            parse: Makes an entry from its bytes.
            first: How many bytes of each are read at first.

        Raises:
            CorruptEntry: an entry is damaged.
        """
        keys = {self.key(seq): seq for seq in seqs}
        entries: dict[int, Entry] = {}
        found = self.objects.get(keys, first=first)
        while found:
            needed: dict[str, int] = {}
            while found:
                key, data = found.popitem()
                try:
                    entries[keys[key]] = parse(data, key=key, seq=keys[key])
                except Truncated as cut:
                    if len(data) < first:
                        raise CorruptEntry(key, "its end is missing.") from None
                    needed[key] = cut.needed
            if needed:
                found = self.objects.get(needed, first=(first := max(needed.values())))
        return entries

    def read_states(self, seqs: Iterable[int]) -> dict[int, Entry]:
        """`read_entries` without what steps have recorded: their `journal` is None."""
        return self.read_entries(seqs, parse=Entry.with_state_from_bytes, first=_WITH_STATE)

    def outlines(self, count: int) -> list[Entry]:
        """The newest entries of any kind, without their texts, oldest first.

        One LIST and a round of GETs of a few kilobytes each.

        Raises:
            ExecutionNotFound: there is no log.
            CorruptEntry: a header is damaged.
        """
        newest = self.require_newest()
        return self.outlines_of(range(max(newest - count + 1, 0), newest + 1))

    def outlines_of(self, seqs: Iterable[int]) -> list[Entry]:
        """Entries without their texts, oldest first: a round of GETs of a few kilobytes each.

        Raises:
            CorruptEntry: a header is damaged.
        """
        entries = self.read_entries(seqs, parse=Entry.outline_from_bytes, first=_OUTLINE)
        return [entries[seq] for seq in sorted(entries)]

    def newest_until(self, seq: int) -> Entry | None:
        """The entry `seq`, or the next before it that is no claim, without its texts.

        Returns None where these were removed. Mostly one round of GETs.

        Raises:
            CorruptEntry: a header is damaged.
        """
        while seq >= 0:
            some = self.outlines_of(range(max(seq - _AT_ONCE + 1, 0), seq + 1))
            own = [entry for entry in some if entry.kind is not Kind.CLAIM]
            if own:
                return own[-1]
            if not some:
                return None
            seq -= _AT_ONCE
        return None

    def large_result(self, where: Large) -> bytes:
        """Read a step's result that is too large for the journal, as JSON: one GET of its bytes.

        Raises:
            ExecutionDeleted: the log is gone.
            CorruptEntry: the result is damaged.
        """
        key = self.key(where.seq)
        frame = self.objects.get([key], skip=where.start, first=where.stored).get(key)
        if frame is None:
            if self.has_entry(0):
                raise CorruptEntry(key, "it is missing, and with it a large result.")
            raise ExecutionDeleted(self.execution_id)
        try:
            result = decompress(frame, where.size)
            if sha256(result).hexdigest() != where.sha256:
                raise ValueError("its SHA-256 is not the one that was recorded")
        except ValueError as error:
            raise CorruptEntry(key, f"a large result is damaged ({error!r}).") from error
        return result

    def with_result(self, record: Record) -> Record:
        """The record with its result in it, even a large one, so that another log can record it.

        Raises:
            ExecutionDeleted, CorruptEntry: see `large_result`.
        """
        if record.large is None:
            return record
        return replace(record, result=self.large_result(record.large), large=None)

    def key(self, seq: int | None) -> str:
        """The key of an entry; with None, the prefix of the keys of all entries."""
        number = "" if seq is None else f"{MAX_SEQ - seq:09d}"
        return f"{self.execution_id[-2:]}/{self.execution_id}/{number}"


def _seq_of(key: str) -> int:
    return MAX_SEQ - int(key.rpartition("/")[2])
