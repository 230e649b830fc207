"""Deltas: an entry stores its state and its journal as the change against an earlier entry.

Every entry carries two texts, the state and the journal. If all were stored in full, a log would
grow with the square of its length. If each were a delta against the entry before it, the newest one
could only be read by reading the whole log. So the base of entry `n` is the entry whose number is
`n` without its lowest bit (skip-deltas, as in Subversion):

    entry   1  2  3  4  5  6  7  8  9  10  11  12
    base    0  0  2  0  4  4  6  0  8   8  10   8

A text is thus made from no more than log2(n) + 2 entries (`bases`), which are read in one parallel
round of requests. The newest entry and its bases are all that the next entry can need as its base.
A text is stored in full when it has no base, and when its delta is not much smaller.

First come the delta between two texts, compression, and digests; then the chain of texts in a log.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from prefect_executions.log.entry import Entry, Part

TEXTS = ("state", "journal")

_LEVEL = 3  # of zstd
_CONTEXT = 64 << 10  # bytes of the base, on each side of a change, that serve as its dictionary
_MARK = 64 << 10  # bytes between the places from which a digest can be continued
_KEEP_DECODED = 4 << 20  # bytes; a larger text is made again from its entries when it is a base
_TRY_FULL = 16  # a delta under 1/16 of its text is taken without trying the full one


@dataclass(frozen=True, slots=True)
class Delta:
    """One text as the change against another, its base.

    The text is `base[:prefix]`, then the payload, then the last `suffix` bytes of the base. A small
    change to a large text is therefore small, and quick to find. zstd only compresses what lies
    between, and its dictionary is the part of the base that stood there and some bytes around it.

    Args:
        prefix: How many bytes at the beginning are the base's.
        suffix: How many bytes at the end are the base's.
        window: The part of the base that is the payload's raw dictionary: its start and end.
        payload: A zstd frame.
    """

    prefix: int
    suffix: int
    window: tuple[int, int]
    payload: bytes


def delta(base: bytes, data: bytes) -> Delta:
    """Make the delta from `base` to `data`."""
    prefix = _common_prefix(base, data)
    suffix = _common_suffix(base, data, min(len(base), len(data)) - prefix)
    window = (max(0, prefix - _CONTEXT), min(len(base), len(base) - suffix + _CONTEXT))
    dictionary = base[slice(*window)]
    middle = data[prefix : len(data) - suffix]
    compressor = zstandard.ZstdCompressor(
        dict_data=_dictionary(dictionary), compression_params=_parameters(dictionary, middle)
    )
    return Delta(prefix, suffix, window, compressor.compress(middle))


def apply(base: bytes, change: Delta, size: int) -> bytes:
    """Undo `delta`.

    Raises:
        ValueError: the delta is damaged, has another base, or does not make `size` bytes.
    """
    decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(base[slice(*change.window)]))
    middle = _decompress(decompressor, change.payload, size - change.prefix - change.suffix)
    return base[: change.prefix] + middle + base[len(base) - change.suffix :]


def compress(data: bytes) -> bytes:
    """Compress `data`, without a dictionary."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def decompress(payload: bytes, size: int) -> bytes:
    """Undo `compress`.

    Raises:
        ValueError: the payload is damaged, or does not hold `size` bytes.
    """
    return _decompress(zstandard.ZstdDecompressor(), payload, size)


def _decompress(decompressor: zstandard.ZstdDecompressor, payload: bytes, size: int) -> bytes:
    try:
        if zstandard.frame_content_size(payload) != size:
            raise ValueError(f"the payload does not hold {size} bytes")
        return decompressor.decompress(payload)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _parameters(dictionary: bytes, data: bytes) -> zstandard.ZstdCompressionParameters:
    """Parameters with a window over dictionary and data, and tables large enough to index both.

    With its usual tables zstd would only index the last megabyte of a dictionary.
    """
    span = max(len(dictionary) + len(data), 1)
    scale = min(max(span.bit_length() - 3, 10), 22)
    return zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=len(data),
        dict_size=len(dictionary),
        window_log=min(max(span.bit_length(), 10), 27),
        hash_log=scale,
        chain_log=scale,
    )


def _common_prefix(one: bytes, other: bytes) -> int:
    """How many bytes are the same at the beginning: a bisection, as slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(one: bytes, other: bytes, most: int) -> int:
    """How many bytes are the same at the end, `most` at most."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low


class Digest:
    """The SHA-256 of a text, which can be continued from that of a text with the same beginning.

    Hashing a large state takes longer than anything else that a checkpoint does with it. When a
    state only grows at its end, only the new end is hashed.

    Args:
        data: The text.
        like: The digest of another text.
        prefix: How many bytes at the beginning are the same in both.
    """

    def __init__(self, data: bytes, like: "Digest | None" = None, prefix: int = 0) -> None:
        self._marks: list[hashlib._Hash] = like._marks[: prefix // _MARK] if like else []
        digest = self._marks[-1].copy() if self._marks else hashlib.sha256()
        for start in range(len(self._marks) * _MARK, len(data), _MARK):
            digest.update(data[start : start + _MARK])
            if start + _MARK <= len(data):
                self._marks.append(digest.copy())
        self.hex = digest.hexdigest()


def bases(seq: int) -> list[int]:
    """The entries that the texts of entry `seq` may be made from: itself first, 0 last."""
    chain = [seq]
    while seq:
        seq &= seq - 1
        chain.append(seq)
    return chain


class Text:
    """A text in a chain of deltas, made when it is needed.

    Args:
        part: How the entry stores it, or None when it is empty.
        data: The text, if it is known.
        digest: Its digest, if it is known.
    """

    def __init__(
        self, part: Part | None, data: bytes | None = None, digest: Digest | None = None
    ) -> None:
        self.part = part
        self.digest = digest
        self._data = data if data is not None and len(data) <= _KEEP_DECODED else None

    def make(self, base: Callable[[int], bytes]) -> bytes:
        """Return the text, and keep it unless it is large.

        Args:
            base: Returns the text of another entry.

        Raises:
            KeyError: the chain lacks a base.
            ValueError: a payload is damaged.
        """
        if self._data is not None:
            return self._data
        part = self.part
        if part is None:
            data = b""
        elif part.base is None:
            data = decompress(part.payload, part.size)
        else:
            change = Delta(*part.keep, part.window, part.payload)
            data = apply(base(part.base), change, part.size)
        if len(data) <= _KEEP_DECODED:
            self._data = data
        return data


@dataclass(frozen=True, slots=True)
class Link:
    """An entry in a chain of deltas, and its two texts by their names."""

    entry: Entry
    texts: dict[str, Text]

    @classmethod
    def of(cls, entry: Entry) -> "Link":
        """Make the link of an entry that was read."""
        return cls(entry, {name: Text(getattr(entry, name)) for name in TEXTS})


def text_of(chain: dict[int, Link], name: str, seq: int) -> bytes:
    """Return the state or the journal of entry `seq`.

    Raises:
        KeyError: the chain lacks a base.
        ValueError: a payload is damaged.
    """
    return chain[seq].texts[name].make(lambda base: text_of(chain, name, base))


def encode_text(name: str, data: bytes, seq: int, chain: dict[int, Link]) -> Text:
    """Make the state or the journal of a new entry: a delta, unless the full text is better."""
    if name == "journal" and not data:
        return Text(None, data)
    base = seq & (seq - 1)
    before = chain[base].texts[name] if base in chain else None
    if before is None or before.part is None:
        digest = Digest(data)
        alone = Part(size=len(data), sha256=digest.hex, payload=compress(data))
        return Text(alone, data, digest)
    change = delta(text_of(chain, name, base), data)
    digest = Digest(data, before.digest, change.prefix)
    part = Part(
        base=base,
        keep=(change.prefix, change.suffix),
        window=change.window,
        size=len(data),
        sha256=digest.hex,
        payload=change.payload,
    )
    if _TRY_FULL * len(change.payload) > len(data):
        full = compress(data)
        if 2 * len(change.payload) >= len(full):
            part = Part(size=len(data), sha256=digest.hex, payload=full)
    return Text(part, data, digest)
