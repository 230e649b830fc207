"""Who writes the next entry of a log when several processes want to: following, and claims.

A process that runs knows the head, and needs one request per entry. Whoever comes from outside, to
begin an attempt or to roll back, has to read the head first. Beside a process that saves without
pause it always comes too late, however often it tries.

So after a few tries it takes numbers ahead: it creates an entry of the kind `claim` some numbers
after the newest entry, and then those before it, downwards, until it meets a number that is taken.
Claims record nothing. But all numbers up to the first claim are taken now, so whoever goes on from
a head that it has read before meets a claim, and reads it:

* An attempt that is to be fenced in any case meets a claim that is `fenced`, and is superseded.
* Otherwise a checkpoint of somebody else is to be saved: who meets such a claim goes on after it,
  but has to read what is there first, like everybody else.

The challenger needs a bounded number of requests for that: the first claim is placed twice as far
ahead whenever the writer was quicker, and then there are only the numbers in between. From then on
it competes with others who come from outside, who need as many requests as itself, and of whom one
succeeds each time.

What was acknowledged is never lost by a claim, since only entries that come without a gap are the
log, and the entry after claims continues from the newest one before them. Nothing is made from a
claim: an entry that would have one as its base has the next one that is none in its stead (see
`states` and `recorded`). A challenger may die halfway: then a claim is left ahead of a gap, which
is filled as if there were no claim; it stops processes of the attempt that was to be fenced, but
not those of later attempts; and claims without a gap are passed over by whoever reads the head.

Pruning removes old entries, among them that which superseded a process or came before it. If the
process was frozen meanwhile it finds its next number free again. So a writer that has known of
nothing new for minutes looks at the head once more after its entry was created: it costs a LIST,
and only then. If others went on long ago, that entry is an old one among others, and counts for
nothing. No entry is pruned before twice those minutes have passed (`SETTLES`), so that clocks may
differ by as much.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

from prefect_executions import serialization
from prefect_executions.errors import (
    AlreadyExists,
    ExecutionDeleted,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.reader import Head, LogReader

SETTLES = timedelta(minutes=10)  # what was written since is not pruned
_AWAY = SETTLES / 2  # after so long a writer looks whether it has been superseded

_TRIES = 200  # how often a number is found taken before it is given up
_POLITE = 2  # after how many of these numbers are claimed, to fence an attempt;
_PATIENT = 20  # and otherwise: among many equals claims would only add to the crowd
_AHEAD = 8  # how many numbers ahead at first


@dataclass(frozen=True)
class ContendedLog(LogReader):
    """The log of one execution, which several processes write to.

    Args:
        objects: The store.
        execution_id: The execution whose log it is.
        clock: Returns the time that an entry gets.
        new_nonce: Makes a string that no other entry has.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_nonce: Callable[[], str] = lambda: uuid4().hex

    def _compete(self, operation: str, append: Callable[[Head], Head]) -> Head:
        """Append after the head, whatever others have written, and fence the attempt in force.

        Args:
            operation: What it does, for the error.
            append: Does it, and raises `AlreadyExists` when another writer was first.

        Raises:
            ExecutionNotFound: there is no log, or it has been deleted.
            StoreUnavailable: others were first each time.
        """
        for lost in range(1, _TRIES + 1):
            head = self.living_head()
            with suppress(AlreadyExists):
                made = append(head)
                if self._gone_on_from(head, made) is None:
                    return made
            if lost >= _POLITE:
                self._claim(head.entry.attempt, fence=True)
        raise self._too_busy(operation)

    def _write(
        self,
        head: Head,
        append: Callable[[Head], Head],
        *,
        nonces: Collection[str] = (),
        fence: bool = False,
    ) -> Head:
        """Append after `head`, or after what others have written since in the same attempt.

        Args:
            head: The head that the writer knows.
            append: Does it, and raises `AlreadyExists` when another writer was first.
            nonces: If one of them is found in the log, the writer has written that entry, and its
                head is returned.
            fence: Whether it fences the attempt.

        Raises:
            Superseded: the attempt may not write any more.
            ExecutionNotFound: the execution has been deleted.
            StoreUnavailable: others were first each time.
        """
        for lost in range(1, _TRIES + 1):
            try:
                made = append(head)
            except AlreadyExists:
                if lost >= (_POLITE if fence else _PATIENT):
                    self._claim(head.entry.attempt, fence=fence)
            else:
                if (newer := self._gone_on_from(head, made)) is not None:
                    by = f"{newer.kind} in entry {newer.seq}"
                    raise Superseded(self.execution_id, head.entry.attempt, by)
                return made
            head = self._follow(head, nonces, fence=fence)
            if head.entry.nonce in nonces:
                return head
        raise self._too_busy("write an entry")

    def _gone_on_from(self, head: Head, made: Head) -> Entry | None:
        """The newest entry, if others went on from `head` in another way than `made`, long ago.

        Raises:
            ExecutionDeleted: it is the tombstone, or there is none any more.
        """
        if self.clock() - head.entry.at <= _AWAY or self.newest() == made.entry.seq:
            return None
        found = self.outlines_of([self.below_claims()[0]])
        if not found or found[0].kind is Kind.DELETED:
            raise ExecutionDeleted(self.execution_id)
        newest, ours = found[0], made.entry
        is_same = (newest.attempt, newest.begun) == (ours.attempt, ours.begun)
        return None if is_same and newest.fenced <= ours.fenced else newest

    def _too_busy(self, operation: str) -> StoreUnavailable:
        return StoreUnavailable(operation, f"others write to {self.execution_id!r} all the time")

    def _follow(self, head: Head, nonces: Collection[str], *, fence: bool) -> Head:
        """Load the head after what others have written, or the writer's own entry among it.

        Raises:
            Superseded: the attempt may not write any more.
            ExecutionNotFound: the tombstone is among it.
        """
        # The next entry first: to a process that was away for long it mostly says enough.
        first = head.next_seq
        entries = self.read_entries([first])
        own = self._pass(head, entries, nonces, fence=fence)
        if own is None:
            newest = self.newest() or 0
            entries |= self.read_entries(range(first + 1, newest + 1))
            # What was created meanwhile may have been seen without what was created before it.
            seen = [seq for seq, entry in entries.items() if entry.kind is not Kind.CLAIM]
            entries |= self.read_entries({*range(first, max(seen, default=0))} - entries.keys())
            own = self._pass(head, entries, nonces, fence=fence)
            if newest not in entries:
                raise ExecutionDeleted(self.execution_id)
        known = [seq for seq, entry in entries.items() if entry.kind is not Kind.CLAIM]
        last = max(known, default=head.entry.seq) if own is None else own.seq
        free = next(seq for seq in count(max(last + 1, first)) if seq not in entries)
        claims = 0 if own else free - last - 1
        if last == head.entry.seq:
            return replace(head, claims=claims)
        return replace(self._head_after(head, last, entries), claims=claims)

    def _pass(
        self, head: Head, later: dict[int, Entry], nonces: Collection[str], *, fence: bool
    ) -> Entry | None:
        """Check that the attempt of `head` may write after these entries.

        Returns:
            The writer's own entry, if it is among them and may stand there.
        """
        for seq, entry in sorted(later.items()):
            if entry.nonce in nonces:
                return entry
            if entry.kind is Kind.DELETED:
                raise ExecutionDeleted(self.execution_id)
            stops = entry.fenced and entry.attempt >= head.entry.attempt and not fence
            if entry.kind not in _FOLLOWED or (entry.kind is Kind.CLAIM and stops):
                by = f"{entry.kind} in entry {seq}"
                raise Superseded(self.execution_id, head.entry.attempt, by)
        if not later:
            raise ExecutionDeleted(self.execution_id)
        return None

    def _claim(self, attempt: int, *, fence: bool) -> None:
        """Take all numbers up to some way ahead, so that nobody goes on without reading.

        Args:
            attempt: The newest attempt that the caller has read of.
            fence: Whether it is superseded, and those before it.
        """
        ahead = _AHEAD
        while True:
            newest = self.require_newest()
            for entry in self.outlines_of([newest]):
                stops = entry.attempt >= attempt and (entry.fenced or not fence)
                if entry.kind is Kind.DELETED or (entry.kind is Kind.CLAIM and stops):
                    return  # another has done it
            if self._take(newest + ahead, attempt, fence=fence):
                break
            ahead *= 2
        for seq in range(newest + ahead - 1, newest, -1):
            if not self._take(seq, attempt, fence=fence):
                break

    def _take(self, seq: int, attempt: int, *, fence: bool) -> bool:
        """Create a claim; returns False if the number is taken."""
        claim = Entry(
            seq=seq,
            kind=Kind.CLAIM,
            at=serialization.whole_milliseconds(self.clock()),
            attempt=attempt,
            nonce=self.new_nonce(),
            fenced=fence,
        )
        try:
            self._create(claim)
        except AlreadyExists:
            return False
        return True

    def _create(self, entry: Entry) -> None:
        key = self.key(entry.seq)
        try:
            self.objects.create(key, entry.to_bytes())
        except AlreadyExists:
            # After a lost response the store's client repeats the request, and meets its own write.
            # (An entry of another time is that of an earlier call; who makes such calls finds it.)
            there = self.read_entries([entry.seq]).get(entry.seq)
            if there is None or (there.nonce, there.at) != (entry.nonce, entry.at):
                raise


_FOLLOWED = (Kind.CHECKPOINT, Kind.STEPS, Kind.CLAIM)
