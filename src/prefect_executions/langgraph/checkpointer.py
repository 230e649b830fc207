"""LangGraph checkpointers over logs: `Saver`, and its kinds for S3 and for a directory."""

from collections.abc import Iterable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from prefect_executions.background import in_thread
from prefect_executions.langgraph.index import GraphCheckpoint
from prefect_executions.langgraph.logsaver import LogSaver
from prefect_executions.langgraph.slots import Thread
from prefect_executions.langgraph.threads import LogThread, LogThreads
from prefect_executions.langgraph.values import given
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import Objects
from prefect_executions.storage.s3 import S3Objects

R = TypeVar("R")

_AT_ONCE = 32  # checkpoints whose states are read in one round


class Saver(LogSaver):
    """A LangGraph checkpointer over a store of objects; it needs no Prefect.

    A thread is a log (see docs/log-format.md). Every checkpoint is one object, as large as the
    change, and has the writes of the tasks that led to it beside it. What a call has stored is
    durable when it returns.

    Args:
        objects: The store.
        serde: Serializes what is not plain JSON; LangGraph's own by default.
    """

    def __init__(self, objects: Objects, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._threads = LogThreads(objects)
        self._claimed: dict[str, LogThread] = {}

    # ------------------------------------------------------------------ threads

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread, and all objects that it has."""
        self._threads.delete(thread_id)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread as it is, with its whole history, to a new one.

        Raises:
            ValueError: the target exists.
        """
        self._threads.copy(source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove what is not needed of threads.

        Args:
            thread_ids: The threads.
            strategy: `keep_latest` leaves the newest checkpoint of each namespace, and those that
                its delta channels are made from; `delete` leaves nothing. Objects that the rest is
                made of stay, and so do those of the last ten minutes, until the next time.

        Raises:
            ValueError: there is no such strategy.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy: {strategy!r} is none; use 'keep_latest' or 'delete'.")
        for thread_id in thread_ids:
            if strategy == "delete":
                self._threads.delete(thread_id)
            elif (thread := self._threads.open(thread_id)) is not None:
                thread.keep_only(thread.index.is_newest)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata has one of these as `run_id`; reads all threads.

        Those that delta channels of others are made from stay.
        """
        gone = set(run_ids)

        def stays(saved: GraphCheckpoint) -> bool:
            return given(saved.metadata, self.serde).get("run_id") not in gone

        for thread_id in self._threads.ids():
            thread = self._threads.open(thread_id)
            if thread and not all(map(stays, thread.index.newest_first(None))):
                thread.keep_only(stays)

    # ------------------------------------------------------------------ ownership

    def claim_write_ownership(self, thread_id: str) -> "Saver":
        """Make the caller the only one that may write to a thread.

        Writers that have claimed it before, and runs of a graph that began before, get `Superseded`
        from then on, which has `is_stale_write_owner_error`, and store nothing.

        Returns:
            The checkpointer to write with; to other threads it writes like this one.
        """
        owner = copy(self)
        owner._claimed = self._claimed | {thread_id: self._threads.claim(thread_id)}
        return owner

    def check_write_ownership(self) -> None:
        """Check that what this checkpointer has claimed is still its own: a LIST for each thread.

        Raises:
            Superseded: another has claimed a thread since.
        """
        for thread in self._claimed.values():
            thread.require_owner()

    async def aclaim_write_ownership(self, thread_id: str) -> "Saver":
        """`claim_write_ownership` for async code."""
        return await in_thread(self.claim_write_ownership, thread_id)

    async def acheck_write_ownership(self) -> None:
        """`check_write_ownership` for async code."""
        await in_thread(self.check_write_ownership)

    # ------------------------------------------------------------------ the same, async

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread` for async code."""
        await in_thread(self.delete_thread, thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread` for async code."""
        await in_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`prune` for async code."""
        await in_thread(partial(self.prune, thread_ids, strategy=strategy))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`delete_for_runs` for async code."""
        await in_thread(self.delete_for_runs, run_ids)

    # ------------------------------------------------------------------ which thread

    def _open(self, config: RunnableConfig) -> Thread | None:
        thread_id = config["configurable"]["thread_id"]
        if (owned := self._claimed.get(thread_id)) is not None:
            owned.refresh()
            return owned
        return self._threads.open(thread_id)

    def _made(self, config: RunnableConfig) -> Thread:
        thread_id = config["configurable"]["thread_id"]
        return self._claimed.get(thread_id) or self._threads.made(thread_id)

    def _thread_ids(self) -> Iterable[str]:
        return self._threads.ids()


class S3Saver(Saver):
    """A LangGraph checkpointer over an S3 bucket; it needs no Prefect.

    Args:
        bucket: The bucket. It must keep `If-None-Match`, as Amazon S3 does; one that does not is
            refused when the first thread is made.
        serde: See `Saver`.
        options: See `S3Objects`: `prefix`, `region`, `endpoint`, keys and so on.
    """

    def __init__(
        self, bucket: str, *, serde: SerializerProtocol | None = None, **options: Any
    ) -> None:
        super().__init__(S3Objects(bucket=bucket, **options), serde=serde)


class DirectorySaver(Saver):
    """A LangGraph checkpointer over a directory; it needs no Prefect.

    Args:
        path: The directory, on a file system with hard links.
        serde: See `Saver`.
    """

    def __init__(self, path: Path | str, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(DirectoryObjects(Path(path)), serde=serde)
