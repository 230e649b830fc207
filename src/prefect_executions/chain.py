"""The texts of a log's entries as a chain of changes: skip-deltas.

An entry carries each text (the state, the journal) as the change (`deltas.Delta`) against that of
an earlier entry. That base of entry `i` is `i & (i - 1)`, `i` with its lowest set bit cleared (the
skip-deltas of Subversion's FSFS), so a chain is known from a number alone and at most log2(i) long:
entry 1000 is made from 1000, 992, 960, 896, 768, 512 and 0, fetched in one parallel round. A change
that saves less than half is not worth a longer chain: then the text is written in full and `base`
is null.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prefect_executions import deltas
from prefect_executions.entry import Entry, Part

TEXTS = ("state", "journal")
_KEEP_DECODED = 4 << 20  # bytes; a larger text is made again from the entries when it is a base
_TRY_FULL = 16  # a change under 1/16 of its text is taken without trying how small the full one is


class Text:
    """A text in a chain of deltas, which is made when it is needed.

    Args:
        part: How the entry carries it; None: it is empty.
        data: The text, where that is known.
        digest: Its digest, where that is known.
    """

    def __init__(
        self, part: Part | None, data: bytes | None = None, digest: deltas.Digest | None = None
    ) -> None:
        self.part = part
        self.digest = digest
        self._data = data if data is not None and len(data) <= _KEEP_DECODED else None

    def make(self, base: Callable[[int], bytes]) -> bytes:
        """The text; kept unless it is large.

        Args:
            base: Makes the text of another entry.

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
            data = deltas.decompress(part.payload, part.size)
        else:
            change = deltas.Delta(*part.keep, part.window, part.payload)
            data = deltas.apply(base(part.base), change, part.size)
        if len(data) <= _KEEP_DECODED:
            self._data = data
        return data


@dataclass(frozen=True, slots=True)
class Link:
    """One entry in a chain of deltas, and its two texts."""

    entry: Entry
    texts: dict[str, Text]

    @classmethod
    def of(cls, entry: Entry) -> "Link":
        """The link of an entry that was read."""
        return cls(entry, {name: Text(getattr(entry, name)) for name in TEXTS})


def text_of(chain: dict[int, Link], name: str, seq: int) -> bytes:
    """The state or the journal of an entry.

    Raises:
        KeyError: the chain lacks a base.
        ValueError: a payload is damaged.
    """
    return chain[seq].texts[name].make(lambda base: text_of(chain, name, base))


def bases(seq: int) -> list[int]:
    """The numbers that the texts of entry `seq` may be made from: itself first, 0 last."""
    chain = [seq]
    while seq:
        seq &= seq - 1
        chain.append(seq)
    return chain


def encode_text(name: str, data: bytes, seq: int, chain: dict[int, Link]) -> Text:
    """The state or the journal of a new entry, as a change where that is worth it."""
    if name == "journal" and not data:
        return Text(None, data)
    base = seq & (seq - 1)
    before = chain[base].texts[name] if base in chain else None
    if before is None or before.part is None:
        digest = deltas.Digest(data)
        alone = Part(size=len(data), sha256=digest.hex, payload=deltas.compress(data))
        return Text(alone, data, digest)
    change = deltas.delta(text_of(chain, name, base), data)
    digest = deltas.Digest(data, before.digest, change.prefix)
    part = Part(
        base=base,
        keep=(change.prefix, change.suffix),
        window=change.window,
        size=len(data),
        sha256=digest.hex,
        payload=change.payload,
    )
    if _TRY_FULL * len(change.payload) > len(data):
        full = deltas.compress(data)
        if 2 * len(change.payload) >= len(full):
            part = Part(size=len(data), sha256=digest.hex, payload=full)
    return Text(part, data, digest)
