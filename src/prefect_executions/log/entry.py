"""One entry of an execution's log: a line of JSON (the header), a newline, and the payload.

The payload is a zstd frame for each text that the entry carries: the state, the journal, and the
large results of steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from zlib import crc32

from prefect_executions import serialization
from prefect_executions.errors import CorruptEntry
from prefect_executions.models import ExecutionConfig

FORMAT = 1

# The fields that every entry takes over from the one before it, unless it changes them.
COUNTED = ("attempt", "begun", "retries", "dead_seconds")

RUNS = 24  # how many numbers an entry has to say which entries before it are checkpoints


class Kind(StrEnum):
    """What an entry records."""

    CREATED = "created"
    CHECKPOINT = "checkpoint"
    STEPS = "steps"
    ATTEMPT = "attempt"
    ROLLBACK = "rollback"
    CRASH = "crash"
    RETRY = "retry"
    RESULT = "result"
    DELETED = "deleted"


# After these no attempt is in force until the next one begins.
FENCES = (Kind.ROLLBACK, Kind.CRASH, Kind.RETRY, Kind.RESULT)


class Truncated(Exception):
    """Only the beginning of an entry was given, and it does not tell enough.

    Args:
        needed: How many bytes would, or may do when not even the header is complete.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A text that an entry carries: by itself, or as the change against an earlier entry's.

    Args:
        base: The entry whose text the payload is the change against; None: it stands alone.
        keep: How many bytes at the beginning and at the end are the base's.
        window: From where to where the base's text is the payload's dictionary.
        size: Bytes of the text.
        sha256: Of the text, in hex.
        payload: A zstd frame.
    """

    base: int | None = None
    keep: tuple[int, int] = (0, 0)
    window: tuple[int, int] = (0, 0)
    size: int = 0
    sha256: str = ""
    payload: bytes = b""

    def to_header(self) -> dict[str, Any]:
        """All but the payload, as the header of an entry has it."""
        change = {"keep": [*self.keep], "dict": [*self.window]}
        return {
            "base": self.base,
            **({} if self.base is None else change),
            "size": self.size,
            "sha256": self.sha256,
            "bytes": len(self.payload),
        }

    @classmethod
    def from_header(cls, header: dict[str, Any], payload: bytes, seq: int) -> "Part":
        """Undo `to_header`.

        Raises:
            KeyError, ValueError, TypeError: the header is damaged.
        """
        if header["base"] not in (None, seq & (seq - 1)):
            raise ValueError(f"it is entry {seq} on base {header['base']}")
        return cls(
            base=header["base"],
            keep=_pair(header.get("keep", (0, 0))),
            window=_pair(header.get("dict", (0, 0))),
            size=header["size"],
            sha256=header["sha256"],
            payload=payload,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log, as stored.

    Args:
        seq: Its number, from 0.
        kind: What it records.
        at: When it was written, by the writer's clock.
        attempt: The attempt in force after it: how many processes have begun to run.
        nonce: Tells a writer its own entry from another's, when an answer was lost.
        label: A checkpoint's label.
        source: Of whatever is no checkpoint: the number of the entry that it continues from.
        meta: For `created`: name, description, agent_id, task_type, config; of a fork also `fork`,
            and `request` where it had a key. For an attempt: the flow's own config, and its
            version. For a result: the result.
        reason: For a crash or a retry: what happened.
        answers: For a crash or a retry: the id of the state in Prefect that it is the answer to.
        begun: The number of the entry in which the attempt in force began; None before the first.
        retries: How often a failed or crashed attempt has been tried again by itself.
        dead_seconds: How long attempts were Running in Prefect after they had crashed.
        fenced: Whether the attempt may write no more: it was rolled back, has ended, or died.
        runs: Which of the newest entries are checkpoints, from this one backwards: how many are
            none, how many then are, how many then are none, and so on.
        state: The state in force after it, as JSON; None: the tombstone has none.
        journal: What steps have recorded up to it, `Record`s; None: nothing.
        large: The results of steps that are too large for the journal, a zstd frame each. They come
            last, and are not read with the rest.
        large_bytes: Bytes of these, whether they were read or not.
    """

    seq: int
    kind: Kind
    at: datetime
    attempt: int
    nonce: str
    label: str | None = None
    source: int | None = None
    meta: dict[str, Any] | None = None
    reason: str | None = None
    answers: str | None = None
    begun: int | None = None
    retries: int = 0
    dead_seconds: float = 0.0
    fenced: bool = False
    runs: tuple[int, ...] = ()
    state: Part | None = None
    journal: Part | None = None
    large: tuple[bytes, ...] = ()
    large_bytes: int = 0

    @property
    def version(self) -> str | None:
        """Of an attempt: the version of the flow that runs it, if that is known."""
        version: str | None = (self.meta or {}).get("version")
        return version

    @property
    def config(self) -> ExecutionConfig:
        """The settings that `created` or an attempt carries."""
        return ExecutionConfig.model_validate((self.meta or {}).get("config", {}))

    @property
    def size(self) -> int:
        """Bytes of the state as JSON."""
        return self.state.size if self.state else 0

    @property
    def stored(self) -> int:
        """Bytes that its payloads take in the store."""
        parts = [len(part.payload) for part in (self.state, self.journal) if part]
        return sum(parts) + self.large_bytes

    @property
    def continues_from(self) -> int:
        """The number of the checkpoint (0: of `created`) whose state is in force after this one."""
        return self.seq if self.source is None else self.source

    def checkpoints_before(self) -> Iterator[int]:
        """The numbers of the newest checkpoints, from this entry backwards, as far as it knows."""
        seq = self.seq
        for place, length in enumerate(self.runs):
            if place % 2:
                yield from range(seq, seq - length, -1)
            seq -= length

    def fenced_after(self, kind: Kind) -> bool:
        """The `fenced` of an entry of this kind that comes next."""
        return kind in FENCES or (self.fenced and kind is not Kind.ATTEMPT)

    def runs_after(self, kind: Kind) -> tuple[int, ...]:
        """The `runs` of an entry of this kind that comes next."""
        others, *runs = self.runs or (self.seq + 1,)
        if kind is not Kind.CHECKPOINT:
            return (others + 1, *runs)
        if others:
            return (0, 1, others, *runs)[:RUNS]
        return (0, runs[0] + 1, *runs[1:])

    def to_bytes(self) -> bytes:
        """The entry as it is stored."""
        header: dict[str, Any] = {
            "v": FORMAT,
            "seq": self.seq,
            "kind": self.kind.value,
            "at": serialization.timestamp(self.at),
            "attempt": self.attempt,
            "nonce": self.nonce,
        }
        if self.label is not None:
            header["label"] = self.label
        if self.source is not None:
            header["from"] = self.source
        if self.meta is not None:
            header["meta"] = self.meta
        if self.reason is not None:
            header["reason"] = self.reason
        if self.answers is not None:
            header["answers"] = self.answers
        if self.begun is not None:
            header["begun"] = self.begun
        if self.retries:
            header["retries"] = self.retries
        if self.dead_seconds:
            header["dead"] = self.dead_seconds
        if self.fenced:
            header["fenced"] = True
        if self.runs:
            header["runs"] = [*self.runs]
        if self.state is not None or self.journal is not None:
            header["codec"] = "zstd"
        if self.state is not None:
            header["state"] = self.state.to_header()
        if self.journal is not None:
            header["journal"] = self.journal.to_header()
        if self.large:
            header["large"] = [len(frame) for frame in self.large]
        payload = b"".join(part.payload for part in (self.state, self.journal) if part)
        line = _checked(serialization.dump(header, at="entry"), payload)
        return line + b"\n" + payload + b"".join(self.large)

    @staticmethod
    def large_from_bytes(data: bytes, index: int) -> bytes:
        """The frame of one of the large results of an entry, as stored.

        Raises:
            ValueError, KeyError, TypeError: the entry is damaged.
        """
        line, _, rest = data.partition(b"\n")
        header = serialization.load(line)
        sizes = header["large"]
        parts = (header.get("state"), header.get("journal"))
        start = sum(part["bytes"] for part in parts if part) + sum(sizes[:index])
        return rest[start : start + sizes[index]]

    @classmethod
    def from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """Read what `to_bytes` wrote.

        Args:
            data: What is stored, with or without large results.
            key: Where, for errors.
            seq: The number of the entry that is stored there.

        Raises:
            CorruptEntry: it is something else, or of a newer format.
            Truncated: `data` ends before the large results begin.
        """
        line, rest = _split(data)
        try:
            header = _read_header(line, key)
            state, journal = header.get("state"), header.get("journal")
            middle = state["bytes"] if state else 0
            end = middle + (journal["bytes"] if journal else 0)
            if len(rest) < end:
                raise Truncated(len(line) + 1 + end)
            if line != _checked(line.rpartition(b",")[0] + b"}", rest[:end]):
                raise ValueError("the checksum is another")
            if header["seq"] != seq or len(rest) > end + sum(header.get("large", ())):
                raise ValueError(f"it is entry {header['seq']}, of {len(data)} bytes")
            return replace(
                cls._of_header(header, seq),
                state=Part.from_header(state, rest[:middle], seq) if state else None,
                journal=Part.from_header(journal, rest[middle:end], seq) if journal else None,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CorruptEntry(key, f"its header is damaged ({error!r}).") from error

    @classmethod
    def outline_from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """What an entry records, without its texts, from its beginning alone.

        The checksum, which is of the texts too, is not looked at.

        Raises:
            CorruptEntry: it is something else, or of a newer format.
            Truncated: `data` ends within the header.
        """
        line, _ = _split(data)
        try:
            return cls._of_header(_read_header(line, key), seq)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CorruptEntry(key, f"its header is damaged ({error!r}).") from error

    @classmethod
    def _of_header(cls, header: dict[str, Any], seq: int) -> "Entry":
        return cls(
            seq=seq,
            kind=Kind(header["kind"]),
            at=datetime.fromisoformat(header["at"]),
            attempt=header["attempt"],
            nonce=header["nonce"],
            label=header.get("label"),
            source=header.get("from"),
            meta=header.get("meta"),
            reason=header.get("reason"),
            answers=header.get("answers"),
            begun=header.get("begun"),
            retries=header.get("retries", 0),
            dead_seconds=header.get("dead", 0.0),
            fenced=header.get("fenced", False),
            runs=tuple(header.get("runs", ())),
            large_bytes=sum(header.get("large", ())),
        )


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The header of an entry, and what comes after it."""
    line, newline, rest = data.partition(b"\n")
    if not newline:
        raise Truncated(2 * len(data) + 1)
    return line, rest


def _read_header(line: bytes, key: str) -> dict[str, Any]:
    header: dict[str, Any] = serialization.load(line)
    version, method = header["v"], header.get("codec", "zstd")
    if version != FORMAT or method != "zstd":
        raise CorruptEntry(
            key, f"format {version}, codec {method!r}; this version reads format {FORMAT}."
        )
    return header


def _checked(line: bytes, payload: bytes) -> bytes:
    """A header with the CRC-32 of itself and the payload as its last field."""
    return b'%s,"crc32":"%08x"}' % (line[:-1], crc32(payload, crc32(line)))


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    if type(first) is not int or type(second) is not int or min(first, second) < 0:
        raise ValueError("a pair of numbers is none")
    return first, second
