"""`@execution`: what makes a Prefect flow a durable execution."""

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast, overload

from prefect.flows import Flow

from prefect_executions.blocks import ExecutionStore, load_store
from prefect_executions.models import ExecutionConfig
from prefect_executions.objects import Objects
from prefect_executions.runtime import Run, StateType, current_run, entered, open_run

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class _Execution:
    """`execution`: a decorator, and the way to the execution that runs here."""

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def __call__(
        self, *, state: Any = ..., store: str | ExecutionStore | None = ...
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(
        self,
        fn: Any = None,
        *,
        state: Any = dict[str, Any],
        store: str | ExecutionStore | None = None,
    ) -> Any:
        """Make every run of a flow a durable execution; stands below `@flow`.

        The function keeps its signature, and the flow stays an ordinary Prefect flow. Inside,
        `execution.current()` is the run's execution, with the state of the checkpoint that it
        continues from.

        Args:
            fn: The function, sync or async.
            state: The type of the state: a pydantic model, or anything else that pydantic
                validates. By default a plain `dict`.
            store: Where the execution is kept: an `ExecutionStore` block, or the name of one. By
                default the block that `PREFECT_INTEGRATIONS_EXECUTIONS_STORE` names.
        """
        state_type: StateType[Any] = StateType(state)

        def decorate(fn: Callable[P, R]) -> Callable[P, R]:
            return _decorate(fn, state_type, lambda: _objects(store))

        return decorate if fn is None else decorate(fn)

    @overload
    def current(self) -> Run[Any]: ...
    @overload
    def current(self, state: type[S], /) -> Run[S]: ...

    def current(self, state: Any = None) -> Run[Any]:
        """The execution that this code runs in.

        Args:
            state: The type of its state, for type checkers; it must be the one of `@execution`.

        Raises:
            NotAnExecution: it runs in none.
            TypeError: the state is of another type.
        """
        run = current_run()
        if state is not None and not isinstance(run.state, state):
            raise TypeError(f"the state is a {type(run.state).__name__}, no {state.__name__}")
        return run


execution = _Execution()


def _decorate(
    fn: Callable[P, R], state_type: StateType[Any], objects: Callable[[], Objects]
) -> Callable[P, R]:
    if isinstance(fn, Flow):
        raise TypeError("`@execution` goes below `@flow`: it wraps the function, not the flow")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn.__name__!r} is a generator, which can't be an execution")
    config = ExecutionConfig()

    if inspect.iscoroutinefunction(fn):

        @wraps(fn)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            run = await asyncio.to_thread(open_run, objects, state_type, config)
            try:
                with entered(run):
                    result = await fn(*args, **kwargs)
                await asyncio.to_thread(run.finish)
            except Exception:
                await asyncio.to_thread(run.disown)
                raise
            finally:
                run.close()
            return result

        return cast("Callable[P, R]", run_async)

    @wraps(fn)
    def run_sync(*args: P.args, **kwargs: P.kwargs) -> R:
        run = open_run(objects, state_type, config)
        try:
            with entered(run):
                result = fn(*args, **kwargs)
            run.finish()
        except Exception:
            run.disown()
            raise
        finally:
            run.close()
        return result

    return run_sync


def _objects(store: str | ExecutionStore | None) -> Objects:
    if isinstance(store, ExecutionStore):
        return store.objects()
    return load_store(store).objects()
