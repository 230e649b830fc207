"""Testing flows: executions in memory that crash and pause where a test wants it.

The test brings the Prefect server, such as `prefect_test_harness`. Attempts run in the process of
the test, one after the other, as a worker would start them.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Pending, Suspended
from pydantic import BaseModel, PrivateAttr

from prefect_executions import serialization
from prefect_executions.blocks.store import ExecutionStore, replaced_by
from prefect_executions.executions.creation import EMPTY, Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.log.entry import Kind
from prefect_executions.models import Execution, ExecutionConfig, Resumed
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.states import state_of
from prefect_executions.storage.objects import MemoryObjects, Objects

_STORE = "testing"


class Crash(BaseException):
    """The process of an execution dies here; nothing it writes later reaches the store."""


class MemoryStore(ExecutionStore):
    """A store block that keeps executions in memory, or in the objects it is given."""

    _block_type_name = "Memory Store"
    _block_type_slug = "memory-store"

    _objects: Objects = PrivateAttr(default_factory=MemoryObjects)

    @classmethod
    def of(cls, objects: Objects) -> "MemoryStore":
        """A store of these objects."""
        store = cls(bucket="memory")
        store._objects = objects
        return store

    def objects(self) -> Objects:
        """See `ExecutionStore.objects`."""
        return self._objects


class _Hooks:
    """What to call when a process writes to the store, with its `_ProcessObjects` and the bytes."""

    def __init__(self) -> None:
        self.before: list[Callable[..., None]] = []
        self.after: list[Callable[..., None]] = []


class _ProcessObjects:
    """The store as one process sees it; when the process is dead, every call raises `Crash`."""

    def __init__(self, inner: Objects, hooks: _Hooks) -> None:
        self._inner = inner
        self._hooks = hooks
        self._is_dead = False

    def create(self, key: str, data: bytes) -> None:
        self._require_alive()
        for act in self._hooks.before:
            act(self, data)
        self._inner.create(key, data)
        for act in self._hooks.after:
            act(self, data)

    def get(self, keys: Iterable[str], *, first: int | None = None) -> dict[str, bytes]:
        self._require_alive()
        return self._inner.get(keys, first=first)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        self._require_alive()
        return self._inner.scan(prefix, limit=limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        self._require_alive()
        return self._inner.measure(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self._require_alive()
        self._inner.delete(keys)

    def die(self) -> NoReturn:
        self._is_dead = True
        raise Crash

    def _require_alive(self) -> None:
        if self._is_dead:
            raise Crash


class Trial:
    """An execution of a flow, whose attempts run in this process.

    Attributes:
        id: The execution's id.
        result: What the flow returned, when it has completed.
        error: What the newest attempt raised, if it failed or crashed.
    """

    def __init__(self, kit: "TestKit", flow: Flow[..., Any], execution: Execution) -> None:
        self.id = execution.id
        self.result: Any = None
        self.error: BaseException | None = None
        self._kit = kit
        self._flow = flow

    def __repr__(self) -> str:
        """Show its status and result, for a failed assertion."""
        return f"<{self._flow.name} {self.id}: {self.status}, {self.error or self.result!r}>"

    def get(self) -> Execution:
        """Read the execution, with all checkpoints and their states."""
        return self._kit.executions.get(self.id, checkpoints=None)

    @property
    def status(self) -> str:
        """Its status."""
        return self.get().status.value

    @property
    def state(self) -> Any:
        """Its newest durable state, as JSON."""
        return self.get().state

    def resume(self, *, checkpoint_id: str | None = None, input: Any = None) -> Resumed:  # noqa: A002
        """Resume it, and run it until it ends, pauses or crashes.

        Args:
            checkpoint_id: Roll back to this checkpoint.
            input: The answer to what the flow asks.

        Returns:
            What `Executions.resume` returns.

        Raises:
            ExecutionConflict, CheckpointNotFound, AnswerError: see `Executions.resume`.
        """
        resumed = self._kit.executions.resume(self.id, checkpoint_id=checkpoint_id, answer=input)
        self.run()
        return resumed

    def fork(self, *, checkpoint_id: str | None = None) -> "Trial":
        """Create another execution from a checkpoint, by default the newest state, and run it.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        made, _ = Creation(self._kit.executions).fork(self.id, checkpoint_id=checkpoint_id)
        fork = Trial(self._kit, self._flow, made)
        fork.run()
        return fork

    def run(self) -> None:
        """Run attempts while Prefect has it scheduled, without waiting for their time."""
        while state_of(run := self._kit._read(self.id)).is_scheduled():
            self._attempt(run)

    def _attempt(self, run: FlowRun) -> None:
        self.result = self.error = None
        run = self._kit._take(run)
        try:
            # In a context of its own: a process that crashes in a transaction is in none when it
            # begins again.
            self.result = copy_context().run(run_flow, self._flow, flow_run=run)
            if self._flow.isasync:
                self.result = asyncio.run(self.result)
        except Pause:
            self.result = None
        except (Exception, Crash) as error:
            self.error = error


class TestKit:
    """What `testing` yields: starts executions, and crashes and pauses them."""

    __test__ = False  # pytest

    def __init__(self, client: SyncPrefectClient, objects: Objects) -> None:
        self.store = MemoryStore.of(objects)
        self.executions = Executions(
            objects, FlowRuns(client, store=_STORE, wait=lambda _: None), wait=lambda _: None
        )
        self._objects = objects
        self._hooks = _Hooks()
        self._begin_process()
        self._client = client
        self._deployments: dict[int, tuple[Flow[..., Any], UUID]] = {}  # by the ids of the flows

    def start(
        self,
        flow: Flow[..., Any],
        *,
        state: Any = EMPTY,
        config: ExecutionConfig | None = None,
        **parameters: Any,
    ) -> Trial:
        """Create an execution of a flow, and run it until it ends, pauses or crashes.

        Args:
            flow: A flow decorated with `@execution`.
            state: The first state, as JSON or a pydantic model.
            config: How it is run.
            parameters: The parameters of the flow.
        """
        if id(flow) not in self._deployments:
            deployed = self._client.create_deployment(self._client.create_flow(flow), "testing")
            self._deployments[id(flow)] = flow, deployed
        _, deployment = self._deployments[id(flow)]
        execution, _ = Creation(self.executions).create(
            name=flow.name,
            deployment=str(deployment),
            parameters=flow.serialize_parameters(parameters),
            state=state.model_dump(mode="json") if isinstance(state, BaseModel) else state,
            config=config,
        )
        trial = Trial(self, flow, execution)
        trial.run()
        return trial

    def crash(self) -> NoReturn:
        """Kill the process that calls this."""
        self._process.die()

    @contextmanager
    def crash_before(self, n: int) -> Iterator[None]:
        """Kill the process when it is about to write its `n`th entry from now on.

        A process writes one entry when its attempt begins, one for each checkpoint, and one for
        each step; steps that end together share one.
        """
        yield from _hooked(self._hooks.before, _dying_at(n))

    @contextmanager
    def crash_after(self, n: int) -> Iterator[None]:
        """Kill the process when it has written its `n`th entry from now on."""
        yield from _hooked(self._hooks.after, _dying_at(n))

    @contextmanager
    def pause_at(self, label: str) -> Iterator[None]:
        """Pause the execution when it saves a checkpoint with this label, as a person would."""
        context: FlowRunContext | None = None  # of the execution, not of a subflow

        def pause(_: _ProcessObjects, data: bytes) -> None:
            nonlocal context
            header = serialization.load(data.partition(b"\n")[0])
            if header["kind"] == Kind.ATTEMPT:
                context = FlowRunContext.get()
            if header.get("label") != label or context is None or context.flow_run is None:
                return
            self._client.set_flow_run_state(context.flow_run.id, Suspended(), force=True)
            state = state_of(self._client.read_flow_run(context.flow_run.id))
            context.flow_run_suspension_request.mark_requested(state)

        yield from _hooked(self._hooks.after, pause, first=True)

    def _begin_process(self) -> None:
        """Run what is called from now on as another process."""
        self._process = _ProcessObjects(self._objects, self._hooks)
        self.store._objects = self._process

    def _read(self, execution_id: str) -> FlowRun:
        """The flow run of an execution."""
        return self._client.read_flow_run(flow_run_id(execution_id))

    def _take(self, run: FlowRun) -> FlowRun:
        """Begin a process for a scheduled run, as a worker does."""
        self._begin_process()
        self._client.set_flow_run_state(run.id, Pending(), force=True)
        return self._client.read_flow_run(run.id)


def _hooked(
    acts: list[Callable[..., None]], act: Callable[..., None], *, first: bool = False
) -> Iterator[None]:
    acts.insert(0 if first else len(acts), act)  # a crash comes last: nothing runs after it
    try:
        yield
    finally:
        acts.remove(act)


def _dying_at(n: int) -> Callable[..., None]:
    """Make a hook that kills the process which calls it for the `n`th time."""
    left = n

    def count(process: _ProcessObjects, *_: bytes) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            process.die()

    return count


@contextmanager
def testing(objects: Objects | None = None) -> Iterator[TestKit]:  # noqa: PT028
    """Keep executions in memory, and run them in this process.

    Executions are kept here whatever store a flow names. A flow can also be called as usual;
    `TestKit.start` runs it as a worker would, so that it can pause, crash and be resumed.

    Args:
        objects: Where executions are kept; by default in memory, and gone afterwards.
    """
    no_heartbeats = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with no_heartbeats, get_client(sync_client=True) as client:
        kit = TestKit(client, MemoryObjects() if objects is None else objects)
        with replaced_by(kit.store):
            yield kit


testing.__test__ = False  # type: ignore[attr-defined]  # pytest, where a test imports it
