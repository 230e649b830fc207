"""`@execution`: what makes a Prefect flow a durable execution."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from threading import Lock
from types import FunctionType
from typing import Any, Literal, ParamSpec, TypeVar, get_origin, overload

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled
from prefect.flows import Flow

from prefect_executions.background import in_thread
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import StateError
from prefect_executions.ids import canonical
from prefect_executions.prefect.deployments import mark
from prefect_executions.runtime.attempt import Attempt, Options, current_attempt
from prefect_executions.runtime.beginning import begin_attempt
from prefect_executions.runtime.children import ChildCall, ChildEnded
from prefect_executions.runtime.failures import FailedResult, judged, ungrouped
from prefect_executions.runtime.interrupts import Interrupt, TaskInterrupt, ThreadInterrupt
from prefect_executions.runtime.resuming import resume
from prefect_executions.runtime.run import Run
from prefect_executions.runtime.writer import Durability
from prefect_executions.serialization import JsonType
from prefect_executions.steps.undo import undo_async, undo_sync
from prefect_executions.stores.opening import open_store
from prefect_executions.stores.store import ExecutionStore

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class _Execution:
    """`execution`: a decorator, and the way to the execution that runs here."""

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        state: Any = ...,
        initial: Any = ...,
        store: str | ExecutionStore | None = ...,
        durability: Literal["sync", "async", "exit"] = ...,
        migrate: Callable[[Any], Any] | None = ...,
        max_duration_seconds: float | None = ...,
        checkpoint_interval_seconds: float | None = ...,
        max_retries: int | None = ...,
        retry_delay_seconds: float | None = ...,
        keep_checkpoints: int | None = ...,
        keep_labelled: bool | None = ...,
        delete_after_seconds: float | None = ...,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(
        self,
        fn: Any = None,
        *,
        state: Any = dict[str, Any],
        initial: Any = None,
        store: str | ExecutionStore | None = None,
        durability: Literal["sync", "async", "exit"] = "sync",
        migrate: Callable[[Any], Any] | None = None,
        **config: Any,
    ) -> Any:
        """Make every run of a flow a durable execution; stands below `@flow`.

        The function keeps its signature, and the flow stays an ordinary Prefect flow. Inside,
        `execution.current()` is the run's execution, with the state of the checkpoint that it
        continues from.

        Args:
            fn: The function, sync or async.
            state: The type of the state: a pydantic model, or anything else that pydantic
                validates. By default a plain `dict`.
            initial: The first state of an execution that is created without one, or a function of
                no arguments that makes it. By default what the type makes of `{}`.
            store: Where the execution is kept: an `ExecutionStore` block, or the name of one. By
                default the block that `PREFECT_INTEGRATIONS_EXECUTIONS_STORE` names.
            durability: When a checkpoint, and what a step has come to, is durable: `sync`, when the
                call returns; `async`, soon after, written beside the flow in the same order, and
                before it pauses or ends; `exit`, when it pauses or ends, and at timed checkpoints.
            migrate: Called with a state, as JSON, that does not fit the type `state` any more,
                since other code has saved it; returns JSON that does.
            config: The flow's own settings, which hold where an execution's `config` has none:
                `max_duration_seconds` of active time, over all attempts; none by default.
                `checkpoint_interval_seconds` between automatic checkpoints of what `run.publish`
                has published; none by default.
                `max_retries`: how often a failed or crashed attempt is tried again; 0 by default.
                `retry_delay_seconds` between a failure and the next try; 0 by default.
                `keep_checkpoints`, `keep_labelled`, `delete_after_seconds`: what is removed of
                it, and when; nothing by default, or what the store says. See `retention`.

        Raises:
            ValueError: a setting is out of its limits.
            TypeError: the type, or the first state, can't be kept.
        """
        if inspect.isclass(fn) or not (fn is None or callable(fn)):
            raise TypeError(f"`@execution` decorates a function; did you mean state={fn!r}?")
        kept: JsonType[Any] = JsonType(state)
        options: Options[Any] = Options(
            lambda: open_store(store),
            kept,
            ExecutionConfig.model_validate(config),
            Durability(durability),
            migrate,
            _first_state(kept, initial),
        )

        def decorate(fn: Callable[P, R]) -> Callable[P, R]:
            return _decorate(fn, options)

        return decorate if fn is None else decorate(fn)

    @overload
    def current(self) -> Run[Any]: ...
    @overload
    def current(self, state: type[S], /) -> Run[S]: ...

    def current(self, state: Any = None) -> Run[Any]:
        """The execution that this code runs in.

        Args:
            state: The type of its state, for type checkers; it must be the one of `@execution`, or
                what that is made of: `dict` for `dict[str, Any]`.

        Raises:
            NotAnExecution: it runs in none.
            TypeError: the state is of another type.
        """
        attempt = current_attempt()
        of = attempt.state_type.type
        if state is not None and state not in (of, get_origin(of)):
            raise TypeError(
                f"the state of this execution is {attempt.state_type.name}, by its `@execution`"
            )
        return attempt.run

    @overload
    def resume(
        self,
        flow: Flow[P, Coroutine[Any, Any, R]],
        id: str,
        /,
        *,
        checkpoint_id: str | None = ...,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def resume(self, flow: Flow[P, R], id: str, /, *, checkpoint_id: str | None = ...) -> R: ...

    def resume(self, flow: Flow[..., Any], id: str, /, *, checkpoint_id: str | None = None) -> Any:  # noqa: A002
        """Continue an execution in this process, from its newest state or from a checkpoint.

        It was started by a call of its flow, in a process that has died: without a deployment there
        is no worker that could. The command for it is `prefect-executions run FILE:FLOW --resume`.

        Args:
            flow: The flow.
            id: The execution's id.
            checkpoint_id: Roll back to this checkpoint first: what its steps have done since is
                undone, where they say how. `ckpt_000000` starts over.

        Returns:
            What the flow returns; of an async flow a coroutine.

        Raises:
            CheckpointNotFound: It has no such checkpoint; nothing was changed.
            ExecutionNotFound, ExecutionConflict, PrefectUnavailable, StoreUnavailable: see
                `runtime.resuming`.
        """
        return resume(flow, canonical(id), checkpoint_id)


execution = _Execution()


def _first_state(kept: JsonType[Any], initial: Any) -> Callable[[], bytes]:
    """What makes the first state of an execution, as JSON.

    Raises:
        TypeError: the type can't be kept, or has no such first state.
    """
    hint = ""
    try:
        kept.require_kept()
        if callable(initial):
            return lambda: kept.dump(initial())
        if initial is None:
            hint = (
                " An execution created without a state begins with `{}`: give the field a default, "
                "or let `@execution(initial=…)` make the first state."
            )
        first = b"{}" if initial is None else kept.dump(initial)
        kept.load(first)
    except StateError as misfit:
        raise TypeError(f"{misfit}{hint}") from misfit
    return lambda: first


def run_sync(
    begin: Callable[[Interrupt], Attempt[Any]],
    fn: Callable[..., R],
    args: Any,
    kwargs: dict[str, Any],
) -> R:
    """Call a flow's function as an execution, or return what it has come to in another one."""
    try:
        child = ChildCall.here(fn, args, kwargs)
        if child is None:
            return _attempt_sync(begin, fn, args, kwargs)
        result: Any
        with child.carried_out():
            result = child.recorded()
            if result is None:
                run = child.begin()
                if run is None:
                    result = _attempt_sync(begin, fn, args, kwargs)
                else:
                    result = child.go_on(run)
                    judged(result)
                child.returned(result)
            child.given()
    except (FailedResult, ChildEnded) as failed:
        result = failed.result  # Prefect makes the state of it
    returned: R = result
    return returned


def _attempt_sync(
    begin: Callable[[Interrupt], Attempt[Any]],
    fn: Callable[..., R],
    args: Any,
    kwargs: dict[str, Any],
) -> R:
    """Call a flow's function as an attempt of its execution, and again while retries are left.

    Raises:
        FailedResult: It has returned what Prefect makes a failed run of.
    """
    while True:
        interrupt = ThreadInterrupt()
        attempt = begin(interrupt)
        try:
            try:
                interrupt.arm()
                attempt.require_time()  # before, there was nothing to interrupt
                with attempt.entered():
                    undo_sync(attempt.recorder)
                    result = fn(*args, **kwargs)
                    status = judged(result)  # steps among its futures are yet to be recorded
                interrupt.disarm()
                attempt.finish(status, result)
                return result
            except BaseException as raised:
                failure = ungrouped(raised)
                interrupt.disarm(failure)
                attempt.fail(failure)
        finally:
            attempt.close()


async def run_async(
    begin: Callable[[Interrupt], Attempt[Any]],
    fn: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
) -> Any:
    """`run_sync` for an async function: what blocks is done in threads."""
    try:
        child = ChildCall.here(fn, args, kwargs)
        if child is None:
            return await _attempt_async(begin, fn, args, kwargs)
        with child.carried_out():
            result: Any = await in_thread(child.recorded)
            if result is None:
                run = await in_thread(child.begin)
                if run is None:
                    result = await _attempt_async(begin, fn, args, kwargs)
                else:
                    result = await child.go_on(run)
                    await in_thread(judged, result)
                await _undisturbed(child.returned, result)
            child.given()
    except (FailedResult, ChildEnded) as failed:
        result = failed.result  # Prefect makes the state of it
    return result


async def _attempt_async(
    begin: Callable[[Interrupt], Attempt[Any]],
    fn: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
) -> Any:
    """`_attempt_sync` for an async function."""
    while True:
        interrupt = TaskInterrupt()
        attempt = await _begun(partial(begin, interrupt))
        attempt.task = asyncio.current_task()
        try:
            try:
                interrupt.arm()
                attempt.require_time()  # before, there was nothing to interrupt
                with attempt.entered():
                    await undo_async(attempt.recorder)
                    result = await fn(*args, **kwargs)
                    status = await in_thread(judged, result)
                interrupt.disarm()
                await checkpoint_if_cancelled()
                await _undisturbed(attempt.finish, status, result)
                await checkpoint_if_cancelled()  # Prefect fails a run whose time is over by now
                return result
            except BaseException as raised:
                failure = ungrouped(raised)
                interrupt.disarm(failure)
                await _undisturbed(attempt.fail, failure)
        finally:
            await _undisturbed(attempt.close)


async def _undisturbed(act: Callable[..., None], *args: Any) -> None:
    """Call `act` in a thread, though the time-out of the flow cancels all that is awaited."""
    with CancelScope(shield=True):
        await in_thread(act, *args)


async def _begun(begin: Callable[[], Attempt[Any]]) -> Attempt[Any]:
    """Begin in a thread; an attempt that begins after this was cancelled is closed."""
    lock, begun, is_cancelled = Lock(), list[Attempt[Any]](), False

    def close_all() -> None:
        while begun:
            begun.pop().close()

    def beginning() -> Attempt[Any]:
        attempt = begin()
        with lock:
            begun.append(attempt)
            if is_cancelled:
                close_all()
        return attempt

    try:
        return await in_thread(beginning)
    except asyncio.CancelledError:
        with lock:
            is_cancelled = True
            close_all()
        raise


def _decorate(fn: Callable[P, R], options: Options[Any]) -> Callable[P, R]:
    if isinstance(fn, Flow):
        raise TypeError("`@execution` goes below `@flow`: it wraps the function, not the flow")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn.__name__!r} is a generator, which can't be an execution")
    # In the closure: see `_in_place_of`.
    begin: Callable[[Interrupt], Attempt[Any]] = partial(begin_attempt, options)
    drive_sync, drive_async = run_sync, run_async
    is_async: bool = inspect.iscoroutinefunction(fn)
    if is_async:

        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await drive_async(begin, fn, args, kwargs)

        return _in_place_of(fn, call_async, options)

    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        return drive_sync(begin, fn, args, kwargs)

    return _in_place_of(fn, call, options)


def _in_place_of(fn: Callable[P, R], call: Any, options: Options[Any]) -> Callable[P, R]:
    """`call`, as if it had been written where `fn` was.

    Prefect asks a flow's function for its file (the entrypoint of `.serve` and `.deploy`, the
    version) and for its globals (annotations that are strings), and does not look through
    `functools.wraps`. In a traceback it is the line where the function is defined. Its globals
    being the function's, `call` may use nothing but its closure.
    """
    original: Any = inspect.unwrap(fn)
    code = call.__code__.replace(
        co_filename=original.__code__.co_filename,
        co_firstlineno=original.__code__.co_firstlineno,
        co_name=original.__code__.co_name,
        co_qualname=original.__code__.co_qualname,
    )
    placed: Any = FunctionType(code, original.__globals__, closure=call.__closure__)
    wrapped = wraps(fn)(placed)
    mark(wrapped)
    options.keep(wrapped)
    return wrapped
