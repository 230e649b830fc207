"""The places of equal calls, and the calls in flight beside them."""

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

C = TypeVar("C")

# What tells equal calls apart, by what is called.
STEP = (
    "Give it a key, or an input that tells the calls apart; or let equal calls be one, with "
    "@step(repeats='reuse')."
)
QUESTION = "Give it another text each time, or a key, as in run.ask(…, key=…) or run.pause(key=…)."
FLOW = "Give it an input that tells the calls apart."

# Why a call is ambiguous.
OTHER_STATE = (
    "an equal call was made before the saved state changed, and an attempt that continues from the "
    "new state could take the result of that one for this one."
)
OTHER_QUESTION = (
    "an equal one was made under another state, and its answer could be meant for this one or for "
    "that one."
)
OTHER_TURN = (
    "an equal call was made after one of two calls in flight had returned, and before the other: "
    "in another attempt they may return in another order."
)
READY_IN_TURN = (
    "it is equal to another one, and one of the two is made when the future of a plain task among "
    "its inputs is ready: in another attempt they may be made in another order."
)
BETWEEN = (
    "of several equal calls some have returned and some have not, while the state is saved: an "
    "attempt that continues from it could take the result of one for another."
)


@dataclass
class EqualCalls:
    """Equal calls that were made in one call, in this attempt and before.

    Args:
        recorded: The orders of their records, by their places.
        unders: Under which states those were made that have not raised, counted.
        last: The last place of this attempt.
        freed: The places of calls that raised or were rolled back, where they are not taken again.
        taken: The orders that calls of this attempt have.
        made: When the calls of this attempt were made.
        given: How many of them have returned.
        raised_at: When the last one of them raised.
        has_waited: Whether one of them was made when its inputs were ready.
    """

    recorded: dict[int, list[int]] = field(default_factory=dict)
    unders: Counter[str] = field(default_factory=Counter)
    last: int = 0
    freed: list[int] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    made: list[int] = field(default_factory=list)
    given: int = 0
    raised_at: int = 0
    has_waited: bool = False

    def next_place(self) -> int:
        """The place of the next call: the first that is free again, or a new one."""
        return min(self.freed) if self.freed else self.last + 1

    def take_place(self) -> None:
        """Give the next place to a call."""
        if self.freed:
            self.freed.remove(min(self.freed))
        else:
            self.last += 1

    def begin_again(self) -> None:
        """Forget this attempt's calls, since the call around them is carried out again."""
        self.last, self.given, self.freed, self.taken, self.made = 0, 0, [], set(), []
        self.raised_at, self.has_waited = 0, False

    def has_other_state(self, under: str) -> bool:
        """Whether any of them that has not raised was made under another state."""
        return any(count and other not in ("", under) for other, count in self.unders.items())

    def may_swap(self, submitted: int | None) -> bool:
        """Whether the order of the next call and one before depends on when inputs are ready.

        Args:
            submitted: When the next call was submitted, if it waited for its inputs since.
        """
        if submitted is None:
            return self.has_waited and self.are_made()
        return self.are_made() or self.raised_at > submitted

    def are_made(self) -> bool:
        """Whether this attempt has made any of them that has not raised."""
        return self.last > len(self.freed)

    def has_turned(self, races: Iterable[tuple[int, int]]) -> bool:
        """Whether one of them was made while it was open which of two calls returns first.

        Args:
            races: When one of two calls in flight returned, and when the other did.
        """
        return bool(self.made) and any(
            bisect(self.made, first) < bisect(self.made, second) for first, second in races
        )


@dataclass
class _Flight(Generic[C]):
    call: C
    beaten: int | None = None  # when another call in flight has returned before it


class CallsInFlight(Generic[C]):
    """The calls that were made and have not returned, by the call around them and their order.

    Attributes:
        time: When the last call was made or has returned: a number that grows.
    """

    def __init__(self) -> None:
        self._calls: dict[int, dict[int, _Flight[C]]] = {}
        self._unbeaten: dict[int, list[_Flight[C]]] = {}
        self._races: dict[int, list[tuple[int, int]]] = {}
        self.time = 0

    def add(self, within: int, order: int, call: C) -> int:
        """Note that a call was made. Returns when: a number that grows."""
        self.time += 1
        flight = _Flight(call)
        self._calls.setdefault(within, {})[order] = flight
        self._unbeaten.setdefault(within, []).append(flight)
        return self.time

    def remove(self, within: int, order: int, *, in_turn: bool) -> bool:
        """Note that a call has returned. Returns whether it was in flight.

        Args:
            within: The order of the call around it.
            order: Its order.
            in_turn: Whether its caller waited for it alone, so that no other could return first.
        """
        flight = self._calls.get(within, {}).pop(order, None)
        if flight is None:
            return False
        self.time += 1
        if flight.beaten is not None:
            self._races.setdefault(within, []).append((flight.beaten, self.time))
        unbeaten = self._unbeaten.get(within)
        if unbeaten and unbeaten[-1] is flight:
            unbeaten.pop()
        if not in_turn:
            for other in self._unbeaten.pop(within, ()):
                other.beaten = self.time
        return True

    def races(self, around: int) -> list[tuple[int, int]]:
        """When one of two calls in flight returned, and when the other did."""
        return self._races.get(around, [])

    def clear(self, around: int | None = None) -> None:
        """Forget the calls made in a call, which is carried out again; or all calls."""
        if around is None:
            self._calls.clear()
        else:
            for of in (self._calls, self._unbeaten, self._races):
                of.pop(around, None)

    def __iter__(self) -> Iterator[C]:
        return iter([flight.call for calls in self._calls.values() for flight in calls.values()])
