"""What happens inside a run: the current execution, its state, its checkpoints, and leaving."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from threading import RLock
from time import monotonic
from typing import Any, Generic, TypeVar

from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.logging import get_run_logger
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from prefect_executions import codec
from prefect_executions.errors import (
    AlreadyExists,
    ExecutionDeleted,
    ExecutionNotFound,
    NotAnExecution,
    PrefectUnavailable,
    StateError,
    Superseded,
)
from prefect_executions.flow_runs import Ownership
from prefect_executions.log import ExecutionLog, Head
from prefect_executions.models import (
    ExecutionConfig,
    checkpoint_id,
    execution_id,
    require_label,
)
from prefect_executions.objects import Objects

R = TypeVar("R")
S = TypeVar("S")

LOOK_SECONDS = 1.0  # how often checkpoints ask Prefect whether the run is still theirs, on average
LOOK_BURST = 10  # how many may ask at once before that counts
LOOK_PATIENCE = 5.0  # how long a checkpoint waits for the answer

_current: ContextVar["Run[Any] | None"] = ContextVar("current_execution", default=None)


def current_run() -> "Run[Any]":
    """The execution that this code runs in.

    Raises:
        NotAnExecution: it runs in none.
    """
    run = _current.get()
    if run is None:
        raise NotAnExecution(
            "no execution runs here; call this inside a flow decorated with `@flow` above "
            "`@execution`"
        )
    return run


class StateType(Generic[S]):
    """The type of a flow's state, and its way to JSON and back.

    Args:
        type_: Anything that pydantic validates: a model, a dataclass, a TypedDict, a `dict`.
    """

    def __init__(self, type_: Any) -> None:
        self.type = type_
        self.name = getattr(type_, "__name__", str(type_))
        self._adapter: TypeAdapter[S] = TypeAdapter(type_)
        self._is_json = type_ == dict[str, Any]

    def dump(self, state: S) -> bytes:
        """Encode a state.

        A state of a model is made again from the encoded one and compared, since a model has many
        ways of saying something else than it holds: aliases, excluded fields, subclasses, `Any`.

        Raises:
            StateError: part of it can't be kept, or would come back as something else.
        """
        if self._is_json:
            if type(state) is not dict:
                raise StateError("state", f"is a {type(state).__name__}, and no dict.")
            return codec.dump(state)
        try:
            plain = self._adapter.dump_python(
                state, mode="json", by_alias=True, round_trip=True, warnings="error"
            )
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise StateError("state", f"is not what its type says: {error}") from error
        data = codec.dump(plain)
        if (path := _difference(state, self.load(data), "state")) is not None:
            raise StateError(
                path,
                f"would come back from JSON as something else. Give it a type in {self.name} that "
                "pydantic keeps.",
            )
        return data

    def load(self, data: bytes) -> S:
        """Decode a state.

        Raises:
            StateError: it does not fit the type.
        """
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = ".".join(["state", *map(str, first["loc"])])
            raise StateError(path, f"does not fit {self.name}: {first['msg']}.") from error


def _difference(one: Any, other: Any, path: str) -> str | None:
    """The path of the first part in which two states differ; None if they are equal."""
    if type(one) is not type(other):
        return path
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(one, BaseModel):
        fields = type(one).model_fields
        pairs = [(name, getattr(one, name), getattr(other, name)) for name in fields]
    elif isinstance(one, dict) and one.keys() == other.keys():
        pairs = [(name, value, other[name]) for name, value in one.items()]
    elif isinstance(one, list | tuple) and len(one) == len(other):
        pairs = [(index, *pair) for index, pair in enumerate(zip(one, other, strict=True))]
    for name, first, second in pairs:
        if (found := _difference(first, second, f"{path}.{name}")) is not None:
            return found
    return None if one == other else path


class Run(Generic[S]):
    """The execution that a flow run is, seen from inside.

    Attributes:
        id: The execution's id.
        attempt: How many processes have begun to run it, this one included.
        state: The state; change it in place or assign another, then call `checkpoint`.
        state_type: Its type.
    """

    def __init__(
        self,
        log: ExecutionLog,
        head: Head,
        state_type: StateType[S],
        ownership: Ownership,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.id = log.execution_id
        self.attempt = head.entry.attempt
        self.state: S = state_type.load(head.state)
        self._log = log
        self._head = head
        self._label: str | None = None
        self._continues_from = head.entry.continues_from
        self.state_type = state_type
        self._ownership = ownership
        self._resources = ExitStack()
        self._lock = RLock()
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="execution-look")
        self._look: Future[None] | None = None
        self._look_is_new = False
        self._logger = get_run_logger()
        self._closed = False
        self._looks = _Allowance(LOOK_SECONDS, LOOK_BURST, clock)

    @property
    def resumed_from(self) -> str | None:
        """The checkpoint that this attempt continued from; None when it began at the beginning."""
        return checkpoint_id(self._continues_from) if self._continues_from else None

    def checkpoint(self, *, label: str | None = None) -> str:
        """Save the state; it is durable when this returns.

        Here a pause takes effect too: if the run has been suspended, cancelled, deleted or taken
        over by another process, this leaves the flow, with the state saved where that is still
        allowed. A state that has not changed costs nothing, unless the label is a new one.

        Args:
            label: What people see in the list of checkpoints; up to 200 characters.

        Returns:
            The checkpoint's id, or that of the one which has this state already.

        Raises:
            StateError: part of the state can't be kept; the path is named, and nothing was saved.
            StoreUnavailable: the store did not answer; whether the state was saved is not known.
        """
        with self._lock:
            if self._closed:
                raise NotAnExecution(f"attempt {self.attempt} of {self.id!r} has ended")
            if label is not None:
                require_label(label)
            data = self.state_type.dump(self.state)
            self._start_look()
            with self._leaving():
                try:
                    self._save(data, label)
                except (Superseded, ExecutionNotFound) as lost:
                    self._logger.info("%s This process ends.", lost)
                    self._ownership.yield_run()
                self._finish_look()
            return checkpoint_id(self._head.entry.continues_from)

    async def acheckpoint(self, *, label: str | None = None) -> str:
        """`checkpoint` for async flows: the event loop goes on while the state is saved.

        The state is taken in a thread: do not change it until this returns.
        """
        return await asyncio.to_thread(self.checkpoint, label=label)

    def _save(self, data: bytes, label: str | None) -> None:
        unchanged = data == self._head.state
        if unchanged and label in (None, self._label):
            return
        self._head = self._log.checkpoint(self._head, data, label=label)
        self._label = label

    def _start_look(self) -> None:
        """Ask Prefect beside the writing: in a tight loop not every time."""
        self._look_is_new = self._look is None and self._looks.take()
        if self._look_is_new:
            self._look = self._looker.submit(copy_context().run, self._ownership.check)

    def _finish_look(self) -> None:
        """Leave if Prefect has said so, now that the state is saved."""
        self._ownership.check_signal()
        if self._look is None:
            return
        wait([self._look], timeout=LOOK_PATIENCE if self._look_is_new else 0)
        if self._look.done():  # otherwise the next checkpoint sees the answer
            look, self._look = self._look, None
            self._heed(look.result)

    def _heed(self, check: Callable[[], None]) -> None:
        """Leave if `check` says so. Without an answer go on: the log fences all the same."""
        try:
            check()
        except PrefectUnavailable as silence:
            self._logger.warning("Could not ask Prefect for the run's state: %s", silence)

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """When the body leaves the flow, and the execution was deleted, leave nothing in the log.

        It may have been deleted, log and all, while this process was about to save.
        """
        try:
            yield
        except Pause:
            if self._ownership.is_gone():
                self._log.sweep()
            raise

    def finish(self) -> None:
        """The function has returned: save what it left, and leave if the run was taken away."""
        self.checkpoint()
        self.disown()

    def disown(self) -> None:
        """Leave if the run is no longer this process's: its result or failure counts no more."""
        with self._leaving():
            self._heed(self._ownership.check)

    def on_close(self, resources: ExitStack) -> None:
        """Let `close` close these, too."""
        self._resources.push(resources)

    def close(self) -> None:
        """Let go of what the run holds; a task that outlives the flow can't save any more."""
        self._closed = True
        self._looker.shutdown(wait=False, cancel_futures=True)
        self._resources.close()


class _Allowance:
    """Lets something happen every so many seconds on average, and in bursts (a token bucket)."""

    def __init__(self, seconds: float, burst: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._counted_at = clock()

    def take(self) -> bool:
        """Whether it may happen now, which then counts."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._counted_at) / self._seconds)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def open_run(
    objects: Callable[[], Objects], state_type: StateType[S], config: ExecutionConfig
) -> Run[S]:
    """Begin an attempt of the execution that this flow run is; `Run.close` ends it.

    Args:
        objects: Opens the store.
        state_type: The type of the state.
        config: The flow's settings, recorded if this run creates the log.

    Raises:
        NotAnExecution: there is no flow run here.
        Pause: the run is not this process's (any more); Prefect ends the process quietly.
        StateError: the state in the log does not fit the type.
    """
    with ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        ownership = Ownership.here(client)
        log = ExecutionLog(objects(), execution_id(ownership.run.id))
        run = Run(log, _begin(log, ownership, config), state_type, ownership)
        run.on_close(stack.pop_all())
    get_run_logger().info(
        "Execution %s: attempt %d continues from %s",
        run.id,
        run.attempt,
        run.resumed_from or "the beginning",
    )
    return run


def run_sync(
    begin: Callable[[], Run[Any]], fn: Callable[..., R], args: Any, kwargs: dict[str, Any]
) -> R:
    """Call a flow's function as an attempt of its execution."""
    run = begin()
    try:
        with _entered(run):
            result = fn(*args, **kwargs)
        run.finish()
    except Exception:
        run.disown()
        raise
    finally:
        run.close()
    return result


async def run_async(
    begin: Callable[[], Run[Any]],
    fn: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
) -> Any:
    """`run_sync` for an async function: what blocks is done in threads."""
    run = await asyncio.to_thread(begin)
    try:
        with _entered(run):
            result = await fn(*args, **kwargs)
        await asyncio.to_thread(run.finish)
    except Exception:
        await asyncio.to_thread(run.disown)
        raise
    finally:
        run.close()
    return result


@contextmanager
def _entered(run: Run[Any]) -> Iterator[None]:
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def _begin(log: ExecutionLog, ownership: Ownership, config: ExecutionConfig) -> Head:
    """Append the attempt; where nobody made a log for this flow run yet, that comes first."""
    try:
        return log.attempt(admit=ownership.check_start)
    except ExecutionDeleted:
        ownership.leave()
    except ExecutionNotFound:
        ownership.check_start()
    meta = {
        "name": ownership.run.name,
        "description": None,
        "agent_id": None,
        "task_type": None,
        "config": config.model_dump(mode="json"),
    }
    try:
        log.create(meta, b"{}")
    except AlreadyExists:
        get_run_logger().debug("Another process made the log of %s", log.execution_id)
    return log.attempt(admit=ownership.check_start)
