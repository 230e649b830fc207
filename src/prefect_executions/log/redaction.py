"""A log without some of its values, so that it can be given to others.

Each entry is written anew, with the same number, kind and times. Where a path leads, a value keeps
its shape: text becomes `[redacted]`, a number 0, true becomes false, and of lists and objects that
happens to what is in them. So types still fit, and steps still find what was recorded of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

from prefect_executions import serialization
from prefect_executions.errors import ArchiveError, CorruptEntry
from prefect_executions.log.entry import Entry
from prefect_executions.log.journal import Large, Outcome, Record, encode, lines_of, state_digest
from prefect_executions.log.parts import Part, bases
from prefect_executions.log.recorded import Recorded, makers, with_records
from prefect_executions.log.repeats import beginning_if_small, recent, repetition
from prefect_executions.log.states import State, States, stored
from prefect_executions.log.zstd import decompress, frames

REDACTED = "[redacted]"
ROOTS = ("state", "results", "result", "parameters")  # what a path begins with


@dataclass(frozen=True)
class RedactedPath:
    """Where values are redacted: a JSON Pointer (RFC 6901) in which `*` stands for any name.

    Args:
        text: It: `/state/…`, `/results/{step}/…`, `/result/…` of the flow, or `/parameters/…`.

    Raises:
        ValueError: it is none of these.
    """

    text: str

    def __post_init__(self) -> None:
        if self.parts[0] not in ROOTS or not self.text.startswith("/"):
            known = ", ".join(f"/{root}" for root in ROOTS)
            raise ValueError(f"{self.text!r} does not begin with one of {known}.")

    @property
    def parts(self) -> list[str]:
        """The names on the way, unescaped."""
        names = self.text.split("/")[1:] or [""]
        return [name.replace("~1", "/").replace("~0", "~") for name in names]


@dataclass
class Redactor:
    """Redacts values, and knows which paths have led anywhere.

    Args:
        paths: Where.
    """

    paths: Sequence[RedactedPath]
    found: set[str] = field(default_factory=set)

    def applied(self, value: Any, *root: str) -> Any:
        """A JSON value without what paths lead to; itself where none does.

        Args:
            value: The value.
            root: Where it is: `state`, or `results` and the name of the step, and so on.
        """
        for path in self.paths:
            if all(map(_names, path.parts, root)):
                value, changed = _without(value, path.parts[len(root) :])
                if changed:
                    self.found.add(path.text)
        return value

    def applied_to_json(self, data: bytes, *root: str) -> bytes:
        """The same, of a value as JSON: the same bytes where no path leads to it."""
        before = serialization.load(data)
        after = self.applied(before, *root)
        return data if after is before else serialization.dump(after, at=root[0])

    def require_all_found(self) -> None:
        """Check that each path has led to something.

        Raises:
            ArchiveError: one has not: perhaps it is misspelt.
        """
        missing = [path.text for path in self.paths if path.text not in self.found]
        if missing:
            raise ArchiveError(
                f"nothing was ever at {', '.join(missing)}, so it is left unfinished."
            )


def _names(part: str, name: str) -> bool:
    return part in ("*", name)


def _without(value: Any, path: list[str]) -> tuple[Any, bool]:
    """A value without what is at a path, and whether anything is there."""
    if not path:
        return _hidden(value), True
    names: Iterable[Any] = ()
    if isinstance(value, dict):
        names = [name for name in value if _names(path[0], name)]
    elif isinstance(value, list):
        names = [place for place in range(len(value)) if _names(path[0], str(place))]
    changed = {name: _without(value[name], path[1:]) for name in names}
    changed = {name: made for name, made in changed.items() if made[1]}
    if not changed:
        return value, False
    made = value.copy()
    for name, (part, _) in changed.items():
        made[name] = part
    return made, True


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hidden(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_hidden(part) for part in value]
    if isinstance(value, str):
        return REDACTED
    return None if value is None else type(value)()


@dataclass
class _Known:
    """What the next entry may be made of: entries and states as they were, and as they are."""

    entries: dict[int, Entry] = field(default_factory=dict)
    states: dict[int, tuple[State, State]] = field(default_factory=dict)
    before: Recorded = field(default_factory=lambda: Recorded({}))
    after: Recorded = field(default_factory=lambda: Recorded({}))
    small: dict[int, bytes] = field(default_factory=dict)


class Redaction:
    """Writes the entries of a log anew.

    Args:
        redactor: Redacts their values.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._known = _Known()
        self._unders: dict[str, str] = {}  # of the states, by what they were
        self._large: dict[tuple[int, int], Record] = {}  # by where their results were stored

    def entries(self, stored_: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """The entries of a log without what is redacted, oldest first.

        Args:
            stored_: All entries as they are stored, oldest first; some may have been removed.

        Raises:
            CorruptEntry: one is damaged.
            ArchiveError: at the end: a path has led to nothing.
        """
        for seq, data in stored_:
            key = f"log/{seq:09d}"
            entry = Entry.from_bytes(data, key=key, seq=seq)
            if entry.state is None:  # a claim
                self._known.entries[seq] = entry
                yield seq, data
                continue
            try:
                yield seq, self._anew(entry, data, key)
            except (ValueError, TypeError) as error:
                raise CorruptEntry(key, f"it is damaged ({error!r}).") from error
        self._redactor.require_all_found()

    def _anew(self, entry: Entry, data: bytes, key: str) -> bytes:
        known, seq = self._known, entry.seq
        known.entries = {n: known.entries[n] for n in makers(seq) if n in known.entries}
        known.entries[seq] = entry
        small = recent(known.small, seq)
        new = replace(
            entry,
            meta=self._meta(entry),
            state=self._state(entry),
            repeats=repetition(seq, small),
            large=(),
            large_start=0,
            large_bytes=0,
        )
        try:
            before = Recorded.read(seq, known.entries, key)
        except KeyError:  # what it is made of was removed: it stays for its header alone
            new = replace(new, journal=entry.journal and replace(entry.journal, payload=b""))
        else:
            new = self._with_journal(new, before, data)
        known.small = small | beginning_if_small(replace(new, large=()))
        return new.to_bytes()

    def _with_journal(self, entry: Entry, before: Recorded, data: bytes) -> Entry:
        """Add to an entry what steps have recorded, where `before` is the journal as it was."""
        known, seq = self._known, entry.seq
        lines, appends = _appended(known.before, before, seq)
        records = [self._redacted(Record.from_line(line), data) for line in lines_of(lines)]
        if appends:
            more = [replace(r, entry=None) if r.outcome is Outcome.NOTE else r for r in records]
            entry, after = with_records(entry, more, lambda own: known.after.after(seq, own))
            self._note_large(lines, _appended(known.after, after, seq)[0])
        else:
            after = known.after.anew(seq, encode(records))
            entry = replace(entry, journal=after.stretch(seq))
        known.before, known.after = before, after
        return entry

    def _state(self, entry: Entry) -> Part:
        """The state of an entry as it is stored now."""
        known, seq, part = self._known.states, entry.seq, entry.state
        assert part is not None
        try:
            was = States({seq: entry}, {n: old for n, (old, _) in known.items()})[seq]
        except KeyError:  # see `_anew`
            return Part(base=part.base, size=part.size)
        made = next((new for old, new in known.values() if old is was), None)
        if made is None:
            redacted = self._redactor.applied_to_json(was.keep(), "state")
            made = State(len(redacted), data=redacted)
            self._unders[state_digest(was.data)] = state_digest(redacted)
        kept = {n: known[n] for n in bases(seq) if n in known}
        for state in (each for pair in kept.values() for each in pair if each not in (was, made)):
            state.release()
        self._known.states = kept | {seq: (was, made)}
        return stored(made, seq, {n: new for n, (_, new) in kept.items()})

    def _meta(self, entry: Entry) -> dict[str, Any] | None:
        meta = entry.meta
        if meta is None or "result" not in meta:
            return meta
        return meta | {"result": self._redactor.applied(meta["result"], "result")}

    def _redacted(self, record: Record, data: bytes) -> Record:
        """A record without what is redacted; a large result of this entry is in it."""
        under = self._unders.get(record.under, record.under)
        record = replace(record, under=under, called_with="")  # any value may be in that
        if record.outcome is Outcome.UNKEPT:
            return record
        if (large := record.large) is not None:
            if (large.seq, large.start) in self._large:
                there = self._large[large.seq, large.start]
                return replace(record, result=there.result, large=there.large)
            record = replace(record, result=_large_result(large, data), large=None)
        if record.result is None:
            return record
        result = self._redactor.applied_to_json(record.result, "results", record.step)
        return replace(record, result=result)

    def _note_large(self, before: bytes, after: bytes) -> None:
        """Note where large results of an entry are now: roll-backs take their records over."""
        for old, new in zip(lines_of(before), lines_of(after), strict=True):
            if (large := Record.from_line(old).large) is not None:
                self._large[large.seq, large.start] = Record.from_line(new)


def _appended(before: Recorded, after: Recorded, seq: int) -> tuple[bytes, bool]:
    """The lines that entry `seq` has appended to a journal; or all, and False, if it has not."""
    more = after.size - before.size
    if not more and after.crc == before.crc:
        return b"", True
    if more > 0 and seq in after.pieces:
        lines = b"".join(frames(after.pieces[seq].payload))[-more:]
        if len(lines) == more and crc32(lines, before.crc) == after.crc:
            return lines, True
    return after.lines(), False


def _large_result(large: Large, data: bytes) -> bytes:
    return decompress(data[large.start : large.start + large.stored], large.size)
