"""What all LangGraph checkpointers over logs have in common: reading and writing one thread."""

from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from prefect_executions.background import in_thread
from prefect_executions.errors import StateError
from prefect_executions.langgraph.index import GraphCheckpoint, Index, Write, Writes
from prefect_executions.langgraph.slots import (
    Slots,
    Thread,
    label_for,
    slot_of,
    value_of,
    values_of,
)
from prefect_executions.langgraph.values import given, keep

R = TypeVar("R")

_AT_ONCE = 32  # checkpoints whose states are read in one round


class LogSaver(BaseCheckpointSaver[int], ABC):
    """A LangGraph checkpointer over logs: `put` and its like, sync and async."""

    @abstractmethod
    def _open(self, config: RunnableConfig) -> Thread | None:
        """The thread to read, as it is now; None when there is none."""

    @abstractmethod
    def _made(self, config: RunnableConfig) -> Thread:
        """The thread to write to, as it was last seen."""

    def _thread_ids(self) -> Iterable[str]:
        """The ids of all threads."""
        raise NotImplementedError("name a thread: `thread_id` of `configurable`")

    # ------------------------------------------------------------------ reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the newest of its namespace; None if none.

        One LIST, and nothing else when this process has read or written the newest last.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        thread = self._open(config)
        if thread is None:
            return None
        index = thread.index
        saved = index.find(_ns_of(config), get_checkpoint_id(config))
        return next(self._tuples(config, thread, index, [saved]), None) if saved else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The checkpoints of a thread, newest first; without a config those of all threads.

        Their states are read 32 at a time, as the caller goes on.

        Args:
            config: Names the thread, and perhaps a namespace and a checkpoint.
            filter: Values that the metadata must have.
            before: Names a checkpoint that they must be older than.
            limit: How many at most.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        configs = [config] if config else map(config_of, self._thread_ids())
        found = (at for one in configs for at in self._listed(one, filter or {}, before))
        return islice(found, limit)

    def _listed(
        self, config: RunnableConfig, wanted: dict[str, Any], before: RunnableConfig | None
    ) -> Iterator[CheckpointTuple]:
        thread = self._open(config)
        if thread is None:
            return
        index = thread.index
        id_, end = get_checkpoint_id(config), get_checkpoint_id(before) if before else None

        def is_wanted(saved: GraphCheckpoint) -> bool:
            if id_ not in (None, saved.id) or (end is not None and saved.id >= end):
                return False
            metadata = given(saved.metadata, self.serde) if wanted else {}
            return all(metadata.get(name) == value for name, value in wanted.items())

        chosen = filter(is_wanted, index.newest_first(config["configurable"].get("checkpoint_ns")))
        while batch := list(islice(chosen, _AT_ONCE)):
            yield from self._tuples(config, thread, index, batch)

    def _tuples(
        self,
        config: RunnableConfig,
        thread: Thread,
        index: Index,
        batch: Collection[GraphCheckpoint],
    ) -> Iterator[CheckpointTuple]:
        """The tuples of some checkpoints; those whose entries are gone are left out."""
        writes = [index.writes_of(saved) for saved in batch]
        entries = {write.at[0] for some in writes for write in some if write.at}
        there = thread.slots_at(entries | {saved.entry for saved in batch})
        thread_id = config["configurable"]["thread_id"]
        for saved, pending in zip(batch, writes, strict=True):
            slot = there.get(saved.entry, {}).get(saved.ns)
            if slot is None or slot["id"] != saved.id:
                continue
            yield CheckpointTuple(
                config_of(thread_id, saved.ns, saved.id),
                values_of(slot, self.serde),
                given(saved.metadata, self.serde),
                config_of(thread_id, saved.ns, saved.parent) if saved.parent else None,
                [self._pending(write, there) for write in pending],
            )

    def _pending(self, write: Write, there: Mapping[int, Slots]) -> tuple[str, str, Any]:
        return write.task, write.channel, given(value_of(write, there), self.serde)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What delta channels are made from: a LIST, and a round of GETs for the values.

        Raises:
            StateError: a value that one of them starts from is gone, in a fork for instance.
        """
        histories: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
        thread = self._open(config) if channels else None
        if thread is None:
            return histories
        index, seeds = thread.index, dict[str, GraphCheckpoint]()
        saved = index.find(_ns_of(config), get_checkpoint_id(config))
        found: dict[str, list[Write]] = {name: [] for name in channels}
        for before in index.ancestors(saved) if saved else ():
            writes = index.writes_of(before)
            for name in found.keys() - seeds.keys():
                found[name][:0] = [write for write in writes if write.channel == name]
                if name in before.channels:
                    seeds[name] = before
        entries = {write.at[0] for some in found.values() for write in some if write.at}
        there = thread.slots_at(entries | {before.entry for before in seeds.values()})
        for name, some in found.items():
            histories[name]["writes"] = [self._pending(write, there) for write in some]
        for name, before in seeds.items():
            slot = there.get(before.entry, {}).get(before.ns)
            if slot is None or slot["id"] != before.id:
                raise StateError(name, f"begins with checkpoint {before.id!r}, which is gone.")
            histories[name]["seed"] = given(slot["values"][name], self.serde)
        return histories

    # ------------------------------------------------------------------ writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and the writes that wait: one PUT.

        Raises:
            StateError: a channel has a value that can't be kept; it is named.
            Superseded: another has claimed the thread since; nothing was stored.
            StoreUnavailable: the store did not answer; whether it is stored is not known.
        """
        ns, parent = _ns_of(config), get_checkpoint_id(config)
        thread = self._made(config)
        with thread.putting() as put:
            last = thread.slots.get(ns)
            before = last if last is not None and last["id"] == parent else None
            slot = slot_of(checkpoint, self.serde, before, new_versions)
            kept = get_checkpoint_metadata(config, metadata)
            saved = GraphCheckpoint(
                ns=ns,
                id=checkpoint["id"],
                parent=parent,
                metadata=keep(kept, self.serde, "metadata"),
                channels=tuple(slot["values"]),
                deltas=tuple(metadata.get("counters_since_delta_snapshot", ())),
            )
            put(saved, slot, label_for(ns, checkpoint, metadata, last, self.serde))
        return config_of(config["configurable"]["thread_id"], ns, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the writes of a task: in the PUT of the checkpoint that it leads to, or alone.

        Raises:
            StateError: a channel is given a value that can't be kept; it is named.
            Superseded, StoreUnavailable: see `put`.
        """
        to = _ns_of(config), config["configurable"]["checkpoint_id"]
        if not writes:
            return
        kept = tuple(
            Write(
                task=task_id,
                path=task_path,
                index=WRITES_IDX_MAP.get(channel, place),
                channel=channel,
                value=keep(value, self.serde, channel),
            )
            for place, (channel, value) in enumerate(writes)
        )
        self._made(config).put_writes(Writes(to, kept))

    # ------------------------------------------------------------------ the same, async

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple` for async graphs."""
        return await in_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """`list` for async graphs."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (one := await in_thread(next, found, None)) is not None:
            yield one

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`put` for async graphs."""
        return await in_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """`put_writes` for async graphs."""
        await in_thread(self.put_writes, config, writes, task_id, task_path)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`get_delta_channel_history` for async graphs."""
        read = partial(self.get_delta_channel_history, config=config, channels=channels)
        return await in_thread(read)


def _ns_of(config: RunnableConfig) -> str:
    ns: str = config["configurable"].get("checkpoint_ns", "")
    return ns


def config_of(
    thread_id: str, ns: str | None = None, checkpoint: str | None = None
) -> RunnableConfig:
    """A config that names a thread, and perhaps a namespace and a checkpoint."""
    named = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint}
    return {"configurable": {name: value for name, value in named.items() if value is not None}}
