"""Reading the log of one execution: its head, its checkpoints, and their states."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import (
    CheckpointNotFound,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
)
from prefect_executions.ids import checkpoint_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.entry_reader import MAX_SEQ, EntryReader
from prefect_executions.log.journal import Record
from prefect_executions.log.parts import bases
from prefect_executions.log.recorded import Recorded, makers
from prefect_executions.log.repeats import between, recent, repeated, repeaters, small_of
from prefect_executions.log.states import State, States


@dataclass(frozen=True)
class Head:
    """The log after one entry: that entry, its state and journal, and what later ones need.

    It is a value: an append makes a new one.

    Args:
        entry: The entry.
        created: Entry 0.
        states: The states of the entry and its bases, which are all that later entries can have as
            a base until one of them becomes a base itself. A claim has none.
        recorded: Its journal, or None when it was not read.
        claims: How many claims come right after the entry.
        small: What later entries may repeat, of this one and those before it; nothing when the
            journal was not read.
    """

    entry: Entry
    created: Entry
    states: dict[int, State]
    recorded: Recorded | None
    claims: int = 0
    small: dict[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def deleted(self) -> bool:
        """Whether the execution has been deleted."""
        return self.entry.kind is Kind.DELETED

    @property
    def next_seq(self) -> int:
        """The number of the next entry."""
        return self.entry.seq + self.claims + 1

    @property
    def state(self) -> bytes:
        """Its state, as JSON."""
        return self.states[self.entry.seq].data

    @property
    def journal(self) -> bytes:
        """What steps have recorded, as lines (see `journal`).

        Raises:
            CorruptEntry: it is damaged.
        """
        return self.require_recorded().lines()

    def records(self) -> dict[int, Record]:
        """What steps have recorded, by the orders of the calls (see `journal.fold`).

        Raises:
            CorruptEntry: it is damaged.
        """
        return self.require_recorded().records()

    def require_recorded(self) -> Recorded:
        """Its journal, not decoded.

        Raises:
            LookupError: it was not read.
        """
        if self.recorded is None:
            raise LookupError(f"the journal of entry {self.entry.seq} was not read")
        return self.recorded


@dataclass(frozen=True)
class LogReader(EntryReader):
    """Reads the log of one execution: its head, its checkpoints, and their states.

    Where `journal` is false, what steps have recorded is not read. Nothing can be appended to such
    a head.
    """

    def head(self, *, journal: bool = True) -> Head:
        """Load the newest entry, its state and journal: one LIST and one parallel round of GETs.

        The head of a deleted execution is its tombstone, whose state and journal are empty.

        Raises:
            ExecutionNotFound: there is no log.
            CorruptEntry: an entry is damaged.
        """
        newest = self.require_newest()
        entries = self._with_makers([newest], {}, journal)
        if not _is_claim(entries.get(newest)):
            return self._head_at(newest, entries, journal)
        newest, claims = self.below_claims()
        entries = self._with_makers([newest], entries, journal)
        return replace(self._head_at(newest, entries, journal), claims=claims)

    def living_head(self, *, journal: bool = True) -> Head:
        """The `head` of an execution that has not been deleted.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        head = self.head(journal=journal)
        if head.deleted:
            raise ExecutionDeleted(self.execution_id)
        return head

    def read(self, *, checkpoints: int | None, journal: bool = False) -> "History":
        """Load the head and the newest checkpoints, with all that their states are made from.

        One LIST and one parallel round of GETs for the head and all that is repeated (see
        `repeats`), so that the newest small ones need no request of their own; one more round for
        the others. When steps have recorded much in between, one more for about every dozen
        separate checkpoints.

        Args:
            checkpoints: How many, or None for all.
            journal: Whether to load what their journals are made of, too.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        newest, is_pruned = self.require_newest_and_pruned()
        entries = self._with_newest(newest, checkpoints, {}, journal, is_pruned)
        if _is_claim(entries.get(newest)):
            newest, _ = self.below_claims()
            entries = self._with_newest(newest, checkpoints, entries, journal, is_pruned)
        head = self._head_at(newest, entries, journal)
        if head.deleted:
            raise ExecutionDeleted(self.execution_id)
        entries, found = self._back_from(head.entry, checkpoints, entries, journal)
        return History(self, head, entries, found)

    def read_before(self, seq: int, *, checkpoints: int) -> "History":
        """Load checkpoint `seq` as the head, and the newest checkpoints before it; no journals.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        entries = self._with_newest(seq, checkpoints, {}, False, self.is_pruned())
        head = self._head_of_checkpoint(seq, entries, journal=False)
        entries, found = self._back_from(head.entry, checkpoints + 1, entries, False)
        return History(self, head, entries, [at for at in found if at != seq])

    def read_until(self, seq: int, *, checkpoints: int) -> "History":
        """Load the log as it was after entry `seq`, and the newest checkpoints up to it.

        Where there is no such entry, or it is a claim, that is the newest one before it. No
        journals.

        Raises:
            ExecutionNotFound: there is no log, or it ends with the tombstone.
        """
        entries = self._with_makers(range(max(seq - checkpoints, 0), seq + 1), {}, False)
        entry = entries.get(seq)
        if entry is None or entry.kind is Kind.CLAIM:
            entries, entry = self._newest_until(seq, entries)
        if entry.kind is Kind.DELETED:
            raise ExecutionDeleted(self.execution_id)
        head = self._head_at(entry.seq, entries, False)
        entries, found = self._back_from(entry, checkpoints, entries, False)
        return History(self, head, entries, found)

    def _newest_until(self, seq: int, entries: dict[int, Entry]) -> tuple[dict[int, Entry], Entry]:
        """The newest entry up to a number that is no claim, with all that its state is made of."""
        for number in self.numbers():
            if number <= seq:
                entries = self._with_makers([number], entries, False)
                entry = entries.get(number)
                if entry is not None and entry.kind is not Kind.CLAIM:
                    return entries, entry
        raise ExecutionNotFound(self.execution_id)

    def at_checkpoint(self, seq: int, *, journal: bool = True) -> Head:
        """Load the log as it was after a checkpoint, or after `created`: one round of GETs.

        Raises:
            CheckpointNotFound: entry `seq` does not exist, or is of another kind.
        """
        known = 0 <= seq <= MAX_SEQ
        entries = self._with_makers([seq], {}, journal) if known else {}
        return self._head_of_checkpoint(seq, entries, journal=journal)

    def states_at(self, seqs: Iterable[int]) -> dict[int, bytes]:
        """The states after entries, as JSON: one round of GETs. Entries without one are left out.

        Raises:
            CorruptEntry: an entry is damaged.
        """
        seqs = {seq for seq in seqs if 0 <= seq <= MAX_SEQ}
        entries = self._with_makers(seqs, {}, False)
        states, found = States(entries), dict[int, bytes]()
        for seq in seqs:
            if seq in entries and entries[seq].state is not None:
                with self._making(entries[seq]):
                    found[seq] = states[seq].data
        return found

    def after(self, seq: int) -> Head:
        """Load the log as it was after entry `seq`, of any kind but a claim: one round of GETs.

        Raises:
            CheckpointNotFound: it was pruned.
            ExecutionDeleted: there is no such entry.
        """
        return self._head_at(seq, self._with_makers([seq], {}, True), True)

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

    def _with_newest(
        self,
        newest: int,
        checkpoints: int | None,
        entries: dict[int, Entry],
        journal: bool,
        is_pruned: bool,
    ) -> dict[int, Entry]:
        """Add entry `newest`, and those before it among which the checkpoints mostly are."""
        wanted: Collection[int] = range(max(newest - (checkpoints or 0), 0), newest + 1)
        if checkpoints is None:
            wanted = [seq for seq in self.numbers() if seq <= newest]
        if wanted and not journal and not is_pruned:
            entries = self._with_makers(repeaters(newest, min(wanted)), entries, False)
            needed = {number for seq in wanted for number in bases(seq)}
            entries = self._repeated(needed - entries.keys(), entries) | entries
        return self._with_makers(wanted, entries, journal)

    def _repeated(self, seqs: set[int], entries: dict[int, Entry]) -> dict[int, Entry]:
        """Those of some entries that others repeat, without what steps have recorded."""
        found: dict[int, Entry] = {}
        for entry in entries.values():
            if seqs.isdisjoint(between(entry.seq)):
                continue
            for seq, data in repeated(entry).items():
                if seq in seqs and seq not in found:
                    found[seq] = Entry.beginning_from_bytes(data, key=self.key(seq), seq=seq)
        return found

    def _back_from(
        self, entry: Entry, count: int | None, entries: dict[int, Entry], journal: bool
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
            entries = self._with_makers(more, entries, journal)
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
            entries = self._with_makers([older], entries, journal)
            if older not in entries:  # it was deleted just now
                break
            entry = entries[older]
        return entries, found

    def _with_makers(
        self, seqs: Iterable[int], entries: dict[int, Entry], journal: bool
    ) -> dict[int, Entry]:
        """Add more entries, entry 0, and all that their states, and journals, are made from."""
        find, read = (makers, self.read_entries) if journal else (bases, self.read_states)
        missing = {0}.union(*(find(seq) for seq in seqs)) - entries.keys()
        return entries | read(missing) if missing else entries

    def _head_of_checkpoint(self, seq: int, entries: dict[int, Entry], *, journal: bool) -> Head:
        entry = entries.get(seq)
        if entry is None or entry.kind not in (Kind.CHECKPOINT, Kind.CREATED):
            raise CheckpointNotFound(self.execution_id, checkpoint_id(seq))
        return self._head_at(seq, entries, journal)

    def _head_at(self, seq: int, entries: dict[int, Entry], journal: bool) -> Head:
        entry = entries.get(seq)
        if entry is None:  # it was deleted between the LIST and the GET
            raise ExecutionDeleted(self.execution_id)
        if entry.kind is Kind.DELETED:
            return Head(entry, entry, {seq: State(0, data=b"")}, Recorded({}))
        with self._making(entry):
            made = {number: entries[number] for number in (makers if journal else bases)(seq)}
            states = States(made).chain(seq)
            recorded = Recorded.read(seq, made, self.key(seq)) if journal else None
            small = small_of(made.values(), seq) if journal else {}
            return Head(entry, made[0], states, recorded, small=small)

    def _head_after(self, head: Head, seq: int, entries: dict[int, Entry]) -> Head:
        """The log after entry `seq`, where `entries` has come after `head`."""
        with self._making(entries[seq]):
            later = {number: entries[number] for number in makers(seq) if number >= head.next_seq}
            states = States(later, head.states).chain(seq)
            recorded = Recorded.read(seq, later, self.key(seq), head.require_recorded())
            small = recent(head.small | small_of(entries.values(), seq), seq)
            return Head(entries[seq], head.created, states, recorded, small=small)

    @contextmanager
    def _making(self, entry: Entry) -> Iterator[None]:
        """Say which entry is damaged where its state or its journal can't be made."""
        key = self.key(entry.seq)
        try:
            yield
        except KeyError as missing:
            raise self._missing(entry.seq, f"its base, entry {missing}, is missing") from missing
        except ValueError as error:
            raise CorruptEntry(key, f"its payload is damaged ({error}).") from error

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
        with self.log._making(self.entries[seq]):
            return self._states[seq].data

    def records(self, seq: int) -> dict[int, Record]:
        """What steps had recorded after an entry.

        Raises:
            LookupError: the journals were not read.
            CorruptEntry: an entry is damaged.
        """
        self.head.require_recorded()
        with self.log._making(self.entries[seq]):
            recorded = Recorded.read(seq, self.entries, self.log.key(seq))
        return recorded.records()

    @cached_property
    def _states(self) -> States:
        return States(self.entries)
