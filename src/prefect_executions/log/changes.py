"""A text as the change against an earlier one: what stayed in order is left out of both.

Two states of one execution mostly have nearly everything in common, and in the same order. Bytes
are compared in a fraction of the time in which they are compressed, so passages in common are found
first, and zstd makes a patch of the rest alone (see `zstd`), which also finds what has moved. Of
the base, zstd is also given the ends of the passages: new text is mostly like what is beside it.

Behind a passage both texts differ. The next one is looked for after ever larger gaps, by a few
bytes of the text there. Where none is found, all that follows is left to zstd.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from zlib import crc32

from prefect_executions.log.zstd import compress, decompress

_SMALL = 64 << 10  # bytes; a text up to this size is left to zstd, which takes no longer
_LEAST = 1024  # bytes; of shorter passages zstd makes a few bytes itself
_MOST = 192  # passages: each takes some bytes of the header
# Bytes of the passages' beginnings that zstd is given; and of their ends. Part of the format.
_BESIDE = 32 << 10
_ANCHOR = 128  # bytes by which a passage is found; a search is the quicker the more they are
_BLOCKS = 1 << 16, 1 << 13, 1 << 10  # bytes that are compared at once, to find where texts part
_GAP = 512  # bytes: the first gap behind which a passage is looked for; it may begin before
_BEHIND = 4096  # bytes of the base in which it is, beside twice the gap


class Passage(NamedTuple):
    """Bytes that a text has in common with its base.

    Args:
        skipped: Bytes of the base between the passage before and this one.
        new: Bytes of the text between them.
        size: Bytes of the passage.
    """

    skipped: int
    new: int
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """A text as the change against a base.

    Args:
        frame: The bytes of the text that are in no passage: a zstd frame.
        kept: The passages, in order.
        crc: CRC-32 of the text; None without passages, as a frame has a checksum of its own.
    """

    frame: bytes = field(repr=False)
    kept: tuple[Passage, ...] = ()
    crc: int | None = None

    @classmethod
    def between(cls, base: bytes, text: bytes) -> "Change":
        """The change from `base` to `text`."""
        kept = tuple(_passages(base, text)) if len(text) > _SMALL else ()
        frame = compress(_new(text, kept), _beside(base, kept))
        return cls(frame, kept, crc32(text) if kept else None)

    def applied(self, base: bytes, size: int) -> bytes:
        """The text, of `size` bytes.

        Raises:
            ValueError: the frame is damaged, belongs to another base or to a text of another size.
        """
        new = size - sum(passage.size for passage in self.kept)
        made = decompress(self.frame, new, _beside(base, self.kept))
        if not self.kept:
            return made
        text = b"".join(self._pieces(memoryview(base), memoryview(made)))
        if crc32(text) != self.crc:
            raise ValueError("its CRC-32 is another than was written, or its base is another")
        return text

    def _pieces(self, base: memoryview, made: memoryview) -> Iterator[memoryview]:
        for passage in self.kept:
            yield made[: passage.new]
            made, base = made[passage.new :], base[passage.skipped :]
            yield base[: passage.size]
            base = base[passage.size :]
        yield made


def _new(text: bytes, kept: tuple[Passage, ...]) -> bytes:
    """What is in no passage."""
    if not kept:
        return text
    pieces, at = list[bytes](), 0
    for passage in kept:
        pieces.append(text[at : at + passage.new])
        at += passage.new + passage.size
    return b"".join([*pieces, text[at:]])


def _beside(base: bytes, kept: tuple[Passage, ...]) -> bytes:
    """What is in no passage, and the beginnings and ends of the passages."""
    pieces, start, end = list[bytes](), 0, 0
    for passage in kept:
        end += passage.skipped
        some = _BESIDE // len(kept)
        if passage.size > 2 * some:
            pieces.append(base[start : end + some])
            start = end + passage.size - some
        end += passage.size
    return b"".join([*pieces, base[start:]]) if pieces else base


def _passages(base: bytes, text: bytes) -> Iterator[Passage]:
    view = memoryview(text)
    base_end, text_end = 0, 0  # of the passage before
    start, at, size = 0, 0, _after(base, 0, view, 0)
    for _ in range(_MOST):
        if size >= _LEAST:
            yield Passage(start - base_end, at - text_end, size)
            base_end, text_end = start + size, at + size
        if (found := _next(base, start + size, view, at + size)) is None:
            return
        start, at, size = found


def _next(base: bytes, start: int, text: memoryview, at: int) -> tuple[int, int, int] | None:
    """Where the next passage begins in both, after these places, and its size."""
    gap = _GAP
    while gap <= (len(text) - at) // 4:
        ahead = at + gap
        found = base.find(text[ahead : ahead + _ANCHOR], start, start + 2 * gap + _BEHIND)
        if found >= 0 and (size := _after(base, found, text, ahead)) >= _LEAST:
            more = _before(base, found, text, ahead, min(gap, found - start))
            return found - more, ahead - more, more + size
        gap *= 2
    return None


def _after(base: bytes, start: int, text: memoryview, at: int) -> int:
    """How many bytes after these places are the same."""
    most = min(len(base) - start, len(text) - at)
    far = 0
    for block in _BLOCKS:
        while far + block <= most and base.startswith(
            text[at + far : at + far + block], start + far
        ):
            far += block
    last = min(far + block, most)
    return far + _same(base[start + far : start + last], text[at + far : at + last], "big")


def _before(base: bytes, start: int, text: memoryview, at: int, most: int) -> int:
    """How many bytes before these places are the same, of so many."""
    far = 0
    while far < most:
        last = min(far + _BLOCKS[-1], most)
        ours, theirs = base[start - last : start - far], text[at - last : at - far]
        far += (more := _same(ours, theirs, "little"))
        if more < len(ours):
            break
    return far


def _same(ours: bytes, theirs: memoryview, first: Literal["big", "little"]) -> int:
    """How many bytes are the same, from the first on ("big"), or from the last on ("little").

    The bytes of a number are mostly compared at once, and its highest bit is where it begins.
    """
    differing = int.from_bytes(ours, first) ^ int.from_bytes(theirs, first)
    return len(ours) - (differing.bit_length() + 7) // 8
