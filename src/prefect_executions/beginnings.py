"""The beginnings of agents' runs: which run it is, in this attempt and in those after it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from prefect_executions.runtime.decorator import execution
from prefect_executions.runtime.run import Run
from prefect_executions.steps.named import arecord

B = TypeVar("B")


class Beginnings(Generic[B]):
    """What is recorded when runs begin. One that has raised is the next one with equal inputs.

    Args:
        type_: The type of what is recorded.
    """

    def __init__(self, type_: type[B]) -> None:
        self._type = type_
        self._raised = WeakKeyDictionary[Run[Any], dict[str, list[B]]]()

    async def begin(
        self,
        name: str,
        begin: Callable[[], Awaitable[B]],
        *,
        inputs: list[Any],
        key: str | None,
    ) -> B:
        """Begin a run, or continue it.

        Args:
            name: The name of the step that records it.
            begin: Makes what is recorded.
            inputs: What identifies the run, together with its place among equal ones.
            key: Identifies it, alone, among those of this name.

        Raises:
            AmbiguousCall: It could be mistaken for an equal run. Give it a key.
        """
        if raised := self._raised_as(name, inputs, key):
            return raised.pop(0)
        if key is None:
            return await arecord(name, begin, inputs=inputs, returns=self._type)
        return await arecord(name, begin, key=f"{name} {key}", returns=self._type)

    def raised(self, begun: B, name: str, *, inputs: list[Any], key: str | None) -> None:
        """Note that a run has raised: it may be made again, and then goes on with its records."""
        self._raised_as(name, inputs, key).append(begun)

    def _raised_as(self, name: str, inputs: list[Any], key: str | None) -> list[B]:
        of_run = self._raised.setdefault(execution.current(), {})
        return of_run.setdefault(json.dumps([name, key, inputs], sort_keys=True, default=str), [])
