"""The append-only log of one execution: numbers, deltas, attempts, fencing, loading.

One object is one entry, and an entry's key is decided by its number alone:

    {shard}/{execution_id}/{999_999_999 - seq:09d}

`shard` is the last two hex digits of the id, so that executions made one after another, whose ids
are ordered by time, spread over S3's partitions. Numbers run downwards, so that the first key of a
listing is the newest entry: finding the head costs one request however long the log is.

An entry is immutable and every write is a creation (`Objects.create`), so of two writers of one
number exactly one wins. That is the whole concurrency control: no lock, no lease, no head object.

An entry is a line of JSON (the header), a newline, and the payload: the state in force after it, as
JSON, and the journal of steps, each as the change against that of an earlier entry (see `chain`).

Every entry but the tombstone carries both: an attempt or a roll-back those of the entry which it
continues from, a few bytes as a delta. So the head alone tells where to continue.

A result of a step that is too large for the journal stands at the end of the entry that records it,
where nothing but its own replay reads it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol
from uuid import uuid4

from prefect_executions import codec
from prefect_executions.chain import TEXTS, Link, bases, encode_text, text_of
from prefect_executions.entry import COUNTED, Entry, Kind, Part, Truncated
from prefect_executions.errors import (
    AlreadyExists,
    CheckpointNotFound,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.journal import LARGE, Large, Record, behind, encode, rolled_back
from prefect_executions.models import ExecutionConfig, checkpoint_id
from prefect_executions.objects import Objects

MAX_SEQ = 999_999_999
_READ = 2 << 20  # bytes of an entry that are read at once; what comes then is mostly large results
_OUTLINE = 4 << 10  # bytes that most headers are shorter than
_TRIES = 200  # how often a writer makes room for others before it gives up


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
class ExecutionLog:
    """The log of one execution in a store.

    Args:
        objects: The store.
        execution_id: Whose log it is.
        clock: The time that entries get.
        new_nonce: Makes a string that no other write has.
    """

    objects: Objects
    execution_id: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_nonce: Callable[[], str] = lambda: uuid4().hex

    # ------------------------------------------------------------------ reading

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
            result = codec.decompress(frame, where.size)
            if codec.Digest(result).hex != where.sha256:
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
        if part is not None and codec.Digest(text).hex != part.sha256:
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

    # ------------------------------------------------------------------ writing

    def create(self, meta: dict[str, Any], state: bytes, *, records: Sequence[Record] = ()) -> Head:
        """Write entry 0.

        Args:
            meta: What the execution is called, and so on.
            state: The first state.
            records: What steps of another execution have recorded, of which this one is a fork.

        Raises:
            AlreadyExists: the execution has a log already.
        """
        return self._append(None, Kind.CREATED, state, meta=meta, records=records)

    def attempt(
        self,
        admit: Callable[[], None] = lambda: None,
        *,
        config: dict[str, Any] | None = None,
        version: str | None = None,
    ) -> Head:
        """Begin to run: append an attempt after whatever is there, which fences all before it.

        Args:
            admit: Called each time between reading the head and writing after it; raises when this
                process should not run after all. Because of this order the attempt with the highest
                number is the one that was admitted last.
            config: What the attempt runs with, if it has settings of its own.
            version: Of the code that runs it, if that is known.

        Raises:
            ExecutionNotFound: there is no log, or it has been deleted.
        """
        for _ in range(_TRIES):
            head = self.living_head()
            admit()
            seq, attempt = head.entry.seq + 1, head.entry.attempt + 1
            told = {"config": config, "version": version}
            meta = {name: value for name, value in told.items() if value is not None} or None
            try:
                return self._continue(head, Kind.ATTEMPT, attempt=attempt, begun=seq, meta=meta)
            except AlreadyExists:
                continue
        raise self._too_busy("begin an attempt")

    def checkpoint(
        self,
        head: Head,
        state: bytes,
        *,
        label: str | None = None,
        records: Sequence[Record] = (),
    ) -> Head:
        """Append a checkpoint after `head`, as the attempt of `head`: one PUT and nothing else.

        A checkpoint that somebody else saved meanwhile, in the same attempt, is no obstacle.

        Args:
            head: The head, of the attempt.
            state: The state.
            label: What people call it.
            records: What steps have recorded before it.

        Raises:
            Superseded: a later attempt or a roll-back is in the log; nothing was written.
            ExecutionNotFound: the execution has been deleted; nothing was written.
            StoreUnavailable: whether the checkpoint was saved is not known; or others save so
                quickly that this one did not find a place.
        """
        return self._write(
            head,
            lambda head: self._append(head, Kind.CHECKPOINT, state, records=records, label=label),
        )

    def record(self, head: Head, records: Sequence[Record]) -> Head:
        """Append what steps have recorded after `head`: one PUT; the state stays as it is.

        Raises:
            Superseded, ExecutionNotFound, StoreUnavailable: see `checkpoint`.
        """
        return self._write(head, lambda head: self._continue(head, Kind.STEPS, records=records))

    def crash(self, head: Head, *, answers: str, dead_seconds: float, reason: str) -> Head:
        """Bury the attempt of `head`, which ran in Prefect for `dead_seconds` after its death.

        It is fenced, should it not be dead after all. A retry that it counted itself before it died
        is not counted any more.

        Args:
            head: The head, of the attempt.
            answers: The id of the Running state in which it died.
            dead_seconds: What does not count as active time.
            reason: What people read.

        Raises:
            Superseded: it is not the newest attempt any more; nothing was written.
            ExecutionNotFound: the execution has been deleted.
        """
        dead_seconds = round(head.entry.dead_seconds + dead_seconds, 3)
        own = head.entry.kind is Kind.RETRY and head.entry.answers == answers
        retries = head.entry.retries - own
        return self._write(
            head,
            lambda head: self._continue(
                head,
                Kind.CRASH,
                answers=answers,
                reason=reason,
                dead_seconds=dead_seconds,
                retries=retries,
            ),
        )

    def retry(self, head: Head, *, answers: str, reason: str) -> Head:
        """Count one more retry, after the attempt of `head`, which is thereby fenced.

        Args:
            head: The head, of the attempt.
            answers: The id of the state in Prefect after which it is tried again.
            reason: What people read.

        Raises:
            Superseded: it is not the newest attempt any more; nothing was written.
            ExecutionNotFound: the execution has been deleted.
        """
        retries = head.entry.retries + 1
        return self._write(
            head,
            lambda head: self._continue(
                head, Kind.RETRY, answers=answers, reason=reason, retries=retries
            ),
        )

    def result(self, head: Head, result: Any) -> Head:
        """Note what the attempt of `head` has completed with; it is fenced thereby.

        Args:
            head: The head, of the attempt.
            result: As JSON.

        Raises:
            Superseded, ExecutionNotFound, StoreUnavailable: see `checkpoint`.
        """
        meta = {"result": result}
        return self._write(head, lambda head: self._continue(head, Kind.RESULT, meta=meta))

    def rollback(self, to: int, *, tell: Callable[[list[Record]], object] = lambda _: None) -> Head:
        """Let the next attempt continue from entry `to`, and fence the attempt that runs now.

        What steps have recorded since is forgotten; what of it can be undone is noted as such.

        Args:
            to: The entry.
            tell: Called with the steps that are forgotten, newest first: their effects have
                happened.

        Raises:
            CheckpointNotFound: `to` is no checkpoint of this execution, nor 0.
            ExecutionNotFound: there is no log, or it has been deleted.
            CorruptEntry: an entry is damaged.
        """
        head, target = self.living_head(), self.at_checkpoint(to)
        for _ in range(_TRIES):
            if head.entry.kind is Kind.ROLLBACK and head.entry.source == to:
                return head
            try:
                lost = behind(head.journal, target.journal)
                journal = rolled_back(head.journal, target.journal)
            except (ValueError, KeyError, TypeError) as error:
                problem = f"its journal, or that of entry {to}, is none ({error!r})."
                raise CorruptEntry(self._key(head.entry.seq), problem) from error
            try:
                made = self._append(head, Kind.ROLLBACK, target.state, journal=journal, source=to)
            except AlreadyExists:
                head = self.living_head()
            else:
                tell(lost)
                return made
        raise self._too_busy("roll back")

    def delete(self) -> None:
        """Write the tombstone: from then on nobody can extend the history. Idempotent.

        Raises:
            ExecutionNotFound: there is no log.
        """
        ahead = 1
        while (newest := self.newest()) is not None:
            entry = self._read([newest]).get(newest)
            if entry is not None and entry.kind is Kind.DELETED:
                return
            try:
                self._create(
                    Entry(
                        seq=newest + ahead,
                        kind=Kind.DELETED,
                        at=codec.whole_milliseconds(self.clock()),
                        attempt=entry.attempt if entry is not None else 0,
                        nonce=self.new_nonce(),
                    )
                )
            except AlreadyExists:
                # A process that saves without pause is always quicker than a listing. It will run
                # into a tombstone further on: what it still saves until then is deleted anyway.
                ahead *= 2
            else:
                return
        raise ExecutionNotFound(self.execution_id)

    def purge(self) -> None:
        """Remove the entries of a deleted execution, the tombstone last.

        A process that is alive all the same and saves after this has to `sweep`.
        """
        keys = list(self.objects.scan(self._key(None)))
        self.objects.delete(keys[1:])
        self.objects.delete(keys[:1])

    def remove(self, seqs: Iterable[int]) -> None:
        """Remove entries that nothing else in the log needs.

        What is made from another goes before it, so that who reads meanwhile finds an entry whole
        or not at all.
        """
        by_length: dict[int, list[int]] = {}
        for seq in seqs:
            by_length.setdefault(seq.bit_count(), []).append(seq)
        for length in sorted(by_length, reverse=True):
            self.objects.delete(self._key(seq) for seq in by_length[length])

    def sweep(self) -> None:
        """Remove what a process has written after the log was purged; a living log is left alone.

        A process that outlived the deletion of its execution does so before it ends.
        """
        newest = self.newest()
        if newest is None or self.objects.get([self._key(0)], first=1):
            return
        entry = self._read([newest]).get(newest)
        if entry is not None and entry.kind is not Kind.DELETED:
            self.objects.delete(self.objects.scan(self._key(None)))

    def _write(self, head: Head, append: Callable[[Head], Head]) -> Head:
        """Append after `head`, or after the checkpoints that others have saved meanwhile."""
        for _ in range(_TRIES):
            try:
                return append(head)
            except AlreadyExists:
                head = self._follow(head)
        raise self._too_busy("write an entry")

    def _too_busy(self, operation: str) -> StoreUnavailable:
        return StoreUnavailable(operation, f"others write to {self.execution_id!r} all the time")

    def _follow(self, head: Head) -> Head:
        """Move past what others have written after `head`, if this attempt may still write.

        Raises:
            Superseded: an attempt or a roll-back is among it.
            ExecutionNotFound: the tombstone is among it.
        """
        # The next entry first: to a process that comes back after long it mostly says enough.
        entries = self._read([head.entry.seq + 1])
        self._require_open(head, entries)
        newest = self.newest() or 0
        entries |= self._read(range(head.entry.seq + 2, newest + 1))
        self._require_open(head, entries)
        if newest not in entries:
            raise ExecutionDeleted(self.execution_id)
        chain = dict(head.chain) | {seq: Link.of(entry) for seq, entry in entries.items()}
        return self._decoded(
            entries[newest], {seq: chain[seq] for seq in bases(newest) if seq in chain}
        )

    def _require_open(self, head: Head, later: dict[int, Entry]) -> None:
        """Check that the attempt of `head` may write after these entries."""
        for seq, entry in sorted(later.items()):
            if entry.kind is Kind.DELETED:
                raise ExecutionDeleted(self.execution_id)
            if entry.kind not in (Kind.CHECKPOINT, Kind.STEPS):
                by = f"{entry.kind} in entry {seq}"
                raise Superseded(self.execution_id, head.entry.attempt, by)
        if not later:
            raise ExecutionDeleted(self.execution_id)

    def _continue(self, head: Head, kind: Kind, **fields: Any) -> Head:
        """Append an entry that leaves the state in force as it is."""
        return self._append(head, kind, head.state, source=head.entry.continues_from, **fields)

    def _append(
        self,
        head: Head | None,
        kind: Kind,
        state: bytes,
        *,
        journal: bytes | None = None,
        records: Sequence[Record] = (),
        **fields: Any,
    ) -> Head:
        """Create the entry after `head`.

        What is counted goes on from entry to entry, so that the head alone tells it.

        Args:
            head: The head; None for the first entry.
            kind: What it records.
            state: The state in force after it.
            journal: The journal in force after it; by default that of `head`.
            records: What is appended to the journal.
            fields: Others of `Entry`.

        Raises:
            AlreadyExists: another writer was first.
        """
        seq = 0 if head is None else head.entry.seq + 1
        chain = {} if head is None else head.chain
        counted: dict[str, Any] = {}
        if head is not None:
            counted = {name: getattr(head.entry, name) for name in COUNTED}
            counted["runs"] = head.entry.runs_after(kind)
            counted["fenced"] = head.entry.fenced_after(kind)
        own = {
            "seq": seq,
            "kind": kind,
            "at": codec.whole_milliseconds(self.clock()),
            "nonce": self.new_nonce(),
        }
        if journal is None:
            journal = b"" if head is None else head.journal
        placed, large = _place(records, seq)
        texts = {"state": state, "journal": journal + encode(placed)}
        made = {name: encode_text(name, data, seq, chain) for name, data in texts.items()}
        parts = {name: text.part for name, text in made.items()}
        sizes = {"large_bytes": sum(len(frame) for frame in large)}
        entry = Entry(**{"attempt": 0, **counted, **own, **parts, **sizes, **fields}, large=large)
        self._create(entry)
        kept = {number: chain[number] for number in bases(seq)[1:] if number in chain}
        link = Link(replace(entry, large=()), made)
        return Head(link.entry, state, texts["journal"], {seq: link, **kept})

    def _create(self, entry: Entry) -> None:
        key = self._key(entry.seq)
        try:
            self.objects.create(key, entry.to_bytes())
        except AlreadyExists:
            # After a lost answer the store's client repeats the request, and meets its own write.
            there = self._read([entry.seq]).get(entry.seq)
            if there is None or there.nonce != entry.nonce:
                raise

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

    log: ExecutionLog
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


def _place(records: Sequence[Record], seq: int) -> tuple[list[Record], tuple[bytes, ...]]:
    """Take the large results out of records which entry `seq` is to record."""
    placed: list[Record] = []
    large: list[bytes] = []
    for record in records:
        if record.result is None or len(record.result) <= LARGE:
            placed.append(record)
            continue
        size, sha256 = len(record.result), codec.Digest(record.result).hex
        where = Large(seq=seq, index=len(large), size=size, sha256=sha256)
        placed.append(replace(record, result=None, large=where))
        large.append(codec.compress(record.result))
    return placed, tuple(large)
