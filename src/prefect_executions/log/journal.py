"""The journal: what steps have recorded, a line for each record: JSON, a tab, and the result.

The log keeps it beside the state (see `recorded`). It only grows, except by a roll-back, which
forgets what was recorded after its checkpoint. Each call has a number, its `order` among all calls,
and a later line with the same order replaces an earlier one. Calls that a roll-back has forgotten
are kept apart from the others, before and after they are undone, because the calls that replace
them get the same numbers. A note is what an adapter of an agent framework keeps beside the state.
It is no call, none replaces another, and a roll-back forgets those behind its checkpoint.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from prefect_executions import serialization

LARGE = 1 << 20  # bytes; a larger result is stored beside the journal, not in it
PAUSE = "pause"  # the step of a pause that asks nothing


class Outcome(StrEnum):
    """What became of a call."""

    DONE = "done"  # it returned: the record has its result
    UNKEPT = "unkept"  # it returned, and its result can't be kept: the record says why
    BEGUN = "begun"  # it has not returned, or it raised: it is called again
    WAITING = "waiting"  # it waits for a person or a time, or for an execution that it has begun
    UNDO = "undo"  # a roll-back has forgotten it, and it is to be undone
    UNDONE = "undone"  # it has been undone
    NOTE = "note"  # no call at all: what an adapter keeps beside the state, as `result`


_RETURNED = (Outcome.DONE, Outcome.UNKEPT)
_FORGOTTEN = (Outcome.UNDO, Outcome.UNDONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """Where a large result is stored: at the end of an entry of the log.

    Args:
        seq: The number of the entry.
        start: Where in the stored entry its zstd frame begins.
        stored: Bytes of the frame.
        size: Bytes of the result as JSON.
        sha256: Of the result as JSON, in hex.
    """

    seq: int
    start: int
    stored: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is recorded of one call of a step.

    Args:
        order: Its number among all calls, from 1, in the order in which they began.
        parent: The order of the call that it was made in, or 0 for the flow itself.
        key: Its identity, a digest.
        step: The name of the step.
        at: When it ended.
        outcome: What became of it.
        place: Its place among equal calls, from 1.
        under: The digest of the state under which it was made, or "" where that does not matter.
        inputs: The digest of its inputs, when the step has a key of its own.
        called_with: What people read of its inputs.
        pause_key: For a call that suspends the run: the key of the pause in Prefect.
        child: For a call of a flow that is an execution: that execution's id.
        undo: Whether it can be undone.
        function: When it can be undone: the name of the function, as `module:qualname`.
        undo_by: When it can be undone: the name of what undoes it.
        result: What it returned, as `serialization.dump` writes it: one line, as it becomes a part
            of one. None when it is large, or when the call did not return. When it can't be kept:
            the path and the problem.
        large: Where its result is stored when it is large.
        entry: For a note: the number of the entry that it was stored with.
    """

    order: int
    parent: int
    key: str
    step: str
    at: datetime
    outcome: Outcome
    place: int = 1
    under: str = ""
    inputs: str | None = None
    called_with: str = ""
    pause_key: str | None = None
    child: str | None = None
    undo: bool = False
    function: str | None = None
    undo_by: str | None = None
    result: bytes | None = None
    large: Large | None = None
    entry: int | None = None

    def to_line(self) -> bytes:
        """The record as it is stored, with a newline."""
        line: dict[str, Any] = {
            "n": self.order,
            "what": self.outcome.value,
            "step": self.step,
            "key": self.key,
            "at": serialization.timestamp(self.at),
        }
        if self.parent:
            line["in"] = self.parent
        if self.place != 1:
            line["place"] = self.place
        if self.under:
            line["under"] = self.under
        if self.inputs is not None:
            line["inputs"] = self.inputs
        if self.called_with:
            line["called_with"] = self.called_with
        if self.pause_key is not None:
            line["pause_key"] = self.pause_key
        if self.child is not None:
            line["child"] = self.child
        if self.undo:
            line["undo"] = True
        if self.function is not None:
            line["function"] = self.function
        if self.undo_by is not None:
            line["undo_by"] = self.undo_by
        if (large := self.large) is not None:
            line["large"] = [large.seq, large.start, large.stored, large.size, large.sha256]
        if self.entry is not None:
            line["entry"] = self.entry
        result = b"" if self.result is None else b"\t" + self.result
        return orjson.dumps(line) + result + b"\n"

    @classmethod
    def from_line(cls, data: bytes) -> "Record":
        """Undo `to_line`; the result is not looked at.

        Args:
            data: The line, with its newline or without.

        Raises:
            ValueError, KeyError, TypeError: the line is damaged.
        """
        head, tab, result = data.removesuffix(b"\n").partition(b"\t")
        line = serialization.load(head)
        large = None
        if "large" in line:
            seq, start, stored, size, sha256 = line["large"]
            large = Large(seq=seq, start=start, stored=stored, size=size, sha256=sha256)
        return cls(
            order=line["n"],
            parent=line.get("in", 0),
            key=line["key"],
            step=line["step"],
            at=datetime.fromisoformat(line["at"]),
            outcome=Outcome(line["what"]),
            place=line.get("place", 1),
            under=line.get("under", ""),
            inputs=line.get("inputs"),
            called_with=line.get("called_with", ""),
            pause_key=line.get("pause_key"),
            child=line.get("child"),
            undo=line.get("undo", False),
            function=line.get("function"),
            undo_by=line.get("undo_by"),
            result=result if tab else None,
            large=large,
            entry=line.get("entry"),
        )


def state_digest(state: bytes) -> str:
    """What a record has as `under`, of a saved state as JSON."""
    return serialization.digest(state)[:16]


def encode(records: Iterable[Record]) -> bytes:
    """Encode records as a journal, or as lines to append to one."""
    return b"".join(record.to_line() for record in records)


def decode(journal: bytes) -> dict[int, Record]:
    """Decode a journal: see `fold`.

    Raises:
        ValueError, KeyError, TypeError: the journal is damaged.
    """
    return fold(map(Record.from_line, lines_of(journal)))


def lines_of(journal: bytes) -> list[bytes]:
    """The lines of a journal, or of a part of it, without their newlines."""
    return journal.removesuffix(b"\n").split(b"\n") if journal else []


def fold(records: Iterable[Record]) -> dict[int, Record]:
    """The records of a journal by their order, and of several with one order the last.

    The records of forgotten calls (UNDO, UNDONE) come under the next higher numbers, the newest
    last, since other calls may have got their orders. So do notes, after them, which have none.
    """
    standing: dict[int, Record] = {}
    forgotten: dict[tuple[int, str, datetime], Record] = {}
    notes: list[Record] = []
    for record in records:
        if record.outcome is Outcome.NOTE:
            notes.append(record)
            continue
        call, before = _call(record), standing.get(record.order)
        if record.outcome in _FORGOTTEN:
            if before is not None and before.outcome is Outcome.DONE and _call(before) == call:
                del standing[record.order]
            forgotten[call] = record
        else:
            if record.outcome is Outcome.DONE:
                forgotten.pop(call, None)
            standing[record.order] = record
    rest = [*forgotten.values(), *notes]
    return standing | dict(enumerate(rest, max(standing, default=0) + 1))


def note(content: bytes, by: str = "") -> Record:
    """A note with this content, a JSON value in one line; the log says in which entry it is.

    Args:
        content: The value.
        by: Which adapter keeps it.
    """
    at = serialization.whole_milliseconds(datetime.now(UTC))
    return Record(order=0, parent=0, key="", step=by, at=at, outcome=Outcome.NOTE, result=content)


def forgotten(now: dict[int, Record], target: dict[int, Record]) -> list[Record]:
    """The steps that have returned and that a roll-back forgets, newest first.

    Pauses and questions are left out: they have had no effects.

    Args:
        now: The decoded journal of the head.
        target: The decoded journal of the checkpoint to roll back to.
    """
    done = _done(_kept(now, target))
    return [
        record
        for _, record in sorted(now.items(), reverse=True)
        if record.outcome in _RETURNED and record.pause_key is None and _call(record) not in done
    ]


def rolled_back(head: bytes, target: bytes) -> bytes:
    """Make the journal after a roll-back: that of the checkpoint, and what is to be undone.

    A roll-back can also go forward, to a checkpoint whose journal has a call as done that has been
    undone since: that call is not done.

    Args:
        head: The journal of the head.
        target: The journal of the checkpoint to roll back to.

    Raises:
        ValueError, KeyError, TypeError: a journal is damaged.
    """
    now = decode(head)
    kept = _kept(now, decode(target))
    done = _done(kept)
    due = [
        replace(record, outcome=Outcome.UNDO)
        for record in now.values()
        if _call(record) not in done
        and (record.outcome is Outcome.UNDO or (record.outcome is Outcome.DONE and record.undo))
    ]
    # By time, since calls in several branches of the history have the same order.
    due.sort(key=lambda record: (record.at, record.order))
    gone = [record for record in now.values() if record.outcome is Outcome.UNDONE]
    return encode([*kept, *gone, *due])


def _kept(now: dict[int, Record], target: dict[int, Record]) -> list[Record]:
    """The records of a checkpoint that stay after a roll-back to it.

    A question is asked again, even if it was answered. A pause that has ended is not repeated. An
    execution that was begun before the checkpoint is continued.
    """
    undone = {_call(record) for record in now.values() if record.outcome is Outcome.UNDONE}
    return [
        record
        for record in target.values()
        if record.outcome not in _FORGOTTEN
        and not (record.outcome is Outcome.DONE and _call(record) in undone)
        and not (
            record.outcome is Outcome.WAITING and record.child is None and record.step != PAUSE
        )
    ]


def _done(records: Iterable[Record]) -> set[tuple[int, str, datetime]]:
    return {_call(record) for record in records if record.outcome in _RETURNED}


def _call(record: Record) -> tuple[int, str, datetime]:
    """The identity of a call that has ended: the same in all of its records, and in no other."""
    return record.order, record.key, record.at
