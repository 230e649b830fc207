"""One entry of an execution's log, and its bytes in the store.

An entry is stored as a line of JSON (the header), a newline, and the payload. The payload is a zstd
frame for the state, one for the entries that it repeats, frames for what steps have recorded, and,
further on, one for each large result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from zlib import crc32

from prefect_executions import serialization
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import CorruptEntry
from prefect_executions.log.parts import Part, Stretch

FORMAT = 1

RUNS = 24  # how many numbers of `Progress.runs` an entry keeps


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
    CLAIM = "claim"
    DELETED = "deleted"


# After an entry of these kinds no attempt may write until the next one begins.
FENCES = (Kind.ROLLBACK, Kind.CRASH, Kind.RETRY, Kind.RESULT)


class Truncated(Exception):
    """The bytes given are only the beginning of an entry, and too few.

    Args:
        needed: How many bytes are enough; a guess when not even the header is complete.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the log has come with an entry: what every entry carries on from the one before it.

    Since the newest entry has it all, no other entry is read to know it.

    Args:
        seq: The number of the entry, from 0.
        attempt: The current attempt: how many processes have begun to run the execution.
        begun: The number of the entry in which the current attempt began; None before the first.
        retries: How many retries were counted after failures and crashes.
        dead_seconds: How long attempts were Running in Prefect after they had crashed.
        fenced: Whether the current attempt may write no more: it was rolled back, has ended, or
            crashed; of a claim: whether it stops who meets it.
        runs: Which of the newest entries are checkpoints, from this one backwards: so many are not,
            then so many are, then so many are not, and so on.
    """

    seq: int
    attempt: int
    begun: int | None = None
    retries: int = 0
    dead_seconds: float = 0.0
    fenced: bool = False
    runs: tuple[int, ...] = ()

    def checkpoints_before(self) -> Iterator[int]:
        """The numbers of the newest checkpoints, newest first, as far back as `runs` reaches."""
        seq = self.seq
        for place, length in enumerate(self.runs):
            if place % 2:
                yield from range(seq, seq - length, -1)
            seq -= length

    def after(self, kind: Kind, claims: int = 0) -> dict[str, Any]:
        """The fields of `Progress` for the next entry.

        Args:
            kind: Its kind.
            claims: How many claims lie between.
        """
        return {
            "seq": self.seq + claims + 1,
            "attempt": self.attempt,
            "begun": self.begun,
            "retries": self.retries,
            "dead_seconds": self.dead_seconds,
            "fenced": kind in FENCES or (self.fenced and kind is not Kind.ATTEMPT),
            "runs": self._runs_after(kind, claims),
        }

    def _runs_after(self, kind: Kind, claims: int) -> tuple[int, ...]:
        others, *runs = self.runs or (self.seq + 1,)
        others += claims
        if kind is not Kind.CHECKPOINT:
            return (others + 1, *runs)
        if others:
            return (0, 1, others, *runs)[:RUNS]
        return (0, runs[0] + 1, *runs[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Progress):
    """One entry of the log, as stored.

    Args:
        kind: What it records.
        at: When it was written, by the writer's clock.
        nonce: A string of its own, by which a writer recognises its entry after a lost response.
        label: A checkpoint's label.
        source: For an entry that leaves the state as it is: the number of the entry it continues
            from.
        meta: For `created`: name, description, agent_id, task_type, config; of a fork also `fork`,
            and `request` when it has an idempotency key. For an attempt: the flow's own config and
            version. For a checkpoint saved from outside, and for a roll-back: who did it, as `by`.
            For a result: the result.
        reason: For a crash or a retry: what happened; for a checkpoint saved from outside, and for
            a roll-back: why.
        answers: For a crash or a retry: the id of the state in Prefect that it responds to.
        state: The state after it, as JSON; None in a tombstone and a claim.
        repeats: Small entries before it, as a zstd frame (see `repeats`).
        journal: What steps have recorded up to it, or None when that is nothing.
        large: The results of steps that are too large for the journal, a zstd frame each. They
            are stored last, and are not read with the rest.
        large_start: Where in the stored entry they begin.
        large_bytes: The bytes of `large`, whether or not it was read.
    """

    kind: Kind
    at: datetime
    nonce: str
    label: str | None = None
    source: int | None = None
    meta: dict[str, Any] | None = None
    reason: str | None = None
    answers: str | None = None
    state: Part | None = None
    repeats: bytes = field(default=b"", repr=False)
    journal: Stretch | None = None
    large: tuple[bytes, ...] = ()
    large_start: int = 0
    large_bytes: int = 0

    @property
    def version(self) -> str | None:
        """The version of the flow that runs an attempt, if it is known."""
        version: str | None = (self.meta or {}).get("version")
        return version

    @property
    def saved_by(self) -> str | None:
        """Who saved a checkpoint from outside, or rolled back; None for the attempt itself."""
        by: str | None = (self.meta or {}).get("by")
        return by

    @property
    def config(self) -> ExecutionConfig:
        """The config that `created` or an attempt carries."""
        return ExecutionConfig.model_validate((self.meta or {}).get("config", {}))

    @property
    def size(self) -> int:
        """Bytes of the state as JSON."""
        return self.state.size if self.state else 0

    @property
    def stored(self) -> int:
        """Bytes that its state, records and large results take in the store."""
        parts = (self.state, self.journal)
        return sum(len(part.payload) for part in parts if part) + self.large_bytes

    @property
    def continues_from(self) -> int:
        """The entry whose state is the state after this one: a checkpoint, or 0 for `created`."""
        return self.seq if self.source is None else self.source

    def to_bytes(self) -> bytes:
        """The entry as it is stored.

        Raises:
            ValueError: what comes before the large results reaches beyond `large_start`.
        """
        data = self.without_large()
        if not self.large:
            return data
        if len(data) > self.large_start:
            raise ValueError("large results begin before there is room for them")
        return data.ljust(self.large_start, b"\0") + b"".join(self.large)

    def without_large(self) -> bytes:
        """The entry up to the large results."""
        recorded = self.journal.payload if self.journal else b""
        return self.beginning() + self.repeats + recorded

    def beginning(self) -> bytes:
        """The header and the state."""
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
        if self.repeats:
            header["repeats"] = {"bytes": len(self.repeats)}
        if self.journal is not None:
            header["journal"] = self.journal.to_header()
        if self.large:
            header["large"] = [self.large_start, sum(map(len, self.large))]
        payload = self.state.payload if self.state else b""
        return _checked(serialization.dump(header, at="entry")) + b"\n" + payload

    @classmethod
    def from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """Read what `to_bytes` wrote.

        Args:
            data: The stored bytes, with or without the large results.
            key: The key of the object, for errors.
            seq: The number that the entry must have.

        Raises:
            CorruptEntry: this is not that entry, or it has a newer format.
            Truncated: `data` ends before what comes before the large results.
        """
        return cls._read(data, key, seq, ("state", "repeats", "journal"))

    @classmethod
    def with_state_from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """Read the entry without what steps have recorded: `journal` is None.

        Raises:
            CorruptEntry: this is not that entry, or it has a newer format.
            Truncated: `data` ends before the state does.
        """
        return cls._read(data, key, seq, ("state", "repeats"))

    @classmethod
    def beginning_from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """Read what `beginning` returned.

        Raises:
            CorruptEntry: this is not that entry, or it has a newer format.
            Truncated: `data` ends before the state does.
        """
        return cls._read(data, key, seq, ("state",))

    @classmethod
    def outline_from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """Read the header alone: the sizes of its state and journal, not what they hold.

        Raises:
            CorruptEntry: this is not that entry, or it has a newer format.
            Truncated: `data` ends within the header.
        """
        return cls._read(data, key, seq, ())

    @classmethod
    def _read(cls, data: bytes, key: str, seq: int, names: tuple[str, ...]) -> "Entry":
        begin = data.find(b"\n") + 1
        if not begin:
            raise Truncated(2 * len(data) + 1)
        try:
            header = _read_header(data[: begin - 1], key)
            parts, end, needed = {}, begin, 0
            for name in ("state", "repeats", "journal"):
                if part := header.get(name):
                    start, end = end, end + part["bytes"]
                    if name in names:
                        parts[name] = part, data[start:end]
                        needed = end
            if len(data) < needed:
                raise Truncated(needed)
            if header["seq"] != seq or len(data) > max(end, sum(header.get("large", (0,)))):
                raise ValueError(f"it is entry {header['seq']}, of {len(data)} bytes")
            entry = cls._from_header(header, seq)
            if not names:
                entry = replace(entry, **_sizes(header, seq))
            if "state" in parts:
                entry = replace(entry, state=Part.from_header(*parts["state"], seq))
            if "repeats" in parts:
                entry = replace(entry, repeats=parts["repeats"][1])
            if "journal" in parts:
                entry = replace(entry, journal=Stretch.from_header(*parts["journal"]))
            return entry
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CorruptEntry(key, f"its header is damaged ({error!r}).") from error

    @classmethod
    def _from_header(cls, header: dict[str, Any], seq: int) -> "Entry":
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
            large_start=header.get("large", (0, 0))[0],
            large_bytes=header.get("large", (0, 0))[1],
        )


def _sizes(header: dict[str, Any], seq: int) -> dict[str, Any]:
    """The state and the journal of an entry without what is in them."""
    state, journal = header.get("state"), header.get("journal")
    return {
        "state": state and Part.from_header(state, b"", seq),
        "journal": journal and Stretch.from_header(journal, b""),
    }


def _read_header(line: bytes, key: str) -> dict[str, Any]:
    header: dict[str, Any] = serialization.load(line)
    version, method = header["v"], header.get("codec", "zstd")
    if version != FORMAT or method != "zstd":
        raise CorruptEntry(
            key, f"format {version}, codec {method!r}; this version reads format {FORMAT}."
        )
    if line != _checked(line.rpartition(b",")[0] + b"}"):
        raise ValueError("the checksum does not match")
    return header


def _checked(line: bytes) -> bytes:
    """Add its CRC-32 to the header, as the last field."""
    return b'%s,"crc32":"%08x"}' % (line[:-1], crc32(line))
