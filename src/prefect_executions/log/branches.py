"""All that steps have recorded in a log, also on branches that roll-backs have left.

A roll-back takes what was recorded behind its checkpoint out of the journal. The entry before it
still has it. These entries are found by the attempts: each begins after the one before was fenced,
by a roll-back or by something else.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from prefect_executions.errors import CheckpointNotFound
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.reader import Head, LogReader

_RETURNED = (Outcome.DONE, Outcome.UNKEPT)
_TOLD = (*_RETURNED, Outcome.BEGUN)

Identity = tuple["Identity | None", str, int]


def all_records(log: LogReader, base: Head, newest: Head) -> list[Record]:
    """What steps had recorded by `base`, and of all other calls what the log has anywhere.

    Calls are the same by their identity: the call around them, their key, their place. They have
    the numbers that they had by `base`; other calls have numbers after those.

    Args:
        log: The log.
        base: The log as it was at a checkpoint.
        newest: Its head.

    Raises:
        CorruptEntry: an entry is damaged.
    """
    merged = _Merged(base.records())
    merged.add(newest.records())
    for seq in _left_behind(log, newest.entry):
        with suppress(CheckpointNotFound):  # it was pruned
            merged.add(log.after(seq).records())
    return merged.records


class _Merged:
    """Records of several journals of one log, each call once."""

    def __init__(self, records: dict[int, Record]) -> None:
        self._records = dict(records)
        self._orders: dict[Identity, int] = {}
        for order, identity in identities(records):
            self._orders.setdefault(identity, order)

    @property
    def records(self) -> list[Record]:
        return list(self._records.values())

    def add(self, records: dict[int, Record]) -> None:
        """Add the calls that are not known, and what those that only began have come to."""
        for order, identity in identities(records):
            record = records[order]
            if record.outcome not in _TOLD:
                continue
            known = self._orders.get(identity)
            if known is None:
                known = self._orders[identity] = max(self._records, default=0) + 1
            elif record.outcome is Outcome.BEGUN or self._records[known].outcome in _RETURNED:
                continue
            around = identity[0]
            parent = 0 if around is None else self._orders[around]
            self._records[known] = replace(record, order=known, parent=parent)


def identities(records: dict[int, Record]) -> Iterator[tuple[int, Identity]]:
    """The identities of calls by their numbers; a call comes after the one that it was made in."""
    found: dict[int, Identity] = {}
    for order in sorted(records):
        record = records[order]
        if record.outcome in (Outcome.UNDO, Outcome.UNDONE):
            continue
        if record.parent and record.parent not in found:
            continue  # what it was made in is forgotten
        around = found[record.parent] if record.parent else None
        found[order] = (around, record.key, record.place)
        yield order, found[order]


def _left_behind(log: LogReader, entry: Entry) -> Iterator[int]:
    """The numbers of the entries before roll-backs, newest first, as far as the log has them."""
    found: Entry | None = entry
    while found is not None:
        while found is not None and found.fenced:
            before = log.newest_until(found.seq - 1)
            if found.kind is Kind.ROLLBACK and before is not None:
                yield before.seq
            found = before
        if found is None or found.begun is None:
            return
        found = log.newest_until(found.begun - 1)
