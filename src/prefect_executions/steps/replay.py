"""Replay: which call of this attempt is which call that an earlier attempt has recorded.

A flow's function runs from its beginning in every attempt, and calls its steps again.

* Different calls are known by themselves: by the call that they are made in, the step, and the
  inputs or the key. Their order does not matter.
* Equal calls have places: the n-th that an attempt begins takes what is recorded in place n. A call
  that raises gives its place to the next equal call, so a loop of tries is one place. A record with
  a result comes before the records of tries that have none.
* A call with a key of its own is the same one wherever it is made.

Where a place could give a result to the wrong call, `AmbiguousCall` is raised before anything is
done, in the first ordinary run: for an equal call after the saved state has changed, for a changed
state while only some of several equal calls have returned, and for an equal call whose turn depends
on which of the calls in flight ends first.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prefect_executions.errors import AmbiguousCall, ReplayMismatch
from prefect_executions.log.journal import Outcome, Record, state_digest
from prefect_executions.serialization import digest, whole_milliseconds
from prefect_executions.steps.places import (
    BETWEEN,
    OTHER_QUESTION,
    OTHER_STATE,
    OTHER_TURN,
    READY_IN_TURN,
    STEP,
    CallsInFlight,
    EqualCalls,
)
from prefect_executions.steps.records import Records


@dataclass(frozen=True, slots=True)
class Call:
    """One call of this attempt.

    Args:
        order: Its number among all calls.
        parent: The call that it was made in, or None for the flow itself.
        key: Its identity.
        step: The name of what is called.
        place: Its place among equal calls, from 1.
        under: The digest of the state under which it was made.
        inputs: The digest of its inputs when it has a key of its own, if they have one.
        is_keyed: Whether it has a key of its own.
        way_out: What tells it from equal calls.
        record: What an earlier attempt has recorded: that it returned, or that it waits.
    """

    order: int
    parent: "Call | None"
    key: str
    step: str
    place: int = 1
    under: str = ""
    inputs: str | None = None
    is_keyed: bool = False
    way_out: str = STEP
    record: Record | None = None

    @property
    def within(self) -> int:
        """The order of the call that it was made in, or 0 for the flow itself."""
        return self.parent.order if self.parent else 0


_UNDO = 0  # in place of the order of the call that code is in, while a call is undone

_caller: ContextVar[Call | None] = ContextVar("caller_in_execution", default=None)


_scope: ContextVar[Callable[[], str | None] | None] = ContextVar("scope_of_calls", default=None)


@contextmanager
def scoped(scope: Callable[[], str | None]) -> Iterator[None]:
    """Tell apart equal calls that a framework makes in different places of its own.

    Args:
        scope: Returns the name of the place that the code is in which makes a call without a key,
            the same in each attempt; None outside of all places.
    """
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def _inside(call: Call | None) -> Iterator[None]:
    token = _caller.set(call)
    try:
        yield
    finally:
        _caller.reset(token)


class Replay:
    """The calls of one attempt, matched with those that earlier ones have recorded.

    Args:
        records: What has been recorded, by the orders of the calls.
        state: The state that the attempt continues from, encoded.

    Attributes:
        records: What is recorded of the calls.
    """

    def __init__(self, records: dict[int, Record], state: bytes = b"") -> None:
        self.records = Records(records)
        self._lock = threading.Lock()
        self._in_flight = CallsInFlight[Call]()
        self._running: set[str] = set()
        self._promised = 0
        self._state = state
        self._under: str | None = None  # the digest of the state, once it is needed

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Carry out the flow's function."""
        try:
            with _inside(None):
                yield
        finally:
            with self._lock:
                self._in_flight.clear()

    # ------------------------------------------------------------------ which call it is

    def begin(
        self,
        step: str,
        key: str,
        *,
        inputs: str | None = None,
        is_keyed: bool = False,
        state: bytes | None = None,
        submitted: int | None = None,
        way_out: str = STEP,
    ) -> Call:
        """Identify a call, at the time and in the context in which it is made.

        Args:
            step: The name of what is called.
            key: Its identity.
            inputs: The digest of its inputs when it has a key of its own.
            is_keyed: Whether it has a key of its own.
            state: The state that it saves, for a pause or a question.
            submitted: When it was submitted, if it waited for its inputs since; see `promise`.
            way_out: What tells it from equal calls.

        Raises:
            AmbiguousCall: A later attempt could take an equal call for this one, or this attempt
                can't tell which of them it is.
            ReplayMismatch: Its key of its own is recorded with other inputs.
        """
        parent = _caller.get()
        if parent is not None and parent.order == _UNDO and not is_keyed:
            key = digest(parent.key, key)
        scope = _scope.get()
        if parent is None and not is_keyed and scope is not None and (place := scope()):
            key = digest(place, key)
        with self._lock:
            under = self._digest() if state is None else state_digest(state)
            call = Call(0, parent, key, step, 1, under, inputs, is_keyed, way_out)
            if is_keyed:
                known = self.records.keyed(key)
                if known is not None:
                    _require_same(known, step, inputs)
                return self._made(replace(call, under=""), known)
            equal = self.records.equals(call.within, key)
            call = replace(call, place=equal.next_place())
            known = self.records.in_place(equal, call.place)
            if equal.may_swap(submitted):
                raise AmbiguousCall(step, READY_IN_TURN, way_out)
            self._require_clear(call, equal, known)
            equal.take_place()
            equal.has_waited |= submitted is not None
            return self._made(call, known)

    def promise(self, step: str) -> tuple[Call, int]:
        """Note that a call is submitted that `begin` can identify only when its inputs are ready.

        Returns:
            What is in flight until the flow has the call's result, and when it was submitted.
        """
        parent = _caller.get()
        with self._lock:
            self._promised -= 1
            call = Call(self._promised, parent, "", step, is_keyed=True)
            return call, self._in_flight.add(call.within, call.order, call)

    def again(self, calls: list[Call]) -> Call | None:
        """Make one of some calls again, with what is recorded of it by now.

        Args:
            calls: Calls with one identity, of an earlier try of the task that this code is in. One
                that has returned comes first.
        """
        parent = _caller.get()
        within = parent.order if parent else 0
        with self._lock:
            here = [call for call in calls if call.within == within]
            if not here:
                return None
            call = min(here, key=lambda call: self.records.result_of(call.order) is None)
            equal = self.records.equals(within, call.key)
            if call.place in equal.freed:
                equal.freed.remove(call.place)
            call = replace(call, record=self.records.result_of(call.order))
            self._in_flight.add(within, call.order, call)
            return call

    def _made(self, call: Call, known: Record | None) -> Call:
        """The call with its number and its record; from now on it is in flight."""
        if known is None:
            self.records.last += 1
        order = known.order if known else self.records.last
        record = None if known is None or known.outcome is Outcome.BEGUN else known
        made = replace(call, order=order, record=record)
        if record is not None:
            made = replace(made, under=record.under)
        time = self._in_flight.add(call.within, order, made)
        if not call.is_keyed:
            equal = self.records.equals(call.within, call.key)
            equal.taken.add(order)
            equal.made.append(time)
            if record is None:
                equal.unders[call.under] += 1
        return made

    # ------------------------------------------------------------------ what is ambiguous

    def _require_clear(self, call: Call, equal: EqualCalls, known: Record | None) -> None:
        """Check that an equal call can be distinguished from others, now and in later attempts."""
        is_new = known is None or known.outcome is Outcome.BEGUN
        if is_new and equal.has_other_state(call.under):
            raise AmbiguousCall(call.step, OTHER_STATE, call.way_out)
        asks = known is not None and known.outcome is Outcome.WAITING and known.child is None
        if known is not None and asks and known.under not in ("", call.under):
            raise AmbiguousCall(call.step, OTHER_QUESTION, call.way_out)
        if equal.has_turned(self._in_flight.races(call.within)):
            raise AmbiguousCall(call.step, OTHER_TURN, call.way_out)

    def _digest(self) -> str:
        if self._under is None:
            self._under = state_digest(self._state)
        return self._under

    def saved(self, state: bytes) -> None:
        """Note that a state is saved or published just now.

        Raises:
            AmbiguousCall: The state is another one, and of several equal calls some have returned
                and some have not: an attempt that continues from here could mistake them.
        """
        with self._lock:
            if state == self._state:
                return
            for call in self._in_flight:
                if not call.is_keyed and self.records.equals(call.within, call.key).given:
                    raise AmbiguousCall(call.step, BETWEEN, call.way_out)
            self._state, self._under = state, None

    # ------------------------------------------------------------------ what became of a call

    def given(self, call: Call, *, in_turn: bool = False) -> None:
        """Note that the flow has the result of a call.

        Args:
            call: The call.
            in_turn: Whether its caller waited for it alone, so that no other could return first.
        """
        with self._lock:
            found = self._in_flight.remove(call.within, call.order, in_turn=in_turn)
            if found and not call.is_keyed:
                self.records.equals(call.within, call.key).given += 1

    def raised(self, call: Call, *, in_turn: bool = False) -> None:
        """Note that the flow knows that a call has raised: the next equal one gets its place."""
        with self._lock:
            found = self._in_flight.remove(call.within, call.order, in_turn=in_turn)
            if found and not call.is_keyed:
                equal = self.records.equals(call.within, call.key)
                equal.freed.append(call.place)
                equal.raised_at = self._in_flight.time
                known = self.records.of(call.order)
                if known is not None and known.outcome in (Outcome.UNKEPT, Outcome.WAITING):
                    # The next equal call raises the same, or continues the same execution.
                    equal.taken.discard(call.order)
                elif call.record is None:
                    equal.unders[call.under] -= 1

    @contextmanager
    def undoing(self, record: Record) -> Iterator[None]:
        """Undo a call; what that calls has no part in the flow's own calls.

        The number of the call may be another's by now, so the calls made here are distinguished
        from others by their keys.
        """
        key = f"undo {record.order} {record.key} {record.at.isoformat()}"
        with _inside(Call(_UNDO, None, key, record.step)):
            yield

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
            self.records.begin_again(call.order)
            self._in_flight.clear(call.order)
            known = self.records.keyed(call.key) if call.is_keyed else call.record
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
            if outcome is Outcome.BEGUN and call.order in self.records.noted:
                return []
            before = self.records.of(call.order)
            if before is not None and before.outcome is outcome is Outcome.DONE:
                at = before.at  # by which a roll-back knows it
            records = [_record(call, outcome, at, inputs=call.inputs, **fields)]
            around = call.parent
            while around is not None and around.order not in self.records.noted:
                records.insert(0, _record(around, Outcome.BEGUN, at))
                around = around.parent
            for record in records:
                self.records.note(record)
        return records

    def rolled_back(self, call: Call) -> list[Record]:
        """What is to be recorded of a call that Prefect rolls back: it is undone.

        The next equal call has its place, and runs. Calls around it that have returned have only
        begun now: they are carried out again, to make it again. Returns nothing if it was undone.
        """
        with self._lock:
            known = self.records.of(call.order)
            if known is None or known.outcome is not Outcome.DONE:
                return []
            self.records.remove(known)
            gone = [replace(known, outcome=Outcome.UNDONE, result=None, large=None)]
            around = call.parent
            while around is not None:
                returned = self.records.of(around.order)
                if returned is not None and returned.outcome is Outcome.DONE:
                    gone.append(self.records.reopen(returned))
                around = around.parent
            return gone


def _record(call: Call, outcome: Outcome, at: datetime, **fields: Any) -> Record:
    return Record(
        order=call.order,
        parent=call.within,
        key=call.key,
        step=call.step,
        at=at,
        outcome=outcome,
        place=call.place,
        under=call.under,
        **fields,
    )


def _require_same(known: Record, step: str, inputs: str | None) -> None:
    if known.step != step:
        raise ReplayMismatch(step, f"its key is that of a recorded call of {known.step!r}.")
    if None not in (known.inputs, inputs) and known.inputs != inputs:
        raise ReplayMismatch(
            step,
            "it is called with other inputs than a recorded call with the same key. A key stands "
            "for one call: put what distinguishes the two into it.",
        )
