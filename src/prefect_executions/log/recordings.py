"""What each entry of a log has recorded itself, entry by entry, as it happened.

The journal after an entry is one text (see `journal`). The header of an entry says how long that
text is, and its CRC-32. So what lies between the lengths of two neighbours is what the later one
has added. A roll-back replaces the text: before it, another one is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from prefect_executions.errors import CorruptEntry
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Record, decode, forgotten, lines_of
from prefect_executions.log.reader import LogReader
from prefect_executions.log.recorded import Recorded, makers


@dataclass(frozen=True)
class Recording:
    """An entry, and what it has recorded itself.

    Args:
        entry: The entry, without its state and journal.
        records: What steps have recorded with it, in the order in which they did.
        forgotten: Of a roll-back: the steps that it has forgotten, newest first.
        open: The orders of calls among `records` that nothing was recorded of up to the newest
            entry that was read.
    """

    entry: Entry
    records: Sequence[Record] = ()
    forgotten: Sequence[Record] = ()
    open: frozenset[int] = frozenset()


def recordings(log: LogReader, until: int, count: int) -> list[Recording]:
    """Entries up to a number with what they have recorded, newest first; claims are left out.

    Two rounds of GETs of a few kilobytes each, and one of the entries that the journal is made
    of; one more for each roll-back.

    Args:
        log: The log.
        until: The number of the newest.
        count: How many numbers; those of claims and of entries that were removed count.

    Raises:
        CorruptEntry: an entry is damaged.
    """
    first = max(until - count + 1, 0)
    known = log.outlines_of(range(first, until + 1))
    entries = [entry for entry in known if entry.kind is not Kind.CLAIM]
    before = [log.newest_until(first - 1), *entries[:-1]] if entries else []
    found: list[Recording] = []
    lines: bytes | None = None
    for entry, previous in reversed([*zip(entries, before, strict=True)]):
        lines = _lines(log, entry) if lines is None else lines
        (start, before_crc), (end, crc) = _extent(previous), _extent(entry)
        if previous is None and entry.seq:
            found.append(Recording(entry))  # what came before it was removed
        elif start <= end and crc32(lines[start:end], before_crc) == crc:
            records = [Record.from_line(line) for line in lines_of(lines[start:end])]
            later = lines[max(end - 1, 0) :]
            still = {each.order for each in records if b'\n{"n":%d,' % each.order not in later}
            found.append(Recording(entry, records, open=frozenset(still)))
        else:
            assert previous is not None  # the first entry has added all that it has
            now, lines = lines[:end], _lines(log, previous)
            found.append(Recording(entry, forgotten=forgotten(decode(lines), decode(now))))
    return found


def _extent(entry: Entry | None) -> tuple[int, int]:
    """How many bytes the journal after an entry has, and their CRC-32."""
    journal = entry.journal if entry is not None else None
    return (0, 0) if journal is None else (journal.size, journal.crc)


def _lines(log: LogReader, entry: Entry) -> bytes:
    """The journal after an entry."""
    entries = log.read_entries(makers(entry.seq))
    key = log.key(entry.seq)
    try:
        return Recorded.read(entry.seq, entries, key).lines()
    except KeyError as missing:
        raise CorruptEntry(key, f"its journal needs entry {missing}, which is missing") from missing
