"""What a thread has: its checkpoints and the writes of its tasks, as notes of its log tell it.

A note is written with each checkpoint, and one with the writes of each task. The values of a
checkpoint are in the state of the entry that its note came with (see `slots`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from langgraph.checkpoint.base import writes_sort_key

from prefect_executions import serialization
from prefect_executions.log.journal import Outcome, Record, note

STATE = "langgraph"  # the key of the state under which a graph's checkpoints stand

Place = tuple[str, str]  # a namespace, and the id of a checkpoint in it


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCheckpoint:
    """A checkpoint.

    Args:
        ns: The namespace of its graph; that of the root is empty.
        id: Its id.
        parent: The id of the checkpoint that it came after.
        metadata: As it is kept (see `values`).
        channels: The names of the channels whose values it has.
        deltas: The names of those whose values are made from their writes.
        entry: The number of the entry whose state has it.
    """

    ns: str
    id: str
    parent: str | None
    metadata: dict[str, Any]
    channels: tuple[str, ...]
    deltas: tuple[str, ...] = ()
    entry: int = -1

    def note(self) -> Record:
        """The note that tells of it."""
        content = {
            "put": self.id,
            "ns": self.ns,
            "parent": self.parent,
            "metadata": self.metadata,
            "channels": [*self.channels],
            "deltas": [*self.deltas],
        }
        return _note({name: value for name, value in content.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write of a task.

    Args:
        task: The task.
        path: Its path.
        index: The write's place among those of the task, negative for those of a special kind.
        channel: What is written to.
        value: The value as it is kept (see `values`); None where it stands with a checkpoint.
        at: Where it stands then: the entry, the namespace, and the numbers of the writes and of
            this one.
    """

    task: str
    path: str
    index: int
    channel: str
    value: dict[str, Any] | None
    at: tuple[int, str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Writes:
    """The writes that a task has made with a checkpoint at hand."""

    to: Place
    writes: tuple[Write, ...]

    def note(self, beside: tuple[str, int] | None = None) -> Record:
        """The note that tells of them.

        Args:
            beside: The namespace and the number under which the checkpoint that they have led to,
                in the same entry, has their values.
        """
        ns, checkpoint = self.to
        first = self.writes[0]
        values = (() if beside else (write.value,) for write in self.writes)
        content = {
            "to": checkpoint,
            "ns": ns,
            "task": first.task,
            "path": first.path,
            "writes": [
                [write.index, write.channel, *value]
                for write, value in zip(self.writes, values, strict=True)
            ],
            "beside": [*beside] if beside else None,
        }
        return _note({name: value for name, value in content.items() if value})


@dataclass(slots=True)
class Index:
    """The checkpoints of a thread by namespace and id, and the writes of tasks by checkpoint."""

    saved: dict[str, dict[str, GraphCheckpoint]] = field(default_factory=dict)
    writes: dict[Place, dict[tuple[str, int], Write]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Index":
        """The index that the notes among these records tell."""
        index = cls()
        for record in records:
            index.add(record)
        return index

    def add(self, record: Record, entry: int | None = None) -> None:
        """Take in a record, which was written with entry `entry` if that is not in it."""
        at = record.entry if entry is None else entry
        match told(record, -1 if at is None else at):
            case GraphCheckpoint() as saved:
                self.saved.setdefault(saved.ns, {})[saved.id] = saved
            case Writes(to, writes):
                known = self.writes.setdefault(to, {})
                for write in writes:
                    # Of a task's ordinary writes the first stays; of a special kind, the last.
                    if write.index < 0:
                        known[write.task, write.index] = write
                    else:
                        known.setdefault((write.task, write.index), write)

    def find(self, ns: str, checkpoint: str | None) -> GraphCheckpoint | None:
        """A checkpoint by its id; the newest of the namespace without one."""
        there = self.saved.get(ns, {})
        return there.get(max(there, default="") if checkpoint is None else checkpoint)

    def is_newest(self, saved: GraphCheckpoint) -> bool:
        """Whether a checkpoint is the newest of its namespace."""
        return saved.id == max(self.saved[saved.ns])

    def newest_first(self, ns: str | None) -> Iterator[GraphCheckpoint]:
        """The checkpoints of a namespace, or of all."""
        chosen = self.saved.values() if ns is None else [self.saved.get(ns, {})]
        for there in chosen:
            yield from sorted(there.values(), key=attrgetter("id"), reverse=True)

    def writes_of(self, saved: GraphCheckpoint) -> list[Write]:
        """The writes of tasks with this checkpoint at hand, in the order in which they apply."""
        known = self.writes.get((saved.ns, saved.id), {})
        return sorted(known.values(), key=lambda w: writes_sort_key(w.path, w.task, w.index))

    def ancestors(self, saved: GraphCheckpoint) -> Iterator[GraphCheckpoint]:
        """The checkpoints before one, the nearest first, as far as they are there."""
        there = self.saved.get(saved.ns, {})
        while saved.parent is not None and saved.parent in there:
            saved = there[saved.parent]
            yield saved

    def needed_for(self, kept: Iterable[GraphCheckpoint]) -> set[Place]:
        """These checkpoints, and those before them that their delta channels are made from."""
        needed: set[Place] = set()
        for saved in kept:
            needed.add((saved.ns, saved.id))
            missing = set(saved.deltas) - set(saved.channels)
            for before in self.ancestors(saved):
                if not missing:
                    break
                needed.add((before.ns, before.id))
                missing -= set(before.channels)
        return needed


def told(record: Record, entry: int = -1) -> GraphCheckpoint | Writes | None:
    """What a record, which was written with an entry, tells of a graph; None of all others."""
    is_own = record.outcome is Outcome.NOTE and record.step == STATE
    if not is_own or record.result is None:
        return None
    content: dict[str, Any] = serialization.load(record.result)
    ns = content.get("ns", "")
    if "put" in content:
        return GraphCheckpoint(
            ns=ns,
            id=content["put"],
            parent=content.get("parent"),
            metadata=content["metadata"],
            channels=tuple(content.get("channels", ())),
            deltas=tuple(content.get("deltas", ())),
            entry=entry,
        )
    if "to" in content:
        task, path = content["task"], content.get("path", "")
        beside = content.get("beside")
        writes = (
            Write(
                task=task,
                path=path,
                index=index,
                channel=channel,
                value=value[0] if value else None,
                at=(entry, *beside, number) if beside else None,
            )
            for number, (index, channel, *value) in enumerate(content["writes"])
        )
        return Writes((ns, content["to"]), tuple(writes))
    return None


def _note(content: dict[str, Any]) -> Record:
    return note(serialization.dump(content, at="note"), STATE)
