"""Calls that no decorator reaches, recorded as steps: a framework's own, which an adapter makes."""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from prefect_executions.errors import StateError
from prefect_executions.serialization import JsonType
from prefect_executions.steps.call import calling
from prefect_executions.steps.called_with import called_with
from prefect_executions.steps.recorder import recorder_of
from prefect_executions.steps.step import Step

T = TypeVar("T")


def record(
    name: str,
    call: Callable[[], T],
    *,
    key: str | None = None,
    inputs: Any = None,
    shown: Mapping[str, Any] | None = None,
    returns: Any = Any,
) -> T:
    """Make a call as a step of this name: `@step(name=…, key=…)` for a call of this moment.

    In an execution it is recorded when it returns, and after a crash, a retry or a resume the
    record comes back and nothing is called. Elsewhere it is simply called. Prefect's UI, the
    inspector and the log show it under its name; the steps that it calls are inside it.

    Args:
        name: The step's name. No function with `@step` may have it in the same flow.
        call: What is called, without arguments. It may return a `StateError`, unraised, in place
            of a result that can't be kept.
        key: Identifies the call, alone, in the whole execution. Begin it with what is yours.
        inputs: Without a key, what identifies the call together with its name and its place among
            equal calls, as the inputs of any step.
        shown: What people see as its inputs; by default `inputs`. No part of its identity.
        returns: The type of the result, which pydantic keeps; JSON by default.

    Returns:
        What the call returns, or has returned.

    Raises:
        StateError: The result can't be kept. That is recorded, so that it is not called again.
        InputError: The inputs have no stable identity.
        AmbiguousCall: Without a key it could be mistaken for an equal call.
        ReplayMismatch: Another step is recorded under this key, or the call is being made already.
        NotAnExecution: It is made in a plain thread beside an execution, which can't record it.
    """
    if recorder_of(name) is None:
        return call()
    step: Any = _step(False, name, returns, key is not None)
    made = calling(step, lambda **_: call())
    made.shown = shown
    return cast("T", made(key=key, inputs=inputs))


async def arecord(
    name: str,
    call: Callable[[], Awaitable[T]],
    *,
    key: str | None = None,
    inputs: Any = None,
    shown: Mapping[str, Any] | None = None,
    returns: Any = Any,
) -> T:
    """`record` for an async call."""
    if recorder_of(name) is None:
        return await call()
    step: Any = _step(True, name, returns, key is not None)
    made = calling(step, lambda **_: call())
    made.shown = shown
    return cast("T", await made(key=key, inputs=inputs))


class _Result(JsonType[Any]):
    """The type of a result; a `StateError` in place of one says that it can't be kept."""

    def dump(self, value: Any) -> bytes:
        if isinstance(value, StateError):
            raise value
        return super().dump(value)


class _Named(Step[..., Any]):
    """The step of a name.

    Attributes:
        shown: What people see as the inputs of a call, if not what identifies it.
    """

    shown: Mapping[str, Any] | None = None

    def called_with(self, parameters: dict[str, Any]) -> str:
        identity = {} if parameters["inputs"] is None else {"inputs": parameters["inputs"]}
        return called_with(identity if self.shown is None else self.shown)

    @property
    def result_type(self) -> JsonType[Any]:
        if self._result_type is None:
            kept = super().result_type
            self._result_type = _Result(kept.type, what=f"the result of {self.name}")
        return self._result_type


@lru_cache(maxsize=1024)  # to make one takes a millisecond
def _step(is_async: bool, name: str, returns: Any, is_keyed: bool) -> _Named:
    async def later(*, key: str | None, inputs: Any) -> Any: ...

    def now(*, key: str | None, inputs: Any) -> Any: ...

    fn: Callable[..., Any] = later if is_async else now
    fn.__annotations__["return"] = returns
    return _Named(fn, name=name, key="{key}" if is_keyed else None)
