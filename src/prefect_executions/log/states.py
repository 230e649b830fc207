"""States: each entry stores its own as the change against that of an earlier entry.

If all were stored in full, a log would grow with the square of its length. If each were a change of
the entry before it, the newest one could only be read by reading the whole log. So entries stand in
rows of eight. The base of the first of a row is the entry whose number has not its lowest bit
(skip-deltas, as in Subversion), that of the others the entry before:

    entry   7  8  9 10 …  16  17 …  24  25 …  32  33 …  40
    base    6  0  8  9     0  16    16  24     0  32    32

A state is thus made from no more than log2(n) + 5 entries (`bases`), which are read in one parallel
round of requests. The newest entry and its bases are all that the next entry can need as its base,
and mostly that is the newest itself, whose state a writer has at hand. A state is stored in full
when it has no base, and when the change is not much smaller.

A claim (see `claims`) has no state. In its stead the next of the bases that is none is the base, so
that they are the same entries still, or fewer.
"""

from collections.abc import Mapping

from prefect_executions.log.changes import Change
from prefect_executions.log.entry import Entry
from prefect_executions.log.parts import Part, bases

_KEEP = 4 << 20  # bytes; a larger state is made again from its entries when it is a base
_TRY_FULL = 16  # a change under 1/16 of its state is taken without trying the full one


class State:
    """A state, as the change against another one or in full; it is made when it is needed.

    Several entries share it when those after the first leave it as it is.

    Args:
        size: Bytes of it as JSON.
        change: How it is stored; None if it is yet to be.
        base: What it is the change against, or None when it stands alone.
        data: The state, if it is known.
    """

    def __init__(
        self,
        size: int,
        change: Change | None = None,
        base: "State | None" = None,
        data: bytes | None = None,
    ) -> None:
        self.size = size
        self._stored = None if change is None else (base, change)
        self._data = data
        self._changes: dict[State, tuple[State | None, Change]] = {}  # by what they are against

    @property
    def data(self) -> bytes:
        """It as JSON; kept if it is small.

        Raises:
            ValueError: a frame is damaged, or is the change against something else.
        """
        if self._data is not None:
            return self._data
        chain: list[State] = []
        state: State | None = self
        while state is not None and state._data is None:
            chain.append(state)
            state = state._base
        made = [b"" if state is None or state._data is None else state._data]
        for state in reversed(chain):
            assert state._stored is not None
            # Nothing here holds the base any more when a large state has been made from it.
            made.append(state._stored[1].applied(made.pop(), state.size))
            if state.size <= _KEEP:
                state._data = made[0]
        return made[0]

    @property
    def _base(self) -> "State | None":
        return None if self._stored is None else self._stored[0]

    def keep(self) -> bytes:
        """Make it, and keep it however large it is, as the newest of a log."""
        self._data = self.data
        return self._data

    def release(self) -> None:
        """Let go of it if it is large: there is a newer one."""
        if self.size > _KEEP and self._stored is not None:
            self._data = None

    def against(self, base: "State | None") -> tuple["State | None", Change]:
        """How it is to be stored, and what that is the change against: `base`, or nothing.

        It is made once, so that an entry which leaves the state as it is costs nothing.
        """
        if base is None:
            found = self._stored if self._stored and self._stored[0] is None else self._alone()
        elif base in self._changes:
            found = self._changes[base]
        else:
            found = self._changes[base] = self._change(base)
        if self._stored is None:
            self._stored = found
        return found

    def _alone(self) -> tuple[None, Change]:
        return None, Change.between(b"", self.data)

    def _change(self, base: "State") -> tuple["State | None", Change]:
        if self._stored is not None and self._stored[0] is base:
            return self._stored
        change = Change.between(base.data, self.data)
        if _TRY_FULL * len(change.frame) > self.size:
            alone = self._alone()
            if 2 * len(change.frame) >= len(alone[1].frame):
                return alone
        return base, change


def stored(state: State, seq: int, states: Mapping[int, State]) -> Part:
    """How entry `seq` stores a state.

    Args:
        state: The state.
        seq: The number of the entry.
        states: Those of the entries before it that can be its base; claims are not among them.
    """
    number = next((number for number in bases(seq)[1:] if number in states), None)
    base = None if number is None else states[number]
    if base is state:
        return Part(base=number, size=state.size)
    against, change = state.against(base)
    number = None if against is None else number
    return Part(
        base=number,
        size=state.size,
        kept=change.kept,
        crc=change.crc,
        payload=change.frame,
    )


class States:
    """The states of entries that were read, by the numbers of the entries.

    Args:
        entries: The entries.
        known: States of others that are known.
    """

    def __init__(
        self, entries: Mapping[int, Entry], known: Mapping[int, State] | None = None
    ) -> None:
        self._entries = entries
        self._made = dict(known or {})

    def chain(self, seq: int) -> dict[int, State]:
        """The states of an entry, which is made, and of those of its bases that are no claims.

        Raises:
            KeyError: the number of an entry that is missing.
            ValueError: see `State.data`.
        """
        self[seq].keep()
        there = self._made.keys() | {n for n, entry in self._entries.items() if entry.state}
        return {number: self[number] for number in bases(seq) if number in there}

    def __getitem__(self, seq: int) -> State:
        """The state after an entry.

        Raises:
            KeyError: the number of an entry that is missing; it may be one of the bases.
        """
        if seq not in self._made:
            part = self._entries[seq].state
            if part is None:
                raise KeyError(seq)
            if part.base is not None and not part.payload:
                self._made[seq] = self[part.base]
            else:
                base = None if part.base is None else self[part.base]
                change = Change(part.payload, part.kept, part.crc)
                self._made[seq] = State(part.size, change, base)
        return self._made[seq]
