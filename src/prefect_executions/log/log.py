"""The append-only log of one execution: writing it, attempts and fencing.

An entry never changes, and every write creates an object (`Objects.create`) under the key of the
next number (see `entry_reader`). So of two writers of one number exactly one succeeds. There is no
other concurrency control: no lock, no lease, no head object. `claims` says how it is fair.

Every entry but claims and the tombstone has the state after it (see `states`), and what steps have
recorded since an earlier one (see `recorded`). An entry that changes neither, like an attempt,
takes a few bytes for both. So the head and what it is made of, known from its number, say where to
continue.

A step's result that is too large for the journal is stored at the end of the entry that records it,
and is only read when that step is replayed.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from prefect_executions import serialization
from prefect_executions.errors import (
    AlreadyExists,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
    Superseded,
)
from prefect_executions.log.claims import ContendedLog
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Record, decode, encode, forgotten, rolled_back
from prefect_executions.log.parts import bases
from prefect_executions.log.reader import Head
from prefect_executions.log.recorded import Recorded, makers, with_records
from prefect_executions.log.repeats import beginning_if_small, recent, repetition
from prefect_executions.log.states import State, stored


@dataclass(frozen=True)
class ExecutionLog(ContendedLog):
    """The log of one execution in a store, to read it and to write to it."""

    def create(self, meta: dict[str, Any], state: bytes, *, records: Sequence[Record] = ()) -> Head:
        """Write entry 0.

        Args:
            meta: The name of the execution, and so on: see `Entry.meta`.
            state: The first state.
            records: For a fork: what the steps of the other execution have recorded.

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
        nonce: str | None = None,
    ) -> Head:
        """Begin an attempt, which fences all attempts before it.

        Args:
            admit: Called with the head, each time between reading it and writing after it; raises
                when this process should not run after all. Because of this order the attempt with
                the highest number is the one that was admitted last. It may return for how many
                seconds the attempt of the head has been dead: they are not active time.
            config: The flow's own config, if it has one.
            version: The version of the flow, if it is known.
            nonce: The same in each call that is to begin the same attempt, where it is not known
                whether an earlier one has; by default a new one.

        Raises:
            ExecutionNotFound: there is no log, or it has been deleted.
        """
        nonce = nonce or self.new_nonce()
        own = {"config": config, "version": version}
        meta = {name: value for name, value in own.items() if value is not None} or None

        def begin(head: Head) -> Head:
            if head.entry.nonce == nonce:
                return head  # an earlier call wrote it, and the response was lost
            return self._continue(
                head,
                Kind.ATTEMPT,
                attempt=head.entry.attempt + 1,
                begun=head.next_seq,
                dead_seconds=round(head.entry.dead_seconds + (admit(head) or 0), 3),
                meta=meta,
                nonce=nonce,
            )

        return self._compete("begin an attempt", begin)

    def checkpoint(
        self,
        head: Head,
        state: bytes,
        *,
        label: str | None = None,
        records: Sequence[Record] = (),
        nonces: Sequence[str] = (),
        by: str | None = None,
        reason: str | None = None,
        only_after: int | None = None,
    ) -> Head:
        """Append a checkpoint after `head`, in the attempt of `head`: one PUT and no other request.

        Where `head` is older than five minutes a LIST tells whether it was superseded since. When
        another process has saved a checkpoint in the same attempt, this one comes after it.

        Args:
            head: The head that the writer knows.
            state: The state.
            label: The checkpoint's label.
            records: What steps have recorded before it.
            nonces: Of writes of this writer after `head`; this one's comes last. The earlier ones
                failed, and it is not known whether they were carried out; a write that is tried
                again has the nonce that it had. By default there are none, and it gets a new one.
            by: Who saves it from outside the attempt; None for the attempt itself.
            reason: Why they do.
            only_after: The checkpoint that must be the newest when this one is written; None for
                any.

        Returns:
            The head after it, or after the first of the earlier writes that was carried out: then
            this one was not, and is to be tried again after that head.

        Raises:
            Superseded: a later attempt or a roll-back is in the log, or the newest checkpoint is
                not `only_after`; nothing was written.
            ExecutionNotFound: the execution has been deleted; nothing was written.
            StoreUnavailable: it is not known whether the checkpoint was saved; or others write so
                often that it was not.
        """
        nonces = nonces or [self.new_nonce()]
        meta = None if by is None else {"by": by}

        def append(head: Head) -> Head:
            if only_after not in (None, newest := head.entry.continues_from):
                raise Superseded(self.execution_id, head.entry.attempt, f"checkpoint {newest}")
            return self._append(
                head,
                Kind.CHECKPOINT,
                state,
                records=records,
                label=label,
                meta=meta,
                reason=reason,
                nonce=nonces[-1],
            )

        return self._write(head, append, nonces=nonces)

    def record(self, head: Head, records: Sequence[Record], *, nonces: Sequence[str] = ()) -> Head:
        """Append what steps have recorded after `head`: one PUT. The state stays as it is.

        Args:
            head: The head that the writer knows.
            records: What they have recorded.
            nonces: See `checkpoint`.

        Returns:
            See `checkpoint`.

        Raises:
            Superseded, ExecutionNotFound, StoreUnavailable: see `checkpoint`.
        """
        nonces = nonces or [self.new_nonce()]
        return self._write(
            head,
            lambda head: self._continue(head, Kind.STEPS, records=records, nonce=nonces[-1]),
            nonces=nonces,
        )

    def crash(self, head: Head, *, answers: str, dead_seconds: float, reason: str) -> Head:
        """Record that the attempt of `head` has crashed.

        It is fenced, in case that it is still alive. If it counted a retry itself before it
        crashed, that retry is not counted any more.

        Args:
            head: The head that the writer knows.
            answers: The id of the Running state in which the attempt crashed.
            dead_seconds: How long it was Running in Prefect after the crash: not active time.
            reason: What happened, for people.

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
            fence=True,
        )

    def retry(self, head: Head, *, answers: str, reason: str) -> Head:
        """Count a retry after the attempt of `head`, which is fenced by it. Idempotent.

        Args:
            head: The head that the writer knows.
            answers: The id of the state in Prefect that the retry responds to.
            reason: What happened, for people.

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
                fence=True,
            )
        except Superseded:
            newest = self.living_head()
            if newest.entry.kind is Kind.RETRY and newest.entry.answers == answers:
                return newest  # an earlier call wrote it, and the response was lost
            raise

    def result(self, head: Head, result: Any, *, nonce: str | None = None) -> Head:
        """Record the result of the attempt of `head`, which is fenced by it.

        Args:
            head: The head that the writer knows.
            result: A JSON value.
            nonce: The same in each call that is to record the same result, where it is not known
                whether an earlier one has; by default a new one.

        Raises:
            Superseded, ExecutionNotFound, StoreUnavailable: see `checkpoint`.
        """
        meta, nonce = {"result": result}, nonce or self.new_nonce()
        return self._write(
            head,
            lambda head: self._continue(head, Kind.RESULT, meta=meta, nonce=nonce),
            nonces=[nonce],
            fence=True,
        )

    def rollback(
        self,
        to: int,
        *,
        tell: Callable[[list[Record]], object] = lambda _: None,
        by: str | None = None,
        reason: str | None = None,
    ) -> Head:
        """Roll back to entry `to`: the next attempt continues from it, and this one is fenced.

        What steps have recorded since is forgotten, and recorded as to be undone if it can be.

        Args:
            to: The number of the entry: a checkpoint, or 0.
            tell: Called with the steps that are forgotten, newest first: their effects have
                happened.
            by: Who rolls it back, if that is known.
            reason: Why they do.

        Raises:
            CheckpointNotFound: `to` is neither a checkpoint of this execution nor 0.
            ExecutionNotFound: there is no log, or it has been deleted.
            CorruptEntry: an entry is damaged.
        """

        def go_back(head: Head) -> Head:
            target = self.at_checkpoint(to)
            if head.entry.kind is Kind.ROLLBACK and head.entry.source == to:
                return head
            try:
                now, then = head.journal, target.journal
                lost, journal = forgotten(decode(now), decode(then)), rolled_back(now, then)
            except (ValueError, KeyError, TypeError) as error:
                problem = f"its journal, or that of entry {to}, is none ({error!r})."
                raise CorruptEntry(self.key(head.entry.seq), problem) from error
            state = target.states[target.entry.seq]
            meta = None if by is None else {"by": by}
            made = self._append(
                head, Kind.ROLLBACK, state, journal=journal, source=to, meta=meta, reason=reason
            )
            tell(lost)
            return made

        return self._compete("roll back", go_back)

    def revise(self, change: Callable[[Head], tuple[bytes, Collection[Record]]]) -> Head:
        """Append a checkpoint with another journal, without those that some notes are gone from.

        The attempt in force goes on after it.

        Args:
            change: Called with the head, each time between reading it and writing after it; returns
                the state after it, and all that is recorded after it.

        Raises:
            ExecutionNotFound: there is no log, or it has been deleted.
            StoreUnavailable: others write so often that it was not saved.
        """

        def append(head: Head) -> Head:
            state, records = change(head)
            lines = encode(records)
            return self._append(head, Kind.CHECKPOINT, state, journal=lines)

        return self._compete("revise the journal", append)

    def delete(self) -> None:
        """Write the tombstone, after which no process can append anything. Idempotent.

        Raises:
            ExecutionNotFound: there is no log.
        """
        ahead = 1
        while (newest := self.newest()) is not None:
            entry = self.read_entries([newest]).get(newest)
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
                # A process that saves without pause is always quicker than a listing. It meets a
                # tombstone further on, and what it saves until then is deleted anyway.
                ahead *= 2
            else:
                return
        raise ExecutionNotFound(self.execution_id)

    def purge(self) -> None:
        """Remove the entries of a deleted execution, the tombstone last.

        A process that is still alive and saves after this has to `sweep`.
        """
        with suppress(ExecutionNotFound):
            self.delete()  # so that no claim comes after the tombstone
        keys = list(self.objects.scan(self.key(None)))
        newest = next((key for key in keys if key != self.pruned_key), None)
        self.objects.delete(key for key in keys if key != newest)
        self.objects.delete([] if newest is None else [newest])

    def remove(self, seqs: Iterable[int]) -> None:
        """Remove entries that no other entry needs.

        An entry is removed before those that it is made of, so that a reader finds it whole or not
        at all.
        """
        by_length: dict[int, list[int]] = {}
        for seq in seqs:
            by_length.setdefault(len(makers(seq)), []).append(seq)
        for length in sorted(by_length, reverse=True):
            self.objects.delete(self.key(seq) for seq in by_length[length])

    def mark_pruned(self) -> None:
        """Say that entries are removed, before any is: what is repeated is not read any more.

        Raises:
            ExecutionDeleted: the log is gone.
        """
        self.note_removal()
        if not self.has_entry(0):
            self.objects.delete([self.pruned_key])
            raise ExecutionDeleted(self.execution_id)

    def note_removal(self) -> None:
        """Leave the mark by which a reader knows that entries may be missing. Idempotent."""
        with suppress(AlreadyExists):
            self.objects.create(self.pruned_key, b"")

    def sweep(self) -> None:
        """Remove what this process has written after the log was purged.

        A process calls it before it ends when its execution was deleted; otherwise it does nothing.
        """
        newest = self.newest()
        if newest is None or self.objects.get([self.key(0)], first=1):
            return
        entry = self.read_entries([newest]).get(newest)
        if entry is not None and entry.kind is not Kind.DELETED:
            self.objects.delete(self.objects.scan(self.key(None)))

    def _continue(self, head: Head, kind: Kind, **fields: Any) -> Head:
        """Append an entry that leaves the state as it is."""
        state = head.states[head.entry.seq]
        return self._append(head, kind, state, source=head.entry.continues_from, **fields)

    def _append(
        self,
        head: Head | None,
        kind: Kind,
        state: bytes | State,
        *,
        journal: bytes | None = None,
        records: Sequence[Record] = (),
        nonce: str | None = None,
        **fields: Any,
    ) -> Head:
        """Create the entry after `head`.

        Args:
            head: The head, or None for the first entry.
            kind: What the entry records.
            state: The state after it.
            journal: The lines of the journal after it, without `records`; by default those of
                `head`, which are not looked at.
            records: What is appended to the journal.
            nonce: The entry's; by default a new one.
            fields: Other fields of `Entry`.

        Raises:
            AlreadyExists: another writer was first.
        """
        progress = {"seq": 0, "attempt": 0} if head is None else head.entry.after(kind, head.claims)
        seq, states = progress["seq"], {} if head is None else head.states
        if isinstance(state, bytes):
            state = State(len(state), data=state)
        before = Recorded({}) if head is None else head.require_recorded()
        small = {} if head is None else head.small
        entry = Entry(
            **progress | fields,
            kind=kind,
            at=serialization.whole_milliseconds(self.clock()),
            nonce=nonce or self.new_nonce(),
            state=stored(state, seq, states),
            repeats=repetition(seq, small),
        )

        def recorded(lines: bytes) -> Recorded:
            if journal is None:
                return before.after(seq, lines)
            return before.anew(seq, journal + lines)

        entry, after = with_records(entry, records, recorded)
        self._create(entry)
        kept = {number: states[number] for number in bases(seq) if number in states} | {seq: state}
        if head is not None and head.states[head.entry.seq] is not state:
            head.states[head.entry.seq].release()
        if entry.large:
            entry = replace(entry, large=())
        small = recent(small, seq) | beginning_if_small(entry)
        return Head(entry, entry if head is None else head.created, kept, after, small=small)
