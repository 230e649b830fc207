"""The thread that an execution is: its graph's checkpoints are the execution's own."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.runtime import RunControl

from prefect_executions import serialization
from prefect_executions.langgraph.gathering import Gathering
from prefect_executions.langgraph.index import STATE, GraphCheckpoint, Index, Writes
from prefect_executions.langgraph.logsaver import LogSaver
from prefect_executions.langgraph.slots import Slot, Slots, joined, stays
from prefect_executions.runtime.notes import Notes


class RunThread:
    """The thread of the execution that this code runs in.

    Attributes:
        notes: What the execution keeps of it.
        index: What it has.
        calls: How often a graph was invoked in this attempt.
        control: Stops the graph that runs at its next superstep, where a save has to leave.
        left: What a save has left by.
    """

    def __init__(self) -> None:
        self.notes = Notes()
        self.calls = 0
        self.control = RunControl()
        self.left: BaseException | None = None
        self._lock = RLock()
        self._gathering = Gathering()
        self._is_current = False
        self.index = Index()
        self.slots  # noqa: B018  # the state has room for them

    @property
    def slots(self) -> Slots:
        """The newest checkpoints, by namespace: in the execution's state."""
        state: Any = self.notes.run.state
        if isinstance(state, dict):
            found: Slots = state.get(STATE, {})
            return found
        try:
            found = getattr(state, STATE)
        except AttributeError:
            raise TypeError(
                f"the state {type(state).__name__} has no room for the graph's checkpoints: give "
                f"it a field `{STATE}: dict[str, Any] = {{}}`, or let it be a dict."
            ) from None
        return found

    @slots.setter
    def slots(self, slots: Slots) -> None:
        state: Any = self.notes.run.state
        if isinstance(state, dict):
            state[STATE] = slots
        else:
            setattr(state, STATE, slots)

    def refresh(self) -> None:
        """Read what the log has, if anything was written since it was read last."""
        with self._lock:
            if not self._is_current:
                self.index = Index.of(self.notes.read())
                self._is_current = True

    def slots_at(self, entries: Iterable[int]) -> dict[int, Slots]:
        """See `slots.Thread`."""
        states = self.notes.states_at(entries)
        return {at: serialization.load(data).get(STATE, {}) for at, data in states.items()}

    @contextmanager
    def putting(self) -> Iterator[Callable[[GraphCheckpoint, Slot, str], None]]:
        """See `slots.Thread`."""
        with self._lock:
            yield self._put

    def _put(self, saved: GraphCheckpoint, slot: Slot, label: str) -> None:
        kept = {ns: at for ns, at in self.slots.items() if stays(ns, saved.ns)}
        with self._draining(), self._gathering.taken() as gathered:
            notes, slot = joined(gathered, saved, slot)
            self.slots = kept | {saved.ns: slot}
            self._is_current = False
            self.notes.checkpoint(notes, label=label)

    def put_writes(self, writes: Writes) -> None:
        """See `slots.Thread`."""

        def write() -> None:
            with self._lock, self._draining(), self._gathering.taken() as gathered:
                if gathered:
                    self._is_current = False
                    self.notes.add([writes.note() for writes in gathered])

        self._gathering.add(writes, write)

    @contextmanager
    def _draining(self) -> Iterator[None]:
        """Let the graph end at its next superstep where the body leaves or fails."""
        try:
            yield
        except BaseException as left:
            self.left = left
            self.control.request_drain(f"{type(left).__name__}: {left}")
            raise


class RunSaver(LogSaver):
    """The checkpointer of the execution that runs: see `saver`."""

    def __init__(self, thread: RunThread, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self.thread = thread

    def _open(self, config: RunnableConfig) -> RunThread:
        thread = self._made(config)
        thread.refresh()
        return thread

    def _made(self, config: RunnableConfig) -> RunThread:
        named, own = config["configurable"]["thread_id"], self.thread.notes.run.id
        if named != own:
            raise ValueError(
                f"thread_id: {named!r} is not this execution. Its graph's thread is {own!r}; "
                "`prefect_executions.langgraph.invoke` names it by itself."
            )
        return self.thread
