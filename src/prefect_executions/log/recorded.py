"""The journal as a log keeps it: each entry stores what was recorded since an earlier one.

Lines are only appended. If each entry stored its own alone, the newest journal could only be read
by reading the whole log; if each stored all, a log would grow with the square of its length. So an
entry stores what was recorded since its base (see `states`), or since the 4,096th entry before it,
whichever is nearer: a *stretch*. The newest journal is made of those of at most 17 entries, and of
one for every 4,096 entries. Their numbers follow from that of the newest (`makers`), and the bases
of its state are among them.

A claim (see `claims`) stores nothing, whatever its number. The next entry that has it as its base
stores in its stead what was recorded since the base of the claim.

Longer stretches are joined from the frames of shorter ones: what was written is not encoded again,
unless it is so little that it takes less room together. A roll-back stores the whole journal, and
so does each stretch that reaches back over one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from zlib import crc32

from prefect_executions.errors import CorruptEntry
from prefect_executions.log.entry import Entry
from prefect_executions.log.journal import LARGE, Large, Outcome, Record, encode, fold, lines_of
from prefect_executions.log.parts import Stretch, base_of, path
from prefect_executions.log.zstd import compress, frames

_MOST = 4096  # entries that a stretch reaches back over
_TOGETHER = 64 << 10  # bytes of lines up to which several share a frame
_ROOM = 64  # bytes; large results begin at a multiple of it


def makers(seq: int) -> list[int]:
    """The entries that the journal after entry `seq` may be made of: itself first, 0 last."""
    return path(seq, _since)


def _since(seq: int) -> int:
    return max(base_of(seq), seq - _MOST)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch in memory.

    Args:
        payload: zstd frames, one after another.
        lines: Its lines, while they are few.
        is_whole: Whether nothing before it belongs to the journal.
    """

    payload: bytes
    lines: bytes | None = None
    is_whole: bool = False

    @classmethod
    def of(cls, lines: bytes, *, is_whole: bool = False) -> "_Piece":
        few = lines if len(lines) <= _TOGETHER else None
        return cls(compress(lines) if lines else b"", few, is_whole)

    @classmethod
    def stored(cls, stretch: Stretch) -> "_Piece":
        return cls(stretch.payload, is_whole=stretch.is_whole)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The journal after an entry. It is a value: appending makes a new one.

    Args:
        pieces: What it is made of, by the numbers of the entries, oldest first.
        size: Bytes of its lines.
        crc: CRC-32 of its lines.
        key: The key of the entry that it was read from, for errors.
    """

    pieces: dict[int, _Piece]
    size: int = 0
    crc: int = 0
    key: str = ""

    @classmethod
    def read(
        cls, seq: int, entries: Mapping[int, Entry], key: str, known: "Recorded | None" = None
    ) -> "Recorded":
        """The journal after an entry that was read; its lines are not looked at.

        Args:
            seq: The number of the entry.
            entries: It, and those that its journal is made of.
            key: Its key.
            known: The journal after an earlier entry, in place of that and those before it.

        Raises:
            KeyError: the number of an entry that is missing.
        """
        newest = entries[seq].journal
        if newest is None:
            return cls({})
        pieces: dict[int, _Piece] = {}
        for number in makers(seq):
            if known is not None and number not in entries:
                piece = known.pieces.get(number)
            else:
                stretch = entries[number].journal
                piece = _Piece.stored(stretch) if stretch else None
            if piece is not None and (piece.payload or piece.is_whole):
                pieces[number] = piece
                if piece.is_whole:
                    break
        return cls(dict(reversed(pieces.items())), newest.size, newest.crc, key)

    def anew(self, seq: int, lines: bytes) -> "Recorded":
        """The journal after entry `seq`, which comes next: these lines and none before them."""
        if not self.pieces:
            return self.after(seq, lines)
        piece = _Piece.of(lines, is_whole=True)
        return Recorded({seq: piece}, len(lines), crc32(lines), self.key)

    def after(self, seq: int, lines: bytes) -> "Recorded":
        """The journal after entry `seq`, which comes next and appends these lines."""
        pieces, found = dict(self.pieces), makers(seq)
        joined = [_Piece.of(lines)] if lines else []
        while pieces and next(reversed(pieces)) not in found:  # no reader asks for it
            joined.insert(0, pieces.popitem()[1])
        if joined:
            pieces[seq] = _joined(joined)
        return Recorded(pieces, self.size + len(lines), crc32(lines, self.crc), self.key)

    def stretch(self, seq: int) -> Stretch | None:
        """What entry `seq`, the newest, stores of it; None when nothing is recorded."""
        if not self.pieces:
            return None
        piece = self.pieces.get(seq, _Piece(b""))
        return Stretch(size=self.size, crc=self.crc, is_whole=piece.is_whole, payload=piece.payload)

    def lines(self) -> bytes:
        """All lines.

        Raises:
            CorruptEntry: a frame is damaged, or these are not the lines that were written.
        """
        return b"".join(self._frames())

    def records(self) -> dict[int, Record]:
        """Its records, as `journal.decode` gives them.

        Raises:
            CorruptEntry: see `lines`; or a line is none.
        """
        lines = chain.from_iterable(map(lines_of, self._frames()))
        try:
            return fold(map(Record.from_line, lines))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def _frames(self) -> Iterator[bytes]:
        size = crc = 0
        try:
            for piece in self.pieces.values():
                for lines in frames(piece.payload):
                    size, crc = size + len(lines), crc32(lines, crc)
                    yield lines
        except ValueError as error:
            raise self._damaged(error) from error
        if (size, crc) != (self.size, self.crc):
            raise self._damaged("its lines have another CRC-32 than was written")

    def _damaged(self, problem: object) -> CorruptEntry:
        return CorruptEntry(self.key, f"its journal is damaged ({problem}).")


def _joined(pieces: Iterable[_Piece]) -> _Piece:
    """One piece of several, the oldest first; neighbours with few lines get a frame together."""
    groups: list[list[_Piece]] = []
    room = 0
    for piece in pieces:
        few = _TOGETHER + 1 if piece.lines is None else len(piece.lines)
        if groups and few <= room:
            groups[-1].append(piece)
            room -= few
        else:
            groups.append([piece])
            room = _TOGETHER - few
    framed = [group[0] if len(group) == 1 else _together(group) for group in groups]
    if len(framed) == 1:
        return framed[0]
    whole = any(piece.is_whole for piece in framed)
    return _Piece(b"".join(piece.payload for piece in framed), is_whole=whole)


def _together(pieces: list[_Piece]) -> _Piece:
    lines = b"".join(piece.lines or b"" for piece in pieces)
    return _Piece.of(lines, is_whole=any(piece.is_whole for piece in pieces))


def with_records(
    entry: Entry, records: Sequence[Record], recorded: Callable[[bytes], Recorded]
) -> tuple[Entry, Recorded]:
    """Add what steps have recorded to an entry; large results are stored beside it.

    A line says at which byte of the entry its large result begins. Room is left before the first,
    since how long the beginning of the entry is, depends a little on that number itself.

    Args:
        entry: The entry.
        records: The records.
        recorded: Makes the journal after the entry from their lines.
    """
    records = [
        replace(record, entry=entry.seq) if record.outcome is Outcome.NOTE else record
        for record in records
    ]
    if not any(map(_is_large, records)):
        after = recorded(encode(records))
        return replace(entry, journal=after.stretch(entry.seq)), after
    large = tuple(compress(record.result or b"") for record in records if _is_large(record))
    entry = replace(entry, large=large, large_bytes=sum(map(len, large)))
    while True:
        after = recorded(encode(_placed(entry, records)))
        entry = replace(entry, journal=after.stretch(entry.seq))
        needed = len(entry.without_large())
        if needed <= entry.large_start:
            return entry, after
        entry = replace(entry, large_start=(needed // _ROOM + 2) * _ROOM)


def _placed(entry: Entry, records: Sequence[Record]) -> Iterator[Record]:
    """The records, with the places of large results in their stead."""
    start, frames = entry.large_start, iter(entry.large)
    for record in records:
        if record.result is None or not _is_large(record):
            yield record
            continue
        size, digest, length = len(record.result), sha256(record.result), len(next(frames))
        where = Large(
            seq=entry.seq, start=start, stored=length, size=size, sha256=digest.hexdigest()
        )
        start += length
        yield replace(record, result=None, large=where)


def _is_large(record: Record) -> bool:
    return record.result is not None and len(record.result) > LARGE
