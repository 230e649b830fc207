"""The append-only log of one execution: numbers, deltas, attempts, fencing.

An entry is immutable and every write is a creation (`Objects.create`) under a key that its number
decides (see `history`), so of two writers of one number exactly one wins. That is the whole
concurrency control: no lock, no lease, no head object.

Every entry but the tombstone carries the state in force after it and the journal of steps (see
`entry`, `chain`): an attempt or a roll-back those of the entry which it continues from, a few bytes
as a delta. So the head alone tells where to continue.

A result of a step that is too large for the journal stands at the end of the entry that records it,
where nothing but its own replay reads it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from prefect_executions import serialization
from prefect_executions.errors import (
    AlreadyExists,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.log import deltas
from prefect_executions.log.deltas import Link, bases, encode_text
from prefect_executions.log.entry import COUNTED, Entry, Kind
from prefect_executions.log.journal import LARGE, Large, Record, behind, encode, rolled_back
from prefect_executions.log.reader import Head, LogReader

_TRIES = 200  # how often a writer makes room for others before it gives up


@dataclass(frozen=True)
class ExecutionLog(LogReader):
    """The log of one execution in a store.

    Args:
        objects: The store.
        execution_id: Whose log it is.
        clock: The time that entries get.
        new_nonce: Makes a string that no other write has.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_nonce: Callable[[], str] = lambda: uuid4().hex

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
        admit: Callable[[Head], float | None] = lambda _: None,
        *,
        config: dict[str, Any] | None = None,
        version: str | None = None,
    ) -> Head:
        """Begin to run: append an attempt after whatever is there, which fences all before it.

        Args:
            admit: Called with the head, each time between reading it and writing after it; raises
                when this process should not run after all. Because of this order the attempt with
                the highest number is the one that was admitted last. It may tell for how many
                seconds the attempt of the head has been dead, which are no active time.
            config: What the attempt runs with, if it has settings of its own.
            version: Of the code that runs it, if that is known.

        Raises:
            ExecutionNotFound: there is no log, or it has been deleted.
        """
        for _ in range(_TRIES):
            head = self.living_head()
            dead = round(head.entry.dead_seconds + (admit(head) or 0), 3)
            seq, attempt = head.entry.seq + 1, head.entry.attempt + 1
            told = {"config": config, "version": version}
            meta = {name: value for name, value in told.items() if value is not None} or None
            try:
                return self._continue(
                    head, Kind.ATTEMPT, attempt=attempt, begun=seq, dead_seconds=dead, meta=meta
                )
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
        """Count one more retry, after the attempt of `head`, which is thereby fenced. Idempotent.

        Args:
            head: The head, of the attempt.
            answers: The id of the state in Prefect after which it is tried again.
            reason: What people read.

        Raises:
            Superseded: it is not the newest attempt any more; nothing was written.
            ExecutionNotFound: the execution has been deleted.
        """
        retries = head.entry.retries + 1
        try:
            return self._write(
                head,
                lambda head: self._continue(
                    head, Kind.RETRY, answers=answers, reason=reason, retries=retries
                ),
            )
        except Superseded:
            newest = self.living_head()
            if newest.entry.kind is Kind.RETRY and newest.entry.answers == answers:
                return newest  # its own, of a try whose answer was lost
            raise

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
                        at=serialization.whole_milliseconds(self.clock()),
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
            "at": serialization.whole_milliseconds(self.clock()),
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


def _place(records: Sequence[Record], seq: int) -> tuple[list[Record], tuple[bytes, ...]]:
    """Take the large results out of records which entry `seq` is to record."""
    placed: list[Record] = []
    large: list[bytes] = []
    for record in records:
        if record.result is None or len(record.result) <= LARGE:
            placed.append(record)
            continue
        size, sha256 = len(record.result), deltas.Digest(record.result).hex
        where = Large(seq=seq, index=len(large), size=size, sha256=sha256)
        placed.append(replace(record, result=None, large=where))
        large.append(deltas.compress(record.result))
    return placed, tuple(large)
