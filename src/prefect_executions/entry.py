"""One entry of an execution's log: a line of JSON (the header), a newline, and the payload."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from zlib import crc32

from prefect_executions import codec
from prefect_executions.errors import CorruptEntry

FORMAT = 1

# The fields that every entry takes over from the one before it, unless it changes them.
COUNTED = ("attempt", "begun", "retries", "dead_seconds")


class Kind(StrEnum):
    """What an entry records."""

    CREATED = "created"
    CHECKPOINT = "checkpoint"
    ATTEMPT = "attempt"
    ROLLBACK = "rollback"
    CRASH = "crash"
    RETRY = "retry"
    DELETED = "deleted"


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
        meta: For `created`: name, description, agent_id, task_type, config. For an attempt: the
            config that it runs with.
        reason: For a crash or a retry: what happened.
        answers: For a crash or a retry: the id of the state in Prefect that it is the answer to.
        begun: The number of the entry in which the attempt in force began; None before the first.
        retries: How often a failed or crashed attempt has been tried again by itself.
        dead_seconds: How long attempts were Running in Prefect after they had crashed.
        base: The entry whose state the payload is the change against; None: it stands alone.
        keep: How many bytes at the beginning and at the end are the base's.
        window: From where to where the base's state is the payload's dictionary.
        size: Bytes of the state as JSON.
        sha256: Of the state as JSON, in hex.
        payload: A zstd frame.
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
    base: int | None = None
    keep: tuple[int, int] = (0, 0)
    window: tuple[int, int] = (0, 0)
    size: int = 0
    sha256: str = ""
    payload: bytes = b""

    @property
    def continues_from(self) -> int:
        """The number of the checkpoint (0: of `created`) whose state is in force after this one."""
        return self.seq if self.source is None else self.source

    def to_bytes(self) -> bytes:
        """The entry as it is stored."""
        header: dict[str, Any] = {
            "v": FORMAT,
            "seq": self.seq,
            "kind": self.kind.value,
            "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
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
        if self.kind is not Kind.DELETED:
            header |= {
                "base": self.base,
                **({} if self.base is None else {"keep": [*self.keep], "dict": [*self.window]}),
                "codec": "zstd",
                "size": self.size,
                "sha256": self.sha256,
            }
        line = _checked(codec.dump(header, at="entry"), self.payload)
        return line + b"\n" + self.payload

    @classmethod
    def from_bytes(cls, data: bytes, *, key: str, seq: int) -> "Entry":
        """Read what `to_bytes` wrote.

        Args:
            data: What is stored.
            key: Where, for errors.
            seq: The number of the entry that is stored there.

        Raises:
            CorruptEntry: it is something else, or of a newer format.
        """
        line, _, payload = data.partition(b"\n")
        try:
            header = codec.load(line)
            version, method = header["v"], header.get("codec", "zstd")
            if version != FORMAT or method != "zstd":
                raise CorruptEntry(
                    key, f"format {version}, codec {method!r}; this version reads format {FORMAT}."
                )
            if line != _checked(line.rpartition(b",")[0] + b"}", payload):
                raise ValueError("the checksum is another")
            if header["seq"] != seq or header.get("base") not in (None, seq & (seq - 1)):
                raise ValueError(f"it is entry {header['seq']} on base {header.get('base')}")
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
                base=header.get("base"),
                keep=_pair(header.get("keep", (0, 0))),
                window=_pair(header.get("dict", (0, 0))),
                size=header.get("size", 0),
                sha256=header.get("sha256", ""),
                payload=payload,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CorruptEntry(key, f"its header is damaged ({error!r}).") from error


def _checked(line: bytes, payload: bytes) -> bytes:
    """A header with the CRC-32 of itself and the payload as its last field."""
    return b'%s,"crc32":"%08x"}' % (line[:-1], crc32(payload, crc32(line)))


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    if type(first) is not int or type(second) is not int or min(first, second) < 0:
        raise ValueError("a pair of numbers is none")
    return first, second
