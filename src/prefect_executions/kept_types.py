"""What a type shows of whether its values come back: the parts that never do."""

import collections.abc
import dataclasses
import inspect
import types
from collections.abc import Iterable, Iterator
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import (
    AliasChoices,
    BaseModel,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    WrapSerializer,
)
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from prefect_executions.sameness import Difference

_SECRETS = (Secret, SecretStr, SecretBytes)
_NO_DATA = (
    *(collections.abc.Callable, collections.abc.Iterable, collections.abc.Iterator),
    *(collections.abc.Generator, collections.abc.AsyncIterable, collections.abc.AsyncIterator),
    *(collections.abc.Awaitable, type),
)
_ALIASES = tuple({TypeAliasType, getattr(types, "TypeAliasType", TypeAliasType)})


def find_unkept(type_: Any, path: str) -> Difference | None:
    """Find a part of a type that would not come back, whatever its value is.

    What has a serializer of its own is not looked into: its values show what comes back.

    Args:
        type_: A type that pydantic validates.
        path: The name of its values.

    Returns:
        The first such part, and what to do about it; None when there is none.
    """
    return _Search().find(type_, path)


class _Search:
    def __init__(self) -> None:
        self._seen: set[Any] = set()

    def find(self, type_: Any, path: str, metadata: Iterable[Any] = ()) -> Difference | None:
        metadata = list(metadata)
        origin = get_origin(type_)
        while origin is Annotated or isinstance(type_, (*_ALIASES, NewType)):
            if origin is Annotated:
                type_, *more = get_args(type_)
                metadata += more
            else:
                type_ = getattr(type_, "__value__", None) or type_.__supertype__
            origin = get_origin(type_)
        if any(isinstance(each, PlainSerializer | WrapSerializer) for each in metadata):
            return None
        kind = origin or type_
        if inspect.isclass(kind) and issubclass(kind, _SECRETS):
            problem = f"is a {kind.__name__}, of which only asterisks would come back. "
            return Difference(path, problem + "Keep the name of a Prefect `Secret` block instead.")
        if kind in _NO_DATA:
            return Difference(path, f"is of type {type_}, which is no data; use a list, say.")
        if origin is Literal or type_ in self._seen:
            return None
        self._seen.add(type_)
        if origin in (Union, types.UnionType):
            return self._first((path, each, ()) for each in get_args(type_))
        if origin is not None and not _is_record(kind):
            parts = [each for each in get_args(type_) if each is not ... and not _is_open(each)]
            return self._first((f"{path}[…]", each, ()) for each in parts)
        if inspect.isclass(kind):
            return self._of_class(kind, path, has_schema=any(map(_makes_schema, metadata)))
        return None

    def _first(self, parts: Iterable[tuple[str, Any, Iterable[Any]]]) -> Difference | None:
        found = (self.find(type_, path, metadata) for path, type_, metadata in parts)
        return next((each for each in found if each), None)

    def _of_class(self, kind: Any, path: str, *, has_schema: bool) -> Difference | None:
        if kind is BaseModel:
            problem = "is a BaseModel, which has no fields. Give the model's own class."
            return Difference(path, problem)
        if issubclass(kind, BaseModel) or hasattr(kind, "__pydantic_fields__"):
            return self._of_model(kind, path)
        if _is_record(kind):
            return self._of_record(kind, path)
        if has_schema or _is_open(kind):
            return None
        try:
            TypeAdapter(kind)
        except PydanticSchemaGenerationError:
            problem = f"is a {kind.__qualname__}, which pydantic can't turn into JSON and back. "
            return Difference(path, problem + "Make it a private attribute, or give it a type.")
        return None

    def _of_model(self, kind: Any, path: str) -> Difference | None:
        decorators = kind.__pydantic_decorators__
        if decorators.model_serializers:
            return None
        serialized = {
            name for each in decorators.field_serializers.values() for name in each.info.fields
        }
        fields: dict[str, FieldInfo] = kind.__pydantic_fields__
        for name, field in fields.items():
            if {name, "*"} & serialized:
                continue
            where = path if name == "root" else f"{path}.{name}"
            found = _of_field(field, name, where) or self.find(
                field.annotation, where, field.metadata
            )
            if found:
                return found
        return None

    def _of_record(self, kind: Any, path: str) -> Difference | None:
        """Of a dataclass, a TypedDict or a NamedTuple."""
        if dataclasses.is_dataclass(kind):
            names = {field.name for field in dataclasses.fields(kind)}
            for name, parameter in inspect.signature(cast("Any", kind)).parameters.items():
                if name not in names and parameter.default is parameter.empty:
                    return Difference(f"{path}.{name}", "is an `InitVar`, which is not kept.")
        try:
            hints = get_type_hints(kind, include_extras=True)
        except NameError:  # names that only pydantic finds; the values will show it
            return None
        return self._first((f"{path}.{name}", each, ()) for name, each in hints.items())


def _is_record(kind: Any) -> bool:
    """Whether a class has fields with types."""
    return inspect.isclass(kind) and (
        issubclass(kind, BaseModel)
        or dataclasses.is_dataclass(kind)
        or is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def _is_open(type_: Any) -> bool:
    """Whether a type says nothing of its values."""
    return type_ in (Any, object) or isinstance(type_, TypeVar)


def _makes_schema(metadata: Any) -> bool:
    return hasattr(metadata, "__get_pydantic_core_schema__")


def _of_field(field: FieldInfo, name: str, path: str) -> Difference | None:
    if field.exclude:
        return Difference(
            path, "is excluded, and would be lost. Make it a private attribute, or keep it."
        )
    written = field.serialization_alias
    if written is not None and written not in {name, *_names(field.validation_alias)}:
        return Difference(
            path, f"is written as {written!r}, by which it is not read; use `alias=` for both."
        )
    return None


def _names(alias: Any) -> Iterator[str]:
    for each in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(each, str):
            yield each
