"""The journal: what steps have recorded, a line of JSON each, beside the state in the log.

It only grows, but for a roll-back, which forgets what was recorded behind its checkpoint. A call
has a number, its `order` among all calls; a later line with the same order replaces an earlier one.
Calls that a roll-back has forgotten are remembered apart from these until they are undone, and
after: the calls that take their place get their numbers, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from prefect_executions import serialization

LARGE = 1 << 20  # bytes; a result over this stands beside the journal, not in it


class Outcome(StrEnum):
    """What became of a call."""

    DONE = "done"  # it returned: its result is here
    BEGUN = "begun"  # it has not returned, or it raised: it is called again when it comes to it
    WAITING = "waiting"  # it has suspended the run, and waits for a person or a time
    UNDO = "undo"  # a roll-back has forgotten it, and it is to be undone
    UNDONE = "undone"  # it was; all else in the record is as it was


PAUSE = "pause"  # the step of a pause in which nothing is asked

_FORGOTTEN = (Outcome.UNDO, Outcome.UNDONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """Where a large result is: in an entry of the log, after all else.

    Args:
        seq: The entry.
        index: Which of its large results.
        size: Its bytes as JSON.
        sha256: Of the result as JSON, in hex.
    """

    seq: int
    index: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one call has come to.

    Args:
        order: Its number among all calls, from 1, in the order in which they began.
        parent: The order of the call that it was made in; 0: the flow itself.
        key: Its identity, a digest.
        step: The name of what was called.
        at: When it ended.
        outcome: What became of it.
        inputs: For a call with a key of its own: the digest of its inputs.
        pause_key: Of a call that suspends the run: the key of the pause in Prefect.
        undo: Whether it can be undone.
        function: Of one that can be undone: the qualified name of the function.
        result: What it returned, as `codec.dump` writes it (in one line: it becomes part of one);
            None if that is large, or if it did not return.
        large: Where its result is, if that is large.
    """

    order: int
    parent: int
    key: str
    step: str
    at: datetime
    outcome: Outcome
    inputs: str | None = None
    pause_key: str | None = None
    undo: bool = False
    function: str | None = None
    result: bytes | None = None
    large: Large | None = None

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
        if self.inputs is not None:
            line["inputs"] = self.inputs
        if self.pause_key is not None:
            line["pause_key"] = self.pause_key
        if self.undo:
            line["undo"] = True
        if self.function is not None:
            line["function"] = self.function
        if self.result is not None:
            line["result"] = orjson.Fragment(self.result)
        if (large := self.large) is not None:
            line["large"] = [large.seq, large.index, large.size, large.sha256]
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, data: bytes) -> "Record":
        """Undo `to_line`.

        Raises:
            ValueError, KeyError, TypeError: the line is damaged.
        """
        line = serialization.load(data)
        large = None
        if "large" in line:
            seq, index, size, sha256 = line["large"]
            large = Large(seq=seq, index=index, size=size, sha256=sha256)
        return cls(
            order=line["n"],
            parent=line.get("in", 0),
            key=line["key"],
            step=line["step"],
            at=datetime.fromisoformat(line["at"]),
            outcome=Outcome(line["what"]),
            inputs=line.get("inputs"),
            pause_key=line.get("pause_key"),
            undo=line.get("undo", False),
            function=line.get("function"),
            result=orjson.dumps(line["result"]) if "result" in line else None,
            large=large,
        )


def encode(records: Iterable[Record]) -> bytes:
    """Records as a journal, or as what is appended to one."""
    return b"".join(record.to_line() for record in records)


def decode(journal: bytes) -> dict[int, Record]:
    """The records of a journal by their order; of several with the same order, the last.

    Those of forgotten calls (UNDO, UNDONE) follow under the next higher numbers, the newest last:
    their own orders may have been given to other calls since.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
    """
    standing: dict[int, Record] = {}
    forgotten: dict[tuple[int, str, datetime], Record] = {}
    for record in map(Record.from_line, journal.splitlines()):
        call, before = _call(record), standing.get(record.order)
        if record.outcome in _FORGOTTEN:
            if before is not None and before.outcome is Outcome.DONE and _call(before) == call:
                del standing[record.order]
            forgotten[call] = record
        else:
            if record.outcome is Outcome.DONE:
                forgotten.pop(call, None)
            standing[record.order] = record
    return standing | dict(enumerate(forgotten.values(), max(standing, default=0) + 1))


def behind(head: bytes, target: bytes) -> list[Record]:
    """The steps that were done and that a roll-back would forget, newest first.

    Pauses and questions are no steps: they have had no effects.

    Args:
        head: The journal in force.
        target: The journal of the checkpoint to go back to.
    """
    return forgotten(decode(head), decode(target))


def forgotten(now: dict[int, Record], target: dict[int, Record]) -> list[Record]:
    """`behind`, of journals that are decoded."""
    done = _done(_kept(now, target))
    return [
        record
        for _, record in sorted(now.items(), reverse=True)
        if record.outcome is Outcome.DONE and record.pause_key is None and _call(record) not in done
    ]


def rolled_back(head: bytes, target: bytes) -> bytes:
    """The journal after a roll-back.

    It is that of the checkpoint, and says of what was done since which calls are to be undone. What
    has been undone before (a roll-back may lead forward, too) is not done any more.

    Args:
        head: The journal in force.
        target: The journal of the checkpoint to go back to.
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
    # By time: calls of several branches of the history have the same orders.
    due.sort(key=lambda record: (record.at, record.order))
    gone = [record for record in now.values() if record.outcome is Outcome.UNDONE]
    return encode([*kept, *gone, *due])


def _kept(now: dict[int, Record], target: dict[int, Record]) -> list[Record]:
    """The records of a checkpoint that hold after a roll-back to it.

    A question is asked anew, whatever was answered; a pause that has ended since is over.
    """
    undone = {_call(record) for record in now.values() if record.outcome is Outcome.UNDONE}
    return [
        record
        for record in target.values()
        if record.outcome not in _FORGOTTEN
        and not (record.outcome is Outcome.DONE and _call(record) in undone)
        and not (record.outcome is Outcome.WAITING and record.step != PAUSE)
    ]


def _done(records: Iterable[Record]) -> set[tuple[int, str, datetime]]:
    return {_call(record) for record in records if record.outcome is Outcome.DONE}


def _call(record: Record) -> tuple[int, str, datetime]:
    """What is the same in all records of one call that has ended, and in no other's."""
    return record.order, record.key, record.at
