"""Replay: which call of this attempt is which call that an earlier attempt has recorded.

A flow begins anew with every attempt, and calls its steps anew. A call is a recorded one if it has
the same key (the digest of what is called, and with which inputs), is made in the same call, and
occurs at the same place there:

* Calls are numbered in the order in which they begin: their `order`.
* A call takes the lowest order among the records with its key that no other call of this attempt
  has taken, and that come after the last call which returned in this context. Otherwise it is new.

So what runs at once (threads, tasks of an event loop) may end in any order, and a loop that skips
what its state says is done does not get the results of rounds that it skips, once it has done
anything new. A call with a key of its own is the same one wherever it occurs.
"""

import threading
from bisect import bisect_right, insort
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from prefect_executions.errors import ReplayMismatch
from prefect_executions.log.journal import Outcome, Record, decode
from prefect_executions.serialization import digest, whole_milliseconds


@dataclass(frozen=True, slots=True)
class Call:
    """One call of this attempt.

    Args:
        order: Its number.
        parent: The call that it was made in; None: the flow itself.
        key: Its identity.
        step: The name of what is called.
        inputs: For a call with a key of its own: the digest of its inputs, if they have one.
        is_keyed: Whether it has a key of its own.
        record: What an earlier attempt has recorded of it: that it returned, or waits.
    """

    order: int
    parent: "Call | None"
    key: str
    step: str
    inputs: str | None = None
    is_keyed: bool = False
    record: Record | None = None

    def returned(self) -> None:
        """Go on behind this call, in the context that has made it and got its result."""
        parent, after = _place.get()
        if self.order > after:
            _place.set((parent, self.order))


_UNDO = 0  # in place of the order of the call that code is in, while a call is undone

# The call that code is in, and the order of the last call that returned there.
_place: ContextVar[tuple[Call | None, int]] = ContextVar("place_in_execution", default=(None, 0))


@contextmanager
def _inside(call: Call | None) -> Iterator[None]:
    token = _place.set((call, 0))
    try:
        yield
    finally:
        _place.reset(token)


class Replay:
    """The calls of one attempt, matched with those that earlier ones have recorded.

    Args:
        journal: What has been recorded.
        has_checkpoint: Whether any checkpoint was made.
    """

    def __init__(self, journal: bytes, *, has_checkpoint: bool = True) -> None:
        records = decode(journal)
        self._lock = threading.Lock()
        self._recorded = records
        self._last = max(records, default=0)
        self._noted = {0, *records}  # the orders of which the journal tells
        self._known: dict[int, Record] = {}
        self._orders: dict[tuple[int | None, str], list[int]] = {}  # ascending, of those known
        self._taken: dict[int, set[int]] = {}  # the orders of this attempt's calls, by their parent
        self._running: set[str] = set()
        self._saved = self._last if has_checkpoint else 0
        self._warned: set[str] = set()
        self._functions: dict[str, Any] = {}  # by the names of steps
        for record in records.values():
            self._note(record)
        self._undo = [known for known in records.values() if known.outcome is Outcome.UNDO][::-1]

    def _note(self, record: Record) -> None:
        if record.outcome in (Outcome.UNDO, Outcome.UNDONE):
            return
        if record.order not in self._known:
            for parent in (record.parent, None):  # one with a key of its own has any parent
                insort(self._orders.setdefault((parent, record.key), []), record.order)
        self._known[record.order] = record

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Carry out the flow's function."""
        with _inside(None):
            yield

    def begin(
        self, step: str, key: str, *, inputs: str | None = None, is_keyed: bool = False
    ) -> Call:
        """Number a call, at the time and in the context in which it is made.

        Raises:
            ReplayMismatch: one with this key of its own was made with other inputs.
        """
        parent, after = _place.get()
        within = parent.order if parent else 0
        if parent is not None and within == _UNDO and not is_keyed:
            key = digest(parent.key, key)
        with self._lock:
            known = self._find(None if is_keyed else within, key, -1 if is_keyed else after)
            if known is not None and is_keyed:
                _require_same(known, step, inputs)
            if known is None:
                self._last += 1
            order = known.order if known else self._last
            self._taken.setdefault(within, set()).add(order)
            record = None if known is None or known.outcome is Outcome.BEGUN else known
            return Call(order, parent, key, step, inputs, is_keyed, record)

    def _find(self, parent: int | None, key: str, after: int) -> Record | None:
        taken = self._taken.get(parent, ()) if parent is not None else ()
        orders = self._orders.get((parent, key), [])
        later = islice(orders, bisect_right(orders, after), None)
        known = (self._known[order] for order in later if order not in taken)
        if parent is None:  # of several tries of one call, the one that has come to something
            return min(known, key=lambda record: record.outcome is Outcome.BEGUN, default=None)
        return next(known, None)

    def is_ambiguous(self, call: Call) -> bool:
        """Whether a later attempt may mistake an earlier call for this new one.

        So it is when nothing but its place tells it from a call before the newest checkpoint: an
        attempt that continues from there, and skips what its state says is done, makes this call
        and gets the result of the other. Said once for each step.
        """
        within = call.parent.order if call.parent else 0
        with self._lock:
            if call.is_keyed or call.step in self._warned:
                return False
            first = next(iter(self._orders.get((within, call.key), [])), call.order)
            found = first < call.order and first <= self._saved
            if found:
                self._warned.add(call.step)
            return found

    def claim_name(self, step: str, function: Any) -> None:
        """Let a name stand for one function.

        Raises:
            ReplayMismatch: another one has been called under this name: what is recorded of one
                could be taken for the other's.
        """
        with self._lock:
            if self._functions.setdefault(step, function) != function:
                raise ReplayMismatch(
                    step,
                    "two functions are steps of this name in one flow, and what is recorded of one "
                    "could be taken for the other's. Give one of them another: @step(name=…).",
                )

    def to_undo(self) -> list[Record]:
        """What a roll-back has left to be undone, newest first."""
        return self._undo

    @contextmanager
    def undoing(self, record: Record) -> Iterator[None]:
        """Undo a call; what that calls has no part in the flow's own calls.

        The number of the call may be another's by now, so that the calls made here are told from
        others by their keys.
        """
        key = f"undo {record.order} {record.key} {record.at.isoformat()}"
        with _inside(Call(_UNDO, None, key, record.step)):
            yield

    def is_new(self, record: Record) -> bool:
        """Whether a call has come to this in this attempt, so that it may not be durable yet."""
        return self._recorded.get(record.order) is not record

    def saved(self) -> None:
        """A checkpoint is made just now."""
        with self._lock:
            self._saved = self._last

    @contextmanager
    def running(self, call: Call) -> Iterator[Record | None]:
        """Carry out a call, once more if it is tried again; what it calls is inside it.

        Yields:
            What is recorded of it by now: see `claim`.

        Raises:
            ReplayMismatch: another call with the same key of its own is being carried out.
        """
        known = self.claim(call)
        try:
            with _inside(call):
                yield known
        finally:
            self.release(call)

    def claim(self, call: Call) -> Record | None:
        """Begin to carry out a call, whoever does it; `release` it then.

        Returns:
            What is recorded of it by now: another call with the same key of its own may have
            returned since this one began.

        Raises:
            ReplayMismatch: another call with the same key of its own is being carried out.
        """
        with self._lock:
            if call.is_keyed:
                if call.key in self._running:
                    raise ReplayMismatch(
                        call.step,
                        "it is called twice at once with one key. A key stands for one call: put "
                        "what tells these two apart into it.",
                    )
                self._running.add(call.key)
            self._taken.pop(call.order, None)
            known = self._find(None, call.key, -1) if call.is_keyed else call.record
        return known if known and known.outcome is not Outcome.BEGUN else None

    def release(self, call: Call) -> None:
        """A call is not being carried out any more."""
        with self._lock:
            self._running.discard(call.key)

    def ended(self, call: Call, outcome: Outcome, **fields: Any) -> list[Record]:
        """What is to be recorded of a call: what it came to, and that those around it have begun.

        It may be said again, where recording it has failed. That a call has begun is recorded if
        nothing else is known of it.

        Args:
            call: The call.
            outcome: What it has come to.
            fields: Others of `Record`.
        """
        at = whole_milliseconds(datetime.now(UTC))
        with self._lock:
            if outcome is Outcome.BEGUN and call.order in self._noted:
                return []
            before = self._known.get(call.order)
            if before is not None and before.outcome is outcome is Outcome.DONE:
                at = before.at  # by which a roll-back knows it
            records = [_record(call, outcome, at, inputs=call.inputs, **fields)]
            around = call.parent
            while around is not None and around.order not in self._noted:
                records.insert(0, _record(around, Outcome.BEGUN, at))
                around = around.parent
            for record in records:
                self._noted.add(record.order)
                self._note(record)
        return records

    def rolled_back(self, call: Call) -> list[Record]:
        """What is to be recorded of a call that Prefect rolls back: it is undone.

        The next such call is a new one, also in this attempt. Returns nothing if it was undone.
        """
        with self._lock:
            known = self._known.get(call.order)
            if known is None or known.outcome is not Outcome.DONE:
                return []
            del self._known[call.order]
            for parent in (known.parent, None):
                self._orders[parent, known.key].remove(call.order)
            return [replace(known, outcome=Outcome.UNDONE, result=None, large=None)]


def _record(call: Call, outcome: Outcome, at: datetime, **fields: Any) -> Record:
    return Record(
        order=call.order,
        parent=call.parent.order if call.parent else 0,
        key=call.key,
        step=call.step,
        at=at,
        outcome=outcome,
        **fields,
    )


def _require_same(known: Record, step: str, inputs: str | None) -> None:
    if known.step != step:
        raise ReplayMismatch(step, f"its key is that of a recorded call of {known.step!r}.")
    if None not in (known.inputs, inputs) and known.inputs != inputs:
        raise ReplayMismatch(
            step,
            "it is called with other inputs than a recorded call with the same key. A key stands "
            "for one call: put what tells the two apart into it.",
        )
