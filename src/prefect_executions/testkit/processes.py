"""The processes of a test: each has its own view of the store, and may die at any write."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending
from pydantic import PrivateAttr

from prefect_executions.ids import flow_run_id
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.stores.store import ExecutionStore


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


class ProcessObjects:
    """The store as one process sees it; when the process is dead, every call raises `Crash`.

    Args:
        inner: The store.
        before: What to call before each write, with this process, the key and the bytes.
        after: What to call after each write.
    """

    def __init__(self, inner: Objects, before: list["Hook"], after: list["Hook"]) -> None:
        self._inner = inner
        self._before = before
        self._after = after
        self._is_dead = False

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        self._require_alive()
        for act in self._before:
            act(self, key, data)
        self._inner.create(key, data)
        for act in self._after:
            act(self, key, data)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`."""
        self._require_alive()
        return self._inner.get(keys, first=first, skip=skip)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`."""
        self._require_alive()
        return self._inner.scan(prefix, limit=limit)

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`."""
        self._require_alive()
        return self._inner.measure(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        self._require_alive()
        self._inner.delete(keys)

    def die(self) -> NoReturn:
        """Raise `Crash`, now and in every later call."""
        self._is_dead = True
        raise Crash

    def _require_alive(self) -> None:
        if self._is_dead:
            raise Crash


Hook = Callable[[ProcessObjects, str, bytes], None]


class Processes:
    """Begins processes for scheduled runs, one after the other, as a worker does.

    Args:
        client: Prefect's client.
        objects: The store.

    Attributes:
        store: The store block, as the newest process sees the store.
    """

    def __init__(self, client: SyncPrefectClient, objects: Objects) -> None:
        self.store = MemoryStore.of(objects)
        self._client = client
        self._objects = objects
        self._before: list[Hook] = []
        self._after: list[Hook] = []
        self._begin()

    def read(self, execution_id: str) -> FlowRun:
        """The flow run of an execution."""
        return self._client.read_flow_run(flow_run_id(execution_id))

    def take(self, run: FlowRun) -> FlowRun:
        """Begin a process for a scheduled run."""
        self._begin()
        self._client.set_flow_run_state(run.id, Pending(), force=True)
        return self._client.read_flow_run(run.id)

    def crash(self) -> NoReturn:
        """Kill the newest process."""
        self._newest.die()

    @contextmanager
    def before_writing(self, act: Hook) -> Iterator[None]:
        """Call `act` before each write of a process."""
        with _added(self._before, act, len(self._before)):
            yield

    @contextmanager
    def having_written(self, act: Hook, *, first: bool = False) -> Iterator[None]:
        """Call `act` after each write of a process; `first`: before what is called already."""
        with _added(self._after, act, 0 if first else len(self._after)):
            yield

    def _begin(self) -> None:
        self._newest = ProcessObjects(self._objects, self._before, self._after)
        self.store._objects = self._newest


class Death:
    """A hook that kills the process which calls it for the `n`th time; 0 for never.

    Args:
        n: Which time.
        place: What says where that was.

    Attributes:
        at: Where it was; None as long as it has not happened.
    """

    def __init__(self, n: int, place: Callable[[], int] = lambda: 0) -> None:
        self.at: int | None = None
        self._left = n
        self._place = place

    def __call__(self, process: ProcessObjects, *_: object) -> None:
        """Count a call."""
        self._left -= 1
        if self._left == 0:
            self.at = self._place()
            process.die()


@contextmanager
def _added(acts: list[Hook], act: Hook, place: int) -> Iterator[None]:
    acts.insert(place, act)
    try:
        yield
    finally:
        acts.remove(act)
