"""`@step`: a Prefect task whose result is recorded once, and comes back whatever has died since."""

import inspect
from collections.abc import Callable, Coroutine, Iterable
from copy import copy
from functools import partial
from inspect import signature
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    cast,
    get_type_hints,
    overload,
)

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.states import State
from prefect.utilities.callables import get_call_parameters

from prefect_executions import serialization
from prefect_executions.errors import ReplayMismatch, StateError
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.serialization import JsonType
from prefect_executions.steps.call import StepCall, calling
from prefect_executions.steps.called_with import called_with
from prefect_executions.steps.keys import require_fitting
from prefect_executions.steps.recorder import Recorder, recorder_of
from prefect_executions.steps.submission import NumberingTaskRunner
from prefect_executions.steps.undoable import name_of, register, require_undo

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

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
        repeats: "reuse" when equal calls are one call.
        undo: What a roll-back calls with the result.
        options: Prefect's.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        key: str | None = None,
        repeats: Literal["reuse"] | None = None,
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
        if repeats not in (None, "reuse"):
            raise ValueError(f"repeats: {repeats!r} is unknown; give 'reuse', or leave it out.")
        if key is not None and repeats is not None:
            raise ValueError("repeats: calls with one key are one call; leave it out.")
        self.key = key
        self.repeats = repeats
        self.undo = undo
        self._result_type: JsonType[Any] | None = None
        if undo is not None:
            require_undo(self.name, undo)
            register(self)

    @property
    def function(self) -> str:
        """The name of the function, with its module."""
        return name_of(self.fn)

    @property
    def undo_by(self) -> str | None:
        """The name of what undoes it, with its module."""
        return None if self.undo is None else name_of(self.undo)

    @property
    def result_type(self) -> JsonType[Any]:
        """The type of the result, by the function's annotation; JSON if it has none.

        Raises:
            TypeError: pydantic can't keep such a type.
            StateError: a part of such a type never comes back; it is named.
        """
        if self._result_type is None:
            what, returned = f"the result of {self.name}", returned_by(self.fn)
            try:
                kept: JsonType[Any] = JsonType(returned, what=what)
            except TypeError as error:
                raise TypeError(f"{error} Or use Prefect's `@task`.") from error
            kept.require_kept()
            self._result_type = kept
        return self._result_type

    def unkept(self, reason: bytes) -> StateError:
        """The error of a call whose result can't be kept.

        Args:
            reason: The path and the problem, as they are recorded.
        """
        path, problem = serialization.load(reason)
        undone = "" if self.undo is None else " A roll-back can't undo it, for want of the result."
        return StateError(
            path,
            f"{problem} The step {self.name!r} has been carried out and is not called again by "
            f"itself.{undone} Mend what it returns; then give it another name or key, or roll back "
            "to a checkpoint before it, and it is called again.",
        )

    def recorded_result(self, recorder: Recorder, record: Record) -> R:
        """What a call has returned, as it is recorded.

        Raises:
            ReplayMismatch: it is of another type.
            StateError: it could not be kept.
        """
        if record.outcome is Outcome.UNKEPT:
            raise self.unkept(recorder.result_of(record))
        try:
            result: R = self.result_type.load(recorder.result_of(record))
        except StateError as error:
            raise ReplayMismatch(
                self.name,
                f"{error} Let it return what it returned before, or give the changed step another "
                "name, under which it runs anew.",
            ) from error
        return result

    def with_options(self, **options: Any) -> "Step[P, R]":
        """A step of the same function with other options: Prefect's, `key` and `undo`."""
        kept: dict[str, Any] = {"key": self.key, "repeats": self.repeats, "undo": self.undo}
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
        bound: Step[P, R] = calling(self, self.fn)
        bound.fn.__prefect_self__ = instance  # type: ignore[attr-defined]
        return bound

    # ------------------------------------------------------------------ calling

    def called_with(self, parameters: dict[str, Any]) -> str:
        """What people read of the inputs of a call; see `called_with`."""
        return called_with(parameters)

    def _call(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        plain: Any = super().__call__
        recorder = recorder_of(self.name)
        if recorder is None:
            return plain(*args, return_state=return_state, wait_for=wait_for, **kwargs)
        parameters = get_call_parameters(self.fn, args, kwargs)
        call: StepCall[R] = StepCall.begin(self, recorder, parameters)
        run: Any = partial(Task.__call__, call.task)
        with call.calling():  # what comes before the function may fail, too
            result = run(*args, return_state=return_state, wait_for=wait_for, **kwargs)
        if self.isasync:
            return call.returned_later(result, return_state)
        return call.returned(result, return_state)

    def _submit(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        plain: Any = super().submit
        recorder = recorder_of(self.name)
        if recorder is None:
            return plain(*args, return_state=return_state, wait_for=wait_for, **kwargs)
        future = NumberingTaskRunner.here(recorder).submit(
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
        recorder = recorder_of(self.name)
        if recorder is None or deferred:
            return plain(
                *args, return_state=return_state, wait_for=wait_for, deferred=deferred, **kwargs
            )
        runner = NumberingTaskRunner.here(recorder)
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


@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = ...,
    key: str | None = ...,
    repeats: Literal["reuse"] | None = ...,
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
    repeats: Literal["reuse"] | None = None,
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
        repeats: "reuse": equal calls are one call, and all get the first one's result, as is right
            for reads. By default each of them runs, and has its place among the others.
        undo: Called with the result when a roll-back has forgotten the call, newest first, before
            the flow runs again; by any process, so that it stands at the top level of a module.
        options: Those of Prefect's `task`: `name`, `retries`, `retry_delay_seconds`,
            `timeout_seconds`, `tags`, and so on. The name identifies the step in the log.

    Raises:
        TypeError: this function can't be a step, or `undo` can't be called with its result.
        ValueError: the key names an input that the function does not have.
    """

    def decorate(fn: Callable[P, R]) -> Step[P, R]:
        return Step(fn, key=key, repeats=repeats, undo=undo, **options)

    return decorate if fn is None else decorate(fn)


def returned_by(fn: Any) -> Any:
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
