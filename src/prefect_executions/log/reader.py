"""Reading the log of one execution: its head, its checkpoints, and their states."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from prefect_executions.errors import (
    CheckpointNotFound,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
)
from prefect_executions.ids import checkpoint_id
from prefect_executions.log.deltas import TEXTS, Digest, Link, bases, text_of
from prefect_executions.log.entry import Entry, Kind, Part
from prefect_executions.log.entry_reader import MAX_SEQ, EntryReader
from prefect_executions.models import ExecutionConfig


@dataclass(frozen=True)
class Head:
    """The log as it is after one entry: that entry, its texts, and the bases of later entries.

    It is a value: an append makes a new one.

    Args:
        entry: The entry.
        state: Its state, as JSON.
        journal: Its journal.
        chain: The entry and its bases, which are all that later entries can have as a base until
            one of them becomes a base itself.
        claims: How many claims come right after the entry.
    """

    entry: Entry
    state: bytes
    journal: bytes
    chain: dict[int, Link]
    claims: int = 0

    @property
    def deleted(self) -> bool:
        """Whether the execution has been deleted."""
        return self.entry.kind is Kind.DELETED

    @property
    def next_seq(self) -> int:
        """The number of the next entry."""
        return self.entry.seq + self.claims + 1

    @property
    def created(self) -> Entry:
        """Entry 0, which every chain ends with."""
        return self.chain[0].entry


@dataclass(frozen=True)
class LogReader(EntryReader):
    """Reads the log of one execution: its head, its checkpoints, and their states."""

    def head(self) -> Head:
        """Load the newest entry and its state: one LIST and one parallel round of GETs.

        The head of a deleted execution is its tombstone, which has no state.

        Raises:
            ExecutionNotFound: there is no log.
            CorruptEntry: an entry is damaged.
        """
        newest = self.require_newest()
        entries = self.read_entries(bases(newest))
        if not _is_claim(entries.get(newest)):
            return self._head_at(newest, entries)
        newest, claims = self.below_claims()
        return replace(self._head_at(newest, self.read_entries(bases(newest))), claims=claims)

    def living_head(self) -> Head:
        """The `head` of an execution that has not been deleted.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        head = self.head()
        if head.deleted:
            raise ExecutionDeleted(self.execution_id)
        return head

    def read(self, *, checkpoints: int | None) -> "History":
        """Load the head and the newest checkpoints, with all that their states are made from.

        One LIST and one parallel round of GETs when the newest entries are checkpoints. When steps
        have recorded much in between, one more round for about every dozen separate checkpoints.

        Args:
            checkpoints: How many, or None for all.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        newest = self.require_newest()
        entries = self._with_bases(self._guess(newest, checkpoints), {})
        if _is_claim(entries.get(newest)):
            newest, _ = self.below_claims()
            entries = self._with_bases(self._guess(newest, checkpoints), entries)
        head = self._head_at(newest, entries)
        if head.deleted:
            raise ExecutionDeleted(self.execution_id)
        entries, found = self._back_from(head.entry, checkpoints, entries)
        return History(self, head, entries, found)

    def read_before(self, seq: int, *, checkpoints: int) -> "History":
        """Load checkpoint `seq` as the head, and the newest checkpoints before it.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        entries = self._with_bases(range(max(seq - checkpoints, 0), seq + 1), {})
        head = self._head_of_checkpoint(seq, entries)
        entries, found = self._back_from(head.entry, checkpoints + 1, entries)
        return History(self, head, entries, [at for at in found if at != seq])

    def at_checkpoint(self, seq: int) -> Head:
        """Load the log as it was after a checkpoint, or after `created`: one round of GETs.

        Raises:
            CheckpointNotFound: entry `seq` does not exist, or is of another kind.
        """
        known = 0 <= seq <= MAX_SEQ
        return self._head_of_checkpoint(seq, self.read_entries(bases(seq)) if known else {})

    def begun(self, head: Head) -> Entry | None:
        """The entry in which the attempt of `head` began, or None before the first attempt.

        Raises:
            ExecutionDeleted: the log is gone.
        """
        seq = head.entry.begun
        if seq is None:
            return None
        try:
            return self.read_entries([seq])[seq]
        except KeyError:
            raise ExecutionDeleted(self.execution_id) from None

    def config(self, head: Head) -> ExecutionConfig:
        """The config of the newest attempt: the execution's own, and the flow's for the rest.

        Raises:
            ExecutionDeleted: the log is gone.
        """
        begun = self.begun(head)
        flows = ExecutionConfig() if begun is None else begun.config
        return head.created.config.over(flows)

    def _guess(self, newest: int, checkpoints: int | None) -> Iterable[int]:
        """Numbers among which the newest checkpoints mostly are."""
        if checkpoints is None:
            return (seq for seq in self.numbers() if seq <= newest)
        return range(max(newest - checkpoints, 0), newest + 1)

    def _back_from(
        self, entry: Entry, count: int | None, entries: dict[int, Entry]
    ) -> tuple[dict[int, Entry], list[int]]:
        """Find the newest `count` checkpoints, from an entry backwards.

        The header of each checkpoint that is read says which ones come before it. When one of these
        is missing, the log has been pruned, and a listing says which entries are left.

        Returns:
            The entries with all that the states of these checkpoints are made from, and the numbers
            of the checkpoints.
        """
        found: list[int] = []
        listed: set[int] | None = None
        while entry.seq and (count is None or len(found) < count):
            more = [
                seq
                for seq in entry.checkpoints_before()
                if (not found or seq < found[-1]) and (listed is None or seq in listed)
            ][: None if count is None else count - len(found)]
            entries = self._with_bases(more, entries)
            if listed is None and not entries.keys() >= set(more):
                listed = set(self.numbers())
                continue
            found += [seq for seq in more if seq in entries]
            if listed is None:
                if not more:
                    break
                entry = entries[more[-1]]
                continue
            # The header knows nothing of older entries, and that of a claim of none at all.
            horizon = entry.seq - max(sum(entry.runs), 1)
            older = max((seq for seq in listed if seq <= horizon), default=0)
            entries = self._with_bases([older], entries)
            if older not in entries:  # it was deleted just now
                break
            entry = entries[older]
        return entries, found

    def _with_bases(self, seqs: Iterable[int], entries: dict[int, Entry]) -> dict[int, Entry]:
        """Add more entries, entry 0, and all that their texts are made from."""
        missing = {0}.union(*(bases(seq) for seq in seqs)) - entries.keys()
        return entries | self.read_entries(missing) if missing else entries

    def _head_of_checkpoint(self, seq: int, entries: dict[int, Entry]) -> Head:
        entry = entries.get(seq)
        if entry is None or entry.kind not in (Kind.CHECKPOINT, Kind.CREATED):
            raise CheckpointNotFound(self.execution_id, checkpoint_id(seq))
        return self._head_at(seq, entries)

    def _head_at(self, seq: int, entries: dict[int, Entry]) -> Head:
        entry = entries.get(seq)
        if entry is None:  # it was deleted between the LIST and the GET
            raise ExecutionDeleted(self.execution_id)
        if entry.kind is Kind.DELETED:
            return Head(entry, b"", b"", {})
        return self._decoded(entry, {n: Link.of(entries[n]) for n in bases(seq) if n in entries})

    def _decoded(self, entry: Entry, chain: dict[int, Link]) -> Head:
        state, journal = (self._text(entry, name, chain) for name in TEXTS)
        return Head(entry, state, journal, chain)

    def _text(self, entry: Entry, name: str, chain: dict[int, Link]) -> bytes:
        """Decode the state or the journal of an entry, and check it against its digest."""
        key = self.key(entry.seq)
        try:
            text = text_of(chain, name, entry.seq)
        except KeyError as missing:
            raise self._missing(entry.seq, f"its base, entry {missing}, is missing") from missing
        except ValueError as error:
            raise CorruptEntry(key, f"its payload is damaged ({error}).") from error
        part: Part | None = getattr(entry, name)
        if part is not None and Digest(text).hex != part.sha256:
            raise CorruptEntry(key, f"its {name} has another SHA-256 than was written.")
        return text

    def _missing(
        self, seq: int, problem: str
    ) -> CorruptEntry | CheckpointNotFound | ExecutionDeleted:
        """The error to raise when something that an entry needs is not in the store."""
        if not self.has_entry(0):
            return ExecutionDeleted(self.execution_id)
        if not self.has_entry(seq):  # it was pruned just now
            return CheckpointNotFound(self.execution_id, checkpoint_id(seq))
        return CorruptEntry(self.key(seq), f"{problem}.")


def _is_claim(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.CLAIM


@dataclass(frozen=True)
class History:
    """The head, checkpoints before it, and the entries that their states are made from.

    Args:
        log: The log.
        head: Its head.
        entries: By their numbers: the checkpoints, entry 0, and all that their texts are made from.
        numbers: The numbers of the checkpoints that were asked for, newest first.
    """

    log: LogReader
    head: Head
    entries: dict[int, Entry]
    numbers: list[int]

    @property
    def created(self) -> Entry:
        """Entry 0.

        Raises:
            ExecutionNotFound: it is gone, since the execution is being deleted.
        """
        try:
            return self.entries[0]
        except KeyError:
            raise ExecutionNotFound(self.log.execution_id) from None

    def checkpoints(self) -> list[Entry]:
        """The checkpoints that were asked for, newest first."""
        return [self.entries[seq] for seq in self.numbers]

    def state(self, seq: int) -> bytes:
        """The state after an entry, as JSON.

        Raises:
            CorruptEntry: an entry is damaged.
        """
        return self.log._text(self.entries[seq], "state", self._links)

    def journal(self, seq: int) -> bytes:
        """The journal after an entry.

        Raises:
            CorruptEntry: an entry is damaged.
        """
        return self.log._text(self.entries[seq], "journal", self._links)

    @cached_property
    def _links(self) -> dict[int, Link]:
        return {seq: Link.of(entry) for seq, entry in self.entries.items()}
