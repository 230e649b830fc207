"""Small entries that later ones repeat, so that the newest checkpoints are read from few objects.

A reader of the newest entry fetches those that its state is made from (see `states`). Each of these
repeats the small ones between itself and its base, but no more than 128. So what the reader has at
hand then are the newest 128 entries at least, as far as they are small, without a request for each:

    entry     1 … 7  8  9 … 15  16  17 … 23  24
    repeats          1 … 7      1 … 15       17 … 23

What is repeated is an entry's header and state, not what steps have recorded. An entry is repeated
by three others, as a rule. It is small if its header has 640 bytes and its state 160 at the most.

An entry that was removed is repeated by others still. So nothing is read from repetitions once any
entry of a log has been removed: `pruning` leaves a mark before.
"""

import logging
from collections.abc import Iterable, Mapping

from prefect_executions import serialization
from prefect_executions.log.entry import Entry
from prefect_executions.log.parts import ROW, base_of, bases
from prefect_executions.log.zstd import compress, frames

logger = logging.getLogger(__name__)

REACH = 128  # entries, over which repetitions reach back
_HEADER, _STATE = 640, 160  # bytes of a small entry


def between(seq: int) -> range:
    """The numbers of the entries that entry `seq` repeats if they are small."""
    return range(max(base_of(seq), seq - REACH) + 1, seq) if seq else range(0)


def beginning_if_small(entry: Entry) -> dict[int, bytes]:
    """The header and the state of an entry as later ones repeat them, by its number; or nothing."""
    state = len(entry.state.payload) if entry.state else 0
    if state > _STATE:
        return {}
    beginning = entry.beginning()
    return {entry.seq: beginning} if len(beginning) <= _HEADER + state else {}


def repetition(seq: int, small: Mapping[int, bytes]) -> bytes:
    """What entry `seq` repeats: a zstd frame, or nothing.

    Args:
        seq: Its number.
        small: Entries before it, as far as they are known and small.
    """
    some = {number: small[number] for number in between(seq) if number in small}
    if not some:
        return b""
    sizes = [[number, len(data)] for number, data in some.items()]
    return compress(serialization.dump(sizes, at="repeats") + b"\n" + b"".join(some.values()))


def repeated(entry: Entry) -> dict[int, bytes]:
    """The entries that an entry repeats, by their numbers.

    Where that is damaged it is none: the entries themselves are there.

    Args:
        entry: The entry, which was read with its state.
    """
    found: dict[int, bytes] = {}
    try:
        for text in frames(entry.repeats):
            line, _, rest = text.partition(b"\n")
            for number, size in serialization.load(line):
                found[number], rest = rest[:size], rest[size:]
    except (ValueError, TypeError):
        logger.warning("What entry %d repeats is damaged", entry.seq)
        return {}
    return found


def repeaters(newest: int, oldest: int) -> set[int]:
    """Entries that repeat the small ones from `oldest` to `newest`, and what they are made from."""
    row = oldest - oldest % ROW
    every = range(oldest + REACH - oldest % REACH, newest, REACH)
    return {number for seq in (newest, row, *every) for number in bases(seq)}


def recent(small: Mapping[int, bytes], seq: int) -> dict[int, bytes]:
    """Those that entries after `seq` may repeat."""
    return {number: data for number, data in small.items() if number > seq - REACH}


def small_of(entries: Iterable[Entry], seq: int) -> dict[int, bytes]:
    """What entries after `seq` may repeat, from those that were read with it."""
    found: dict[int, bytes] = {}
    for entry in entries:
        if entry.seq > seq - REACH:
            found |= repeated(entry) | beginning_if_small(entry)
    return recent(found, seq)
