"""The type of a flow's state or of a step's result, and its way to JSON and back."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from prefect_executions import codec
from prefect_executions.errors import StateError

T = TypeVar("T")


class JsonType(Generic[T]):
    """A type of values, and its way to JSON and back.

    Args:
        type_: Anything that pydantic validates: a model, a dataclass, a TypedDict, a `dict`. `Any`
            stands for JSON as it is.
        what: How such a value is called in errors.
    """

    def __init__(self, type_: Any, *, what: str = "state") -> None:
        self.type = type_
        self.name = getattr(type_, "__name__", str(type_))
        self._what = what
        self._adapter: TypeAdapter[T] = TypeAdapter(type_)
        self._is_json = type_ is Any or type_ == dict[str, Any]

    def dump(self, value: T) -> bytes:
        """Encode a value.

        One of a model is made again from the encoded one and compared, since a model has many ways
        of saying something else than it holds: aliases, excluded fields, subclasses, `Any`.

        Raises:
            StateError: part of it can't be kept, or would come back as something else.
        """
        if self._is_json:
            if self.type is not Any and type(value) is not dict:
                raise StateError(self._what, f"is a {type(value).__name__}, and no dict.")
            return codec.dump(value, at=self._what)
        try:
            plain = self._adapter.dump_python(
                value, mode="json", by_alias=True, round_trip=True, warnings="error"
            )
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise StateError(self._what, f"is not what its type says: {error}") from error
        data = codec.dump(plain, at=self._what)
        if (path := _difference(value, self.load(data), self._what)) is not None:
            raise StateError(
                path,
                f"would come back from JSON as something else. Give it a type in {self.name} that "
                "pydantic keeps.",
            )
        return data

    def load(self, data: bytes) -> T:
        """Decode a value.

        Raises:
            StateError: it does not fit the type.
        """
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = ".".join([self._what, *map(str, first["loc"])])
            raise StateError(path, f"does not fit {self.name}: {first['msg']}.") from error


def migrated(
    state_type: JsonType[T], data: bytes, migrate: Callable[[Any], Any] | None, saved_by: str
) -> T:
    """A state that an older version of the code has saved, as the present one wants it.

    Args:
        state_type: What is wanted.
        data: The state.
        migrate: Makes JSON that fits of JSON that does not.
        saved_by: What has saved it, for errors.

    Raises:
        StateError: it does not fit, before or after that.
    """
    try:
        return state_type.load(data)
    except StateError as misfit:
        if migrate is None:
            raise StateError(
                misfit.path,
                f"{misfit.problem} It was saved by {saved_by}. Let `@execution(migrate=…)` make "
                "of the old state, as JSON, one that fits; or go back to a checkpoint that does.",
            ) from misfit
    try:
        return state_type.load(codec.dump(migrate(codec.load(data))))
    except StateError as misfit:
        raise StateError(misfit.path, f"after `migrate`: {misfit.problem}") from misfit


def _difference(one: Any, other: Any, path: str) -> str | None:
    """The path of the first part in which two values differ; None if they are equal."""
    if type(one) is not type(other):
        # JSON knows one kind of numbers: where a float belongs, a whole one may be given.
        whole = type(one) is int and type(other) is float
        return None if whole and one == other else path
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
