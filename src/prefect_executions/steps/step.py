"""`@step`: a Prefect task whose result is recorded once, and comes back whatever has died since."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from copy import copy
from functools import partial, wraps
from inspect import signature
from types import CodeType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    cast,
    get_type_hints,
    overload,
)
from weakref import WeakKeyDictionary

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.futures import PrefectConcurrentFuture, PrefectFuture, PrefectFutureList
from prefect.states import Completed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.callables import get_call_parameters
from pydantic import PydanticUserError

from prefect_executions.errors import InputError, ReplayMismatch, StateError
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.runtime.run import Run, find_run
from prefect_executions.serialization import JsonType, digest
from prefect_executions.steps.identity import Identified, canonical
from prefect_executions.steps.keys import filled, require_fitting
from prefect_executions.steps.replay import Call

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# By their names and the qualified names of their functions; of several, the one made last.
_steps: dict[str, dict[str, "Step[..., Any]"]] = {}
_calls: WeakKeyDictionary[PrefectFuture[Any], Call] = WeakKeyDictionary()

# How `Task.__init__` calls an option, and what it makes of it.
_KEPT_AS = {
    **{f"on_{event}": f"on_{event}_hooks" for event in ("completion", "failure", "running")},
    **{f"on_{event}": f"on_{event}_hooks" for event in ("rollback", "commit")},
    "persist_result": "_user_persist_result",
    "cache_policy": "_user_cache_policy",
}


class Step(Task[P, R]):
    """A Prefect task whose result an execution records; elsewhere it is an ordinary task.

    Args:
        fn: The function.
        key: What identifies a call instead of its inputs, with their names in braces.
        undo: What a roll-back calls with the result.
        options: Prefect's.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        key: str | None = None,
        undo: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(fn, Task):
            raise TypeError("`@step` makes a task of a function; take `@task` away")
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{fn.__name__!r} is a generator, whose result can't be recorded")
        settings: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE} | options
        super().__init__(fn, **settings)
        if self.persist_result or self.cache_policy not in (None, NO_CACHE):
            raise ValueError(f"the step {self.name!r} is recorded, so Prefect can't cache it too")
        if key is not None:
            require_fitting(self.name, key, fn)
        self.key = key
        self.undo = undo
        self._result_type: JsonType[Any] | None = None
        _steps.setdefault(self.name, {})[self.function] = self

    @property
    def function(self) -> str:
        """The qualified name of the function."""
        return getattr(self.fn, "__qualname__", type(self.fn).__qualname__)

    @property
    def _code(self) -> CodeType | None:
        return getattr(inspect.unwrap(self.fn), "__code__", None)

    @property
    def result_type(self) -> JsonType[Any]:
        """The type of the result, by the function's annotation; JSON if it has none.

        Raises:
            TypeError: pydantic can't keep such a type.
        """
        if self._result_type is None:
            what = f"the result of {self.name}"
            try:
                self._result_type = JsonType(_returned_by(self.fn), what=what)
            except PydanticUserError as error:
                raise TypeError(
                    f"{what} can't be recorded: {error.message.splitlines()[0]} Let it return "
                    "JSON or a type that pydantic keeps, or use Prefect's `@task`."
                ) from error
        return self._result_type

    def recorded_result(self, run: Run[Any], record: Record) -> R:
        """What a call has returned, as it is recorded.

        Raises:
            ReplayMismatch: it is of another type.
        """
        try:
            result: R = self.result_type.load(run.result_of(record))
        except StateError as error:
            raise ReplayMismatch(
                self.name,
                f"{error} Let it return what it returned before, or give the changed step another "
                "name, under which it runs anew.",
            ) from error
        return result

    def with_options(self, **options: Any) -> "Step[P, R]":
        """A step of the same function with other options: Prefect's, `key` and `undo`."""
        kept: dict[str, Any] = {"key": self.key, "undo": self.undo}
        for name in list(signature(Task.__init__).parameters)[2:]:
            value = getattr(self, _KEPT_AS.get(name, name))
            kept[name] = copy(value) if isinstance(value, list | set) else value
        bound: Any = self.fn
        if not self.ismethod:
            return Step(bound, **kept | options)
        changed: Step[P, R] = Step(bound.__wrapped__, **kept | options)
        return changed.__get__(bound.__prefect_self__, None)

    def __get__(self, instance: Any, owner: Any) -> "Step[P, R]":
        """The step as a method; Prefect's own would bind the function itself to the instance."""
        if self.isclassmethod:
            return cast("Step[P, R]", super().__get__(instance, owner))
        if self.isstaticmethod or instance is None:
            return self
        bound = self._with(_in_place_of(self.fn, self.fn))
        bound.fn.__prefect_self__ = instance  # type: ignore[attr-defined]
        return bound

    def bare(self) -> "Step[P, R]":
        """This step as another process can get it."""
        other = copy(self)
        other._result_type = None
        return other

    def _with(self, fn: Any) -> "Step[P, R]":
        """This step, calling another function."""
        other = copy(self)
        other.fn = fn
        return other

    # ------------------------------------------------------------------ calling

    def _call(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        plain: Any = super().__call__
        run = find_run()
        if run is None:
            return plain(*args, return_state=return_state, wait_for=wait_for, **kwargs)
        carried = self._begin(run, get_call_parameters(self.fn, args, kwargs))
        call: Any = partial(Task.__call__, self._with(carried.fn))
        with carried.noting_failure():  # of what comes before the function, too
            result = call(*args, return_state=return_state, wait_for=wait_for, **kwargs)
        if self.isasync:
            return carried.returned_later(result, return_state)
        return carried.returned(result, return_state)

    def _submit(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        plain: Any = super().submit
        run = find_run()
        if run is None:
            return plain(*args, return_state=return_state, wait_for=wait_for, **kwargs)
        future = NumberingTaskRunner.here(run).submit(
            self, get_call_parameters(self.fn, args, kwargs), wait_for
        )
        if not return_state:
            return future
        future.wait()
        return future.state

    def _map(
        self,
        *args: Any,
        return_state: bool = False,
        wait_for: Any = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> Any:
        plain: Any = super().map
        run = find_run()
        if run is None or deferred:
            return plain(
                *args, return_state=return_state, wait_for=wait_for, deferred=deferred, **kwargs
            )
        runner = NumberingTaskRunner.here(run)
        parameters = get_call_parameters(self.fn, args, kwargs, apply_defaults=False)
        step: Any = self
        with runner:
            futures: PrefectFutureList[Any] = runner.map(step, parameters, wait_for)
        if not return_state:
            return futures
        for future in futures:
            future.wait()
        return [future.state for future in futures]

    if TYPE_CHECKING:  # as Prefect's own, which give an async task's coroutine for its result

        @overload  # type: ignore[override]
        def submit(  # type: ignore[overload-overlap]
            self: "Step[P, Coroutine[Any, Any, T]]", *args: P.args, **kwargs: P.kwargs
        ) -> PrefectFuture[T]: ...
        @overload
        def submit(self: "Step[P, T]", *args: P.args, **kwargs: P.kwargs) -> PrefectFuture[T]: ...
        @overload
        def submit(
            self: "Step[..., Coroutine[Any, Any, T]]",
            *args: Any,
            return_state: Literal[True],
            wait_for: Any = None,
            **kwargs: Any,
        ) -> State[T]: ...
        @overload
        def submit(
            self: "Step[..., T]",
            *args: Any,
            return_state: Literal[True],
            wait_for: Any = None,
            **kwargs: Any,
        ) -> State[T]: ...
        @overload
        def submit(
            self: "Step[..., Coroutine[Any, Any, T]]", *args: Any, wait_for: Any, **kwargs: Any
        ) -> PrefectFuture[T]: ...
        @overload
        def submit(
            self: "Step[..., T]", *args: Any, wait_for: Any, **kwargs: Any
        ) -> PrefectFuture[T]: ...
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            """Call the step on the flow's task runner; see `Task.submit`."""

        @overload  # type: ignore[override]
        def map(
            self: "Step[..., Coroutine[Any, Any, T]]",
            *args: Any,
            return_state: Literal[True],
            **kwargs: Any,
        ) -> list[State[T]]: ...
        @overload
        def map(
            self: "Step[..., T]", *args: Any, return_state: Literal[True], **kwargs: Any
        ) -> list[State[T]]: ...
        @overload
        def map(
            self: "Step[..., Coroutine[Any, Any, T]]", *args: Any, **kwargs: Any
        ) -> PrefectFutureList[T]: ...
        @overload
        def map(self: "Step[..., T]", *args: Any, **kwargs: Any) -> PrefectFutureList[T]: ...
        def map(self, *args: Any, **kwargs: Any) -> Any:
            """Call the step for each of several inputs; see `Task.map`."""

    else:
        __call__, submit, map = _call, _submit, _map

    def _begin(self, run: Run[Any], parameters: dict[str, Any]) -> "StepCall[R]":
        """Identify a call.

        Raises:
            TypeError: pydantic can't keep its result.
            InputError: an input has no stable identity.
            ReplayMismatch: what is recorded under its key is another call.
            Pause: the run is to leave, before it does anything new.
        """
        _ = self.result_type  # before anything is done
        inputs: str | None = None
        if self.key is None:
            key = digest("step", self.name, canonical(parameters, at=self.name, future=_identify))
        else:
            key = digest("key", filled(self.name, self.key, parameters))
            try:
                inputs = digest(canonical(parameters, at=self.name, future=_identify_anywhere))
            except InputError:  # that is what keys are for
                inputs = None
        run.replay.claim_name(self.name, self._code)
        call = run.begin_call(self.name, key, inputs=inputs, is_keyed=self.key is not None)
        return StepCall(self, run, call)


class NumberingTaskRunner(TaskRunner[Any]):
    """Numbers the calls that are submitted, and lets the flow's task runner run them."""

    def __init__(self, runner: TaskRunner[Any], run: Run[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._runner = runner
        self._run = run

    @classmethod
    def here(cls, run: Run[Any]) -> "NumberingTaskRunner":
        """Before the task runner of the flow that this code runs in."""
        context = FlowRunContext.get()
        if context is None:
            raise RuntimeError("a step is submitted to the task runner of a flow; here is none")
        return cls(context.task_runner, run)

    def duplicate(self) -> "NumberingTaskRunner":
        """One that numbers calls for the same task runner."""
        return NumberingTaskRunner(self._runner, self._run)

    def submit(
        self, task: Any, parameters: dict[str, Any], wait_for: Any = None, dependencies: Any = None
    ) -> Any:
        """Number a call, and submit it to the flow's task runner."""
        carried = task._begin(self._run, parameters)
        future = carried.submit(self._runner, parameters, wait_for, dependencies)
        _calls[future] = carried.call
        return future


class StepCall(Generic[R]):
    """One call of a step, as it is carried out: replayed, or run and recorded.

    Attributes:
        call: Which one.
        fn: What the task runs in place of the step's function.
    """

    def __init__(self, step: Step[..., R], run: Run[Any], call: Call) -> None:
        self.call = call
        self.fn: Any = _in_place_of(step.fn, self._run_async if step.isasync else self._run_sync)
        self._step: Any = step
        self._run = run
        self._result: list[R] = []  # what the function, or the record, has given
        self._was_replayed = False

    def returned(self, result: Any, return_state: bool) -> Any:
        """Give the result to who made the call."""
        if not self._result:  # it has failed, and returns a state, or has not even begun
            self._run.record_call(self.call, Outcome.BEGUN)
        self.call.returned()
        # A task that ends in a state of its own returns it; only so the UI shows a replay.
        return self._result[0] if self._was_replayed and not return_state else result

    async def returned_later(self, result: Any, return_state: bool) -> Any:
        """`returned`, in the context that awaits the result."""
        with self.noting_failure():
            result = await result
        return self.returned(result, return_state)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Let the call keep its place before those that come after it, where it fails."""
        try:
            yield
        except (Exception, asyncio.CancelledError):  # by the latter an async step runs out of time
            self._run.record_call(self.call, Outcome.BEGUN)
            raise

    def submit(self, runner: TaskRunner[Any], *call: Any) -> PrefectFuture[Any]:
        """Let a task runner carry it out.

        Where that does so in other processes, these only run the function: this one records what
        comes of it.
        """
        here = self._step._with(self.fn)
        if isinstance(runner, ThreadPoolTaskRunner):
            return runner.submit(here, *call)
        if self._run.replay.claim(self.call) is not None:
            self._run.replay.release(self.call)
            return self._run.threads.submit(here, *call)
        try:
            there = runner.submit(self._step.bare(), *call)
        except BaseException:
            self._run.replay.release(self.call)
            raise
        recorded = self._run.waiters.submit(copy_context().run, self._record_from, there)
        return PrefectConcurrentFuture(there.task_run_id, recorded)

    def _record_from(self, there: PrefectFuture[Any]) -> State[Any]:
        """Wait for a future, and record its result before anybody gets it."""
        try:
            with suppress(Pause):  # who asks for the result leaves; the step is done all the same
                there.wait()
            state = there.state
            if state.is_completed():
                self._result = [run_coro_as_sync(state.aresult(raise_on_failure=False))]
                self._record()
            else:
                self._run.record_call(self.call, Outcome.BEGUN)
            return state
        finally:
            self._run.replay.release(self.call)

    def _run_sync(self, *args: Any, **kwargs: Any) -> Any:
        with self._around() as known:
            if known is not None and not self._result:
                return self._replay(known)
            if not self._result:
                self._result = [self._step.fn(*args, **kwargs)]
            self._record()
        return self._result[0]

    async def _run_async(self, *args: Any, **kwargs: Any) -> Any:
        with self._around() as known:
            if known is not None and not self._result:
                return await asyncio.to_thread(self._replay, known)
            if not self._result:
                self._result = [await self._step.fn(*args, **kwargs)]
            await asyncio.to_thread(self._record)
        return self._result[0]

    @contextmanager
    def _around(self) -> Iterator[Record | None]:
        with self._run.replay.running(self.call) as known, self.noting_failure():
            yield known

    def _record(self) -> None:
        """Record the result; once more where that failed and Prefect tries again."""
        data = self._step.result_type.dump(self._result[0])
        undo = self._step.undo is not None
        function = self._step.function if undo else None
        self._run.record_call(self.call, Outcome.DONE, result=data, undo=undo, function=function)

    def _replay(self, record: Record) -> Any:
        """The recorded result, as a state that tells so.

        Raises:
            ReplayMismatch: it is of another type.
        """
        if self._run.replay.is_new(record):
            self._run.flush()
        self._result = [self._step.recorded_result(self._run, record)]
        self._was_replayed = True
        return Completed(
            name="Replayed",
            message=f"Recorded at {record.at:%Y-%m-%d %H:%M:%S} UTC; the function was not run.",
            data=self._result[0],
        )


def steps_named(name: str) -> dict[str, Step[..., Any]]:
    """The steps of a name, by the qualified names of their functions."""
    return _steps.get(name, {})


@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = ...,
    key: str | None = ...,
    undo: Callable[[Any], Any] | None = ...,
    retries: int = ...,
    retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = ...,
    timeout_seconds: float | None = ...,
    tags: Iterable[str] | None = ...,
    **options: Any,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    fn: Any = None,
    *,
    key: str | None = None,
    undo: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Any:
    """Make a function a step: a Prefect task whose result an execution records once.

    Called inside a flow with `@execution`, the result is durable when the call returns (unless the
    execution's durability is another). When the flow runs again, after a crash, a retry or a
    resume, the recorded result comes back and the function is not run. Rolling back to a checkpoint
    forgets what was recorded behind it. Elsewhere it is an ordinary task.

    A call is identified by the step's name, its inputs, and its place among equal ones in the flow;
    with a `key`, by that alone.

    Args:
        fn: The function, sync or async. Its result is JSON, or of the type that it is annotated
            with, which pydantic keeps.
        key: Identifies the call in place of its inputs: `"charge-{order_id}"`. There is one such
            call in an execution.
        undo: Called with the result when a roll-back has forgotten the call, newest first, before
            the flow runs again.
        options: Those of Prefect's `task`: `name`, `retries`, `retry_delay_seconds`,
            `timeout_seconds`, `tags`, and so on. The name identifies the step in the log.

    Raises:
        TypeError: this function can't be a step.
        ValueError: the key names an input that the function does not have.
    """

    def decorate(fn: Callable[P, R]) -> Step[P, R]:
        return Step(fn, key=key, undo=undo, **options)

    return decorate if fn is None else decorate(fn)


def _returned_by(fn: Any) -> Any:
    """The type that a function's annotation says it returns; `Any` without one."""
    inner = inspect.unwrap(fn)
    annotations = getattr(inner, "__annotations__", {})
    if "return" not in annotations:
        return Any

    def returning() -> None: ...

    returning.__annotations__ = {"return": annotations["return"]}
    try:
        return get_type_hints(returning, inner.__globals__, include_extras=True)["return"]
    except NameError as error:
        raise TypeError(
            f"the annotation of what {inner.__name__} returns is not known when it runs: {error}"
        ) from error


def _in_place_of(fn: Any, call: Any) -> Any:
    """`call` under the name and signature of `fn`; it can be given attributes of its own."""
    return wraps(fn)(partial(call))


def _identify(future: PrefectFuture[Any]) -> Any:
    """What stands for the future of a step: its call. Another one's result is waited for.

    Equal calls may return different things, so it takes the call's number to tell them apart.
    """
    if (call := _calls.get(future)) is not None:
        return Identified(f"{call.key} {call.order}")
    return _identify_anywhere(future)


def _identify_anywhere(future: PrefectFuture[Any]) -> Any:
    """The same for a call with a key of its own, whatever is called anew around it."""
    if (call := _calls.get(future)) is not None:
        return Identified(call.key)
    future.wait()
    if not future.state.is_completed():  # so the call will not take place, or does not mind
        return Identified(future.state.type.value)
    return future.result()
