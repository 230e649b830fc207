"""The state and the journal as an entry stores them, and what they are changes against."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefect_executions.log.changes import Passage

ROW = 8  # entries, each of which but the first has the one before it as its base


def base_of(seq: int) -> int:
    """The entry that entry `seq`, which is not 0, is a change against, unless that is a claim."""
    return seq - 1 if seq % ROW else seq & (seq - 1)


def bases(seq: int) -> list[int]:
    """The entries that the state of entry `seq` may be made from: itself first, 0 last."""
    return path(seq, base_of)


def path(seq: int, before: Callable[[int], int]) -> list[int]:
    """Entry `seq`, the one before it, the one before that, and so on, to entry 0."""
    found = [seq]
    while seq:
        seq = before(seq)
        found.append(seq)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A state as an entry stores it: in full, or as the change against an earlier entry's.

    Args:
        base: The entry that it is the change against, or None when it is stored in full.
        size: Bytes of the state.
        kept: The passages that it has in common with the base, which are not in the payload.
        crc: CRC-32 of the state, where there are passages.
        payload: A zstd frame; nothing when the state is that of the base.
    """

    base: int | None = None
    size: int = 0
    kept: tuple[Passage, ...] = ()
    crc: int | None = None
    payload: bytes = field(default=b"", repr=False)

    def to_header(self) -> dict[str, Any]:
        """Everything but the payload, for the header of the entry."""
        kept: dict[str, Any] = {}
        if self.crc is not None:
            kept = {"kept": [*map(list, self.kept)], "crc32": f"{self.crc:08x}"}
        return {"base": self.base, "size": self.size, **kept, "bytes": len(self.payload)}

    @classmethod
    def from_header(cls, header: dict[str, Any], payload: bytes, seq: int) -> "Part":
        """Undo `to_header`.

        Raises:
            KeyError, ValueError, TypeError: the header is damaged.
        """
        if header["base"] is not None and header["base"] not in bases(seq)[1:]:
            raise ValueError(f"entry {seq} has no base {header['base']}")
        kept = tuple(Passage(*sizes) for sizes in header.get("kept", ()))
        crc = int(header["crc32"], 16) if kept else None
        return cls(base=header["base"], size=header["size"], kept=kept, crc=crc, payload=payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What an entry stores of the journal: what was recorded since an earlier one.

    Args:
        size: Bytes of the lines of the whole journal after the entry, those of others included.
        crc: CRC-32 of these lines.
        is_whole: Whether it is the whole journal: nothing before it belongs to it.
        payload: zstd frames, one after another.
    """

    size: int
    crc: int
    is_whole: bool = False
    payload: bytes = field(default=b"", repr=False)

    def to_header(self) -> dict[str, Any]:
        """Everything but the payload, for the header of the entry."""
        whole = {"whole": True} if self.is_whole else {}
        return {"size": self.size, "crc32": f"{self.crc:08x}", **whole, "bytes": len(self.payload)}

    @classmethod
    def from_header(cls, header: dict[str, Any], payload: bytes) -> "Stretch":
        """Undo `to_header`.

        Raises:
            KeyError, ValueError, TypeError: the header is damaged.
        """
        whole, crc = header.get("whole", False), int(header["crc32"], 16)
        return cls(size=header["size"], crc=crc, is_whole=whole, payload=payload)
