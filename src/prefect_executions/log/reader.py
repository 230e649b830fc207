"""Reading the log of one execution: its head, its checkpoints, what their states are made from.

One object is one entry, and an entry's key is decided by its number alone:

    {shard}/{execution_id}/{999_999_999 - seq:09d}

`shard` is the last two hex digits of the id, so that executions made one after another, whose ids
are ordered by time, spread over S3's partitions. Numbers run downwards, so that the first key of a
listing is the newest entry: finding the head costs one request however long the log is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from prefect_executions.errors import (
    CheckpointNotFound,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
)
from prefect_executions.ids import checkpoint_id
from prefect_executions.log import deltas
from prefect_executions.log.deltas import TEXTS, Link, bases, text_of
from prefect_executions.log.entry import Entry, Kind, Part, Truncated
from prefect_executions.log.journal import Large, Record
from prefect_executions.models import ExecutionConfig
from prefect_executions.storage.objects import Objects

MAX_SEQ = 999_999_999
_READ = 2 << 20  # bytes of an entry that are read at once; what comes then is mostly large results
_OUTLINE = 4 << 10  # bytes that most headers are shorter than


class _Parse(Protocol):
    """Makes an entry of its bytes, or of their beginning."""

    def __call__(self, data: bytes, *, key: str, seq: int) -> Entry: ...


@dataclass(frozen=True)
class Head:
    """The log as known up to one entry: that entry, its texts, and what coming bases need.

    It is a value: appending makes a new one. `chain` holds the entry and its bases, which are also
    all the bases that entries after it can ask for before one of them becomes a base itself.
    """

    entry: Entry
    state: bytes
    journal: bytes
    chain: dict[int, "Link"]

    @property
    def deleted(self) -> bool:
        """Whether the execution has been deleted."""
        return self.entry.kind is Kind.DELETED

    @property
    def created(self) -> Entry:
        """Entry 0: every chain ends there."""
        return self.chain[0].entry


@dataclass(frozen=True)
class LogReader:
    """The log of one execution in a store, for whoever only reads it.

    Args:
        objects: The store.
        execution_id: Whose log it is.
    """

    objects: Objects
    execution_id: str

    def head(self) -> Head:
        """Load the newest entry and its state: one LIST and one parallel round of GETs.

        A deleted execution's head is its tombstone, with no state.

        Raises:
            ExecutionNotFound: there is no log.
            CorruptEntry: an entry is damaged.
        """
        newest = self._newest()
        return self._head_at(newest, self._read(bases(newest)))

    def living_head(self) -> Head:
        """`head` of an execution that has not been deleted.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        head = self.head()
        if head.deleted:
            raise ExecutionDeleted(self.execution_id)
        return head

    def read(self, *, checkpoints: int | None) -> "History":
        """Load the head and the newest `checkpoints` (None: all), with what their states need.

        One LIST and one parallel round of GETs where the newest entries are checkpoints. Where
        steps have recorded much in between, another round for every dozen of checkpoints that
        stand apart.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        newest = self._newest()
        if checkpoints is None:
            guess: Iterable[int] = (seq for seq in self.numbers() if seq <= newest)
        else:
            guess = range(max(newest - checkpoints, 0), newest + 1)
        entries = self._with_bases(guess, {})
        head = self._head_at(newest, entries)
        if head.deleted:
            raise ExecutionDeleted(self.execution_id)
        entries, found = self._back_from(head.entry, checkpoints, entries)
        return History(self, head, entries, found)

    def read_before(self, seq: int, *, checkpoints: int) -> "History":
        """`read`, of the log as it was before checkpoint `seq`; its head is that checkpoint.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        entries = self._with_bases(range(max(seq - checkpoints, 0), seq + 1), {})
        head = self._head_of_checkpoint(seq, entries)
        entries, found = self._back_from(head.entry, checkpoints + 1, entries)
        return History(self, head, entries, [at for at in found if at != seq])

    def _back_from(
        self, known: Entry, count: int | None, entries: dict[int, Entry]
    ) -> tuple[dict[int, Entry], list[int]]:
        """The newest `count` checkpoints from an entry backwards, with all that they need.

        Where one is missing the log has been pruned: a listing tells what is there.
        """
        found: list[int] = []
        there: set[int] | None = None
        while known.seq and (count is None or len(found) < count):
            more = [
                seq
                for seq in known.checkpoints_before()
                if (not found or seq < found[-1]) and (there is None or seq in there)
            ][: None if count is None else count - len(found)]
            entries = self._with_bases(more, entries)
            if there is None and not entries.keys() >= set(more):
                there = set(self.numbers())
                continue
            found += [seq for seq in more if seq in entries]
            if there is None:
                if not more:
                    break
                known = entries[more[-1]]
                continue
            horizon = known.seq - sum(known.runs)
            older = max((seq for seq in there if seq <= horizon), default=0)
            entries = self._with_bases([older], entries)
            if older not in entries:  # it is being deleted
                break
            known = entries[older]
        return entries, found

    def _with_bases(self, seqs: Iterable[int], entries: dict[int, Entry]) -> dict[int, Entry]:
        """More entries, with entry 0, and all that their texts are made from."""
        missing = {0}.union(*(bases(seq) for seq in seqs)) - entries.keys()
        return entries | self._read(missing) if missing else entries

    def at_checkpoint(self, seq: int) -> Head:
        """The log as it was after one checkpoint, or after `created`: one parallel round of GETs.

        Raises:
            CheckpointNotFound: there is no such entry, or it records something else.
        """
        return self._head_of_checkpoint(seq, self._read(bases(seq)) if 0 <= seq <= MAX_SEQ else {})

    def _head_of_checkpoint(self, seq: int, entries: dict[int, Entry]) -> Head:
        entry = entries.get(seq)
        if entry is None or entry.kind not in (Kind.CHECKPOINT, Kind.CREATED):
            raise CheckpointNotFound(self.execution_id, checkpoint_id(seq))
        return self._head_at(seq, entries)

    def outlines(self, count: int) -> list[Entry]:
        """The newest entries of whatever kind, without their texts, oldest first.

        One LIST and a round of GETs of a few kilobytes each.

        Raises:
            ExecutionNotFound: there is no log.
            CorruptEntry: a header is damaged.
        """
        newest = self._newest()
        return self.outlines_of(range(max(newest - count + 1, 0), newest + 1))

    def outlines_of(self, seqs: Iterable[int]) -> list[Entry]:
        """Entries without their texts, oldest first: a round of GETs of a few kilobytes each.

        Raises:
            CorruptEntry: a header is damaged.
        """
        entries = self._read(seqs, parse=Entry.outline_from_bytes, first=_OUTLINE)
        return [entries[seq] for seq in sorted(entries)]

    def large_result(self, where: Large) -> bytes:
        """A step's result that is too large for the journal, as JSON: one GET.

        Raises:
            ExecutionDeleted: it is gone.
            CorruptEntry: it is damaged.
        """
        key = self._key(where.seq)
        data = self.objects.get([key]).get(key)
        if data is None:
            if self._is_there(0):
                raise CorruptEntry(key, "it is missing, and with it a large result.")
            raise ExecutionDeleted(self.execution_id)
        try:
            frame = Entry.large_from_bytes(data, where.index)
            result = deltas.decompress(frame, where.size)
            if deltas.Digest(result).hex != where.sha256:
                raise ValueError("it has another SHA-256 than was written")
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CorruptEntry(key, f"a large result is damaged ({error!r}).") from error
        return result

    def with_result(self, record: Record) -> Record:
        """A record with its result in itself, however large: as another log can take it down.

        Raises:
            ExecutionDeleted, CorruptEntry: see `large_result`.
        """
        if record.large is None:
            return record
        return replace(record, result=self.large_result(record.large), large=None)

    def exists(self) -> bool:
        """Whether there is any entry, the tombstone included."""
        return self.newest() is not None

    def cost(self) -> tuple[int, int]:
        """How many entries there are, and how many bytes they take: a LIST per 1,000 of them."""
        return self.objects.measure(self._key(None))

    def begun(self, head: Head) -> Entry | None:
        """The entry in which the attempt of `head` began; None before the first attempt.

        Raises:
            ExecutionDeleted: it is gone.
        """
        seq = head.entry.begun
        if seq is None:
            return None
        try:
            return self._read([seq])[seq]
        except KeyError:
            raise ExecutionDeleted(self.execution_id) from None

    def config(self, head: Head) -> ExecutionConfig:
        """What the newest attempt runs with: the execution's own settings, and then the flow's.

        Raises:
            ExecutionDeleted: it is gone.
        """
        begun = self.begun(head)
        flows = ExecutionConfig() if begun is None else begun.config
        return head.created.config.over(flows)

    def numbers(self) -> Iterator[int]:
        """The numbers of all entries, newest first: a LIST per 1,000 of them."""
        for key in self.objects.scan(self._key(None)):
            yield _seq_of(key)

    def newest(self) -> int | None:
        """The number of the newest entry, by one LIST; None: there is no log."""
        key = next(self.objects.scan(self._key(None), limit=1), None)
        return None if key is None else _seq_of(key)

    def _newest(self) -> int:
        """`newest` of a log that has to be there."""
        newest = self.newest()
        if newest is None:
            raise ExecutionNotFound(self.execution_id)
        return newest

    def _read(
        self, seqs: Iterable[int], *, parse: _Parse = Entry.from_bytes, first: int = _READ
    ) -> dict[int, Entry]:
        """Entries by their numbers; those that are not there are left out.

        One parallel round of GETs, and another for those that `first` bytes are too few of.

        Args:
            seqs: The numbers.
            parse: Makes an entry of its bytes.
            first: How many of them are read at first.
        """
        keys = {self._key(seq): seq for seq in seqs}
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

    def _head_at(self, seq: int, entries: dict[int, Entry]) -> Head:
        entry = entries.get(seq)
        if entry is None:  # between the LIST and the GET
            raise ExecutionDeleted(self.execution_id)
        if entry.kind is Kind.DELETED:
            return Head(entry, b"", b"", {})
        return self._decoded(entry, {n: Link.of(entries[n]) for n in bases(seq) if n in entries})

    def _decoded(self, entry: Entry, chain: dict[int, Link]) -> Head:
        state, journal = (self._text(entry, name, chain) for name in TEXTS)
        return Head(entry, state, journal, chain)

    def _text(self, entry: Entry, name: str, chain: dict[int, Link]) -> bytes:
        """The state or the journal of an entry, checked."""
        key = self._key(entry.seq)
        try:
            text = text_of(chain, name, entry.seq)
        except KeyError as missing:
            raise self._gone(entry.seq, f"its base, entry {missing}, is missing") from missing
        except ValueError as error:
            raise CorruptEntry(key, f"its payload is damaged ({error}).") from error
        part: Part | None = getattr(entry, name)
        if part is not None and deltas.Digest(text).hex != part.sha256:
            raise CorruptEntry(key, f"its {name} has another SHA-256 than was written.")
        return text

    def _gone(self, seq: int, problem: str) -> CorruptEntry | CheckpointNotFound | ExecutionDeleted:
        """What it means that something which an entry needs is not there."""
        if not self._is_there(0):
            return ExecutionDeleted(self.execution_id)
        if not self._is_there(seq):  # pruned just now
            return CheckpointNotFound(self.execution_id, checkpoint_id(seq))
        return CorruptEntry(self._key(seq), f"{problem}.")

    def _is_there(self, seq: int) -> bool:
        """Whether an entry exists, whatever has been read of it before."""
        return any(True for _ in self.objects.scan(self._key(seq), limit=1))

    def _key(self, seq: int | None) -> str:
        number = "" if seq is None else f"{MAX_SEQ - seq:09d}"
        return f"{self.execution_id[-2:]}/{self.execution_id}/{number}"


@dataclass(frozen=True)
class History:
    """The head, entries before it, and what their states are made from.

    Args:
        log: Whose history it is.
        head: Its head.
        entries: By their numbers: the checkpoints, entry 0, and all that their texts are made from.
        numbers: Those of the checkpoints that were asked for, newest first.
    """

    log: LogReader
    head: Head
    entries: dict[int, Entry]
    numbers: list[int]

    @property
    def created(self) -> Entry:
        """Entry 0.

        Raises:
            ExecutionNotFound: it is gone: the execution is being deleted.
        """
        try:
            return self.entries[0]
        except KeyError:
            raise ExecutionNotFound(self.log.execution_id) from None

    def checkpoints(self) -> list[Entry]:
        """The checkpoints that were asked for, newest first."""
        return [self.entries[seq] for seq in self.numbers]

    def state(self, seq: int) -> bytes:
        """The state in force after an entry, as JSON.

        Raises:
            CorruptEntry: an entry is damaged.
        """
        return self.log._text(self.entries[seq], "state", self._links)

    def journal(self, seq: int) -> bytes:
        """The journal in force after an entry.

        Raises:
            CorruptEntry: an entry is damaged.
        """
        return self.log._text(self.entries[seq], "journal", self._links)

    @cached_property
    def _links(self) -> dict[int, Link]:
        return {seq: Link.of(entry) for seq, entry in self.entries.items()}


def _seq_of(key: str) -> int:
    return MAX_SEQ - int(key.rpartition("/")[2])
