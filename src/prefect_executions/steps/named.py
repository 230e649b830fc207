"""Calls that no decorator reaches, recorded as steps: a framework's own, which an adapter makes."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

from prefect_executions.steps.call import calling
from prefect_executions.steps.recorder import recorder_of
from prefect_executions.steps.step import Step

T = TypeVar("T")


def record(name: str, call: Callable[[], T], *, key: str, returns: Any = Any) -> T:
    """Make a call as a step of this name: `@step(name=…, key=…)` for a call of this moment.

    In an execution it is recorded when it returns, and after a crash, a retry or a resume the
    record comes back and nothing is called. Elsewhere it is simply called. Prefect's UI, the
    inspector and the log show it under its name; the steps that it calls are inside it.

    Args:
        name: The step's name. No function with `@step` may have it in the same flow.
        call: What is called, without arguments.
        key: Identifies the call, alone, in the whole execution. Begin it with what is yours.
        returns: The type of the result, which pydantic keeps; JSON by default.

    Returns:
        What the call returns, or has returned.

    Raises:
        StateError: The result can't be kept. That is recorded, so that it is not called again.
        ReplayMismatch: Another step is recorded under this key, or the call is being made already.
        NotAnExecution: It is made in a plain thread beside an execution, which can't record it.
    """
    if recorder_of(name) is None:
        return call()
    step: Any = _step(False, name, returns)
    return cast("T", calling(step, lambda _: call())(key))


async def arecord(
    name: str, call: Callable[[], Awaitable[T]], *, key: str, returns: Any = Any
) -> T:
    """`record` for an async call."""
    if recorder_of(name) is None:
        return await call()
    step: Any = _step(True, name, returns)
    return cast("T", await calling(step, lambda _: call())(key))


@lru_cache(maxsize=1024)  # to make one takes a millisecond
def _step(is_async: bool, name: str, returns: Any) -> Step[[str], Any]:
    async def later(key: str) -> Any: ...

    def now(key: str) -> Any: ...

    fn: Callable[[str], Any] = later if is_async else now
    fn.__annotations__["return"] = returns
    return Step(fn, name=name, key="{key}")
