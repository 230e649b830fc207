"""What the journal has of the calls of an execution, and where it is looked up."""

from dataclasses import replace

from prefect_executions.log.journal import Outcome, Record
from prefect_executions.steps.places import EqualCalls

_COUNTED = (Outcome.DONE, Outcome.UNKEPT, Outcome.WAITING)


class Records:
    """The records of an execution, those of this attempt too, by their numbers, keys and places.

    Args:
        recorded: What has been recorded before this attempt, by the orders of the calls.

    Attributes:
        noted: The numbers that the journal has, and 0 for the flow itself.
        last: The highest number.
        to_undo: What a roll-back has left to be undone, newest first.
    """

    def __init__(self, recorded: dict[int, Record]) -> None:
        calls = (item for item in recorded.items() if item[1].outcome is not Outcome.NOTE)
        self._recorded = dict(calls)
        self.noted = {0, *self._recorded}
        self.last = max(self._recorded, default=0)
        self._known: dict[int, Record] = {}
        self._keyed: dict[str, list[int]] = {}
        self._equal: dict[int, dict[str, EqualCalls]] = {}  # by the call around them, and their key
        for record in self._recorded.values():
            self.note(record)
            if record.outcome in _COUNTED:
                self.equals(record.parent, record.key).unders[record.under] += 1
        undo = [known for known in self._recorded.values() if known.outcome is Outcome.UNDO]
        self.to_undo = undo[::-1]

    def equals(self, within: int, key: str) -> EqualCalls:
        """The calls with this key that are made in one call, which is given by its number."""
        return self._equal.setdefault(within, {}).setdefault(key, EqualCalls())

    def begin_again(self, within: int) -> None:
        """Forget which calls were made in a call, since it is carried out again."""
        for equal in self._equal.get(within, {}).values():
            equal.begin_again()

    def note(self, record: Record) -> None:
        """Add a record, or replace the one with its number."""
        if record.outcome in (Outcome.UNDO, Outcome.UNDONE):
            return
        if record.order not in self._known:
            recorded = self.equals(record.parent, record.key).recorded
            recorded.setdefault(record.place, []).append(record.order)
            self._keyed.setdefault(record.key, []).append(record.order)
        self._known[record.order] = record
        self.noted.add(record.order)

    def remove(self, record: Record) -> None:
        """Take a record out; the next equal call has its place."""
        del self._known[record.order]
        equal = self.equals(record.parent, record.key)
        equal.recorded[record.place].remove(record.order)
        equal.unders[record.under] -= 1
        equal.freed.append(record.place)
        self._keyed[record.key].remove(record.order)

    def reopen(self, record: Record) -> Record:
        """Replace the record of a call that has returned: it is carried out again.

        It keeps its number, by which what it has called is found.
        """
        begun = replace(
            record,
            outcome=Outcome.BEGUN,
            result=None,
            large=None,
            undo=False,
            function=None,
            undo_by=None,
        )
        self._known[record.order] = begun
        equal = self.equals(record.parent, record.key)
        equal.unders[record.under] -= 1
        equal.taken.discard(record.order)
        equal.freed.append(record.place)
        return begun

    def of(self, order: int) -> Record | None:
        """The record with this number."""
        return self._known.get(order)

    def result_of(self, order: int) -> Record | None:
        """The record with this number, if it is more than that the call has begun."""
        record = self._known.get(order)
        return None if record is None or record.outcome is Outcome.BEGUN else record

    def keyed(self, key: str) -> Record | None:
        """The record of a key; of several tries the one that has a result."""
        known = (self._known[order] for order in self._keyed.get(key, ()))
        return min(known, key=lambda record: record.outcome is Outcome.BEGUN, default=None)

    def in_place(self, equal: EqualCalls, place: int) -> Record | None:
        """The record in a place: the one with a result, or the first try that was not taken."""
        here = [
            self._known[order]
            for order in sorted(equal.recorded.get(place, ()))
            if order not in equal.taken
        ]
        return min(here, key=lambda record: record.outcome is Outcome.BEGUN, default=None)

    def is_new(self, record: Record) -> bool:
        """Whether a call has come to this in this attempt, so that it may not be durable yet."""
        return self._recorded.get(record.order) is not record
