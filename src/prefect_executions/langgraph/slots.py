"""A checkpoint as a state keeps it, in the slot of its namespace, and the label that it gets."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol

from prefect_executions.errors import StateError
from prefect_executions.labels import label_of
from prefect_executions.langgraph.index import GraphCheckpoint, Index, Write, Writes
from prefect_executions.langgraph.values import given, keep
from prefect_executions.log.journal import Record

Slot = dict[str, Any]  # the id, the checkpoint without its values, and these by channel
Slots = dict[str, Slot]  # by namespace: its newest checkpoint


class Thread(Protocol):
    """A thread that a checkpointer reads and writes.

    Attributes:
        index: What it has.
        slots: The newest checkpoints, by namespace.
    """

    index: Index
    slots: Slots

    def slots_at(self, entries: Iterable[int]) -> dict[int, Slots]:
        """The newest checkpoints after some entries; those that are gone are left out."""
        ...

    def putting(self) -> AbstractContextManager[Callable[[GraphCheckpoint, Slot, str], None]]:
        """Put one checkpoint: nothing else is written from when its slot is made from the last."""
        ...

    def put_writes(self, writes: Writes) -> None:
        """Store the writes of a task."""
        ...


def stays(ns: str, put: str) -> bool:
    """Whether the slot of a namespace stays when a checkpoint of another one is put.

    A subgraph that a task of the last superstep has run is not continued after it.
    """
    is_within = ns != put and ns.startswith(f"{put}|" if put else "")
    return not (is_within and ":" in ns)


def joined(
    gathered: Iterable[Writes], saved: GraphCheckpoint, slot: Slot
) -> tuple[list[Record], Slot]:
    """The notes of an entry with a checkpoint, and its slot, with the values of some writes.

    The writes that have led to it are mostly in the values of its channels, too: together they take
    the room of one.

    Args:
        gathered: The writes that go into the entry.
        saved: The checkpoint.
        slot: Its slot.
    """
    led = [writes for writes in gathered if writes.to == (saved.ns, saved.parent)]
    notes = [writes.note() for writes in gathered if writes not in led]
    notes += [writes.note((saved.ns, number)) for number, writes in enumerate(led)]
    if led:
        slot = slot | {"writes": [[write.value for write in writes.writes] for writes in led]}
    return [*notes, saved.note()], slot


def value_of(write: Write, there: Mapping[int, Slots]) -> Any:
    """The value of a write as it is kept.

    Args:
        write: The write.
        there: What `slots_at` has given for its entry.

    Raises:
        StateError: it is gone with its entry, in a fork for instance.
    """
    if write.at is None:
        return write.value
    entry, ns, writes, number = write.at
    try:
        return there[entry][ns]["writes"][writes][number]
    except (LookupError, TypeError):
        raise StateError(write.channel, f"a value of entry {entry} is gone with it.") from None


def slot_of(
    checkpoint: Checkpoint,
    serde: SerializerProtocol,
    before: Slot | None,
    new_versions: ChannelVersions,
) -> Slot:
    """A checkpoint as it is kept.

    Args:
        checkpoint: The checkpoint.
        serde: Serializes it.
        before: The slot of the one that it came after: what has not changed is taken from there.
        new_versions: The channels that have changed.

    Raises:
        StateError: a channel has a value that can't be kept.
    """
    rest: dict[str, Any] = {**checkpoint}
    values, versions = rest.pop("channel_values"), checkpoint["channel_versions"]
    known = {} if before is None else before["values"]
    seen = {} if before is None else _rest_of(before, serde)["channel_versions"]
    kept = {}
    for name, value in values.items():
        is_same = name in seen and versions.get(name) == seen[name] and name not in new_versions
        if is_same and name in known:
            kept[name] = known[name]
        else:
            kept[name] = keep(value, serde, name)
    return {"id": checkpoint["id"], "checkpoint": keep(rest, serde, "checkpoint"), "values": kept}


def values_of(slot: Slot, serde: SerializerProtocol) -> Checkpoint:
    """The checkpoint in a slot."""
    values = {name: given(value, serde) for name, value in slot["values"].items()}
    return cast("Checkpoint", _rest_of(slot, serde) | {"channel_values": values})


def label_for(
    ns: str,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    before: Slot | None,
    serde: SerializerProtocol,
) -> str:
    """What people see in the list of checkpoints: the subgraph, the step and the nodes that ran."""
    source, step = metadata.get("source", "loop"), metadata.get("step")
    seen = {} if before is None else _rest_of(before, serde)["versions_seen"]
    ran = [
        node
        for node, versions in checkpoint["versions_seen"].items()
        if versions != seen.get(node) and not node.startswith("__")
    ]
    what = source if source != "loop" or step is None else f"step {step}"
    nodes = f": {', '.join(ran)}" if ran and source == "loop" else ""
    graph = " > ".join(part.partition(":")[0] for part in ns.split("|"))
    return label_of(f"{graph} > {what}{nodes}" if ns else f"{what}{nodes}") or "checkpoint"


def _rest_of(slot: Slot, serde: SerializerProtocol) -> dict[str, Any]:
    """The checkpoint in a slot, without its values."""
    rest: dict[str, Any] = given(slot["checkpoint"], serde)
    return rest
