"""Responses of models, which frameworks have types of their own for, as JSON and back."""

from typing import Any, Generic, TypedDict, TypeVar, Unpack

import orjson
from pydantic import TypeAdapter

from prefect_executions.errors import StateError

T = TypeVar("T")


class Without(TypedDict, total=False):
    """What is left out, as pydantic's `dump_python` has it."""

    exclude_unset: bool
    exclude_defaults: bool
    exclude_none: bool


class Responses(Generic[T]):
    """A framework's type of responses, as JSON.

    Args:
        type_: The type.
        without: What is left out.
    """

    def __init__(self, type_: Any, **without: Unpack[Without]) -> None:
        self._type: TypeAdapter[T] = TypeAdapter(type_)
        self._without = without

    def plain(self, response: T, what: str) -> Any:
        """A response as JSON, or a `StateError` in place of one that would not come back.

        Args:
            response: The response.
            what: Its name in the error.
        """
        try:
            plain = self._dump(response)
            if self._dump(self.load(plain)) == plain:
                return plain
            problem = "would come back from JSON as something else."
        except ValueError as error:  # pydantic's
            problem = f"can't be kept as JSON: {error}"
        return StateError(what, problem)

    def load(self, plain: Any) -> T:
        """The response of which `plain` has made JSON."""
        return self._type.validate_json(orjson.dumps(plain))

    def _dump(self, response: T) -> Any:
        return self._type.dump_python(
            response, mode="json", by_alias=True, warnings=False, **self._without
        )
