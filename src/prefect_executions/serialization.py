"""Values as bytes and back: strict JSON, pydantic types, times and digests."""

import hashlib
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import orjson
from pydantic import (
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from prefect_executions.columns import are_plain
from prefect_executions.errors import StateChanged, StateError
from prefect_executions.kept_types import find_unkept
from prefect_executions.kept_values import MAX_DEPTH, Proof, written
from prefect_executions.sameness import find_difference

_JSON_TYPES = "None, bool, int, float, str, list and dict with str keys"

_TAKES = 10  # how often a state that changes is taken anew
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


def dump(value: Any, *, at: str = "state") -> bytes:
    """Encode a value as UTF-8 JSON. A value that would come back as another one is refused.

    Args:
        value: The value.
        at: The name of the value in errors.

    Raises:
        StateError: with the path of the first part that JSON can't keep: NaN or an infinity, a key
            that is not a string, a lone surrogate, an integer beyond 64 bits, any other type.
    """
    try:
        data = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        _explain(value, at)
        raise StateError(at, f"can't be kept as JSON: {error}.") from error
    if not are_plain([value], MAX_DEPTH):
        _explain(value, at)
    return data


def load(data: bytes) -> Any:
    """Decode what `dump` wrote.

    Raises:
        ValueError: this is not JSON.
    """
    return orjson.loads(data)


def _explain(value: Any, path: str, depth: int = 0) -> None:
    """Raise `StateError` for the first part of `value` that JSON can't keep, if there is one."""
    if depth > MAX_DEPTH:
        problem = f"is nested deeper than {MAX_DEPTH} levels, or contains itself."
        raise StateError(f"{path[:100]}…", problem)
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise StateError(path, f"holds a lone surrogate at character {error.start}.") from None
    elif kind is int:
        if not _INT64_MIN <= value <= _UINT64_MAX:
            raise StateError(path, "is an integer beyond 64 bits; keep it as a string.")
    elif kind is float:
        if not math.isfinite(value):
            raise StateError(path, f"is {value}, which JSON can't hold; use None or a string.")
    elif kind is list:
        for index, item in enumerate(value):
            _explain(item, f"{path}[{index}]", depth + 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise StateError(path, f"has the key {key!r}, which is no string.")
            _explain(key, f"{path} (a key)", depth + 1)
            _explain(item, f"{path}.{key}", depth + 1)
    else:
        raise StateError(
            path,
            f"is of type {kind.__qualname__}; a state holds {_JSON_TYPES}. "
            "Convert it, or give the flow a pydantic model as the type of its state.",
        )


def whole_milliseconds(time: datetime) -> datetime:
    """Cut a time to the precision that `timestamp` keeps."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def timestamp(time: datetime) -> str:
    """Format a time as it is stored: ISO 8601, UTC, with milliseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


T = TypeVar("T")


class JsonType(Generic[T]):
    """The type of a state or a result, with its encoding as JSON.

    Args:
        type_: Any type that pydantic validates: a model, a dataclass, a TypedDict, a `dict`. `Any`
            is any JSON value.
        what: The name of such a value in errors.

    Raises:
        TypeError: pydantic can't keep such a type.
    """

    def __init__(self, type_: Any, *, what: str = "state") -> None:
        self.type = type_
        self.name = getattr(type_, "__name__", str(type_))
        self._what = what
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(type_)
            if not self._adapter.pydantic_complete:
                self._adapter.rebuild()  # to learn which name is not defined
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            why = error.message.splitlines()[0].rstrip(".")
            raise TypeError(
                f"{what} can't be recorded: {why}. Let it be JSON, or of a type that pydantic "
                "turns into JSON and back."
            ) from error
        self._is_json = type_ is Any or type_ == dict[str, Any]

    @cached_property
    def _proofs(self) -> list[Proof]:
        """The strictest first."""
        schema = self._adapter.core_schema
        return [Proof(schema), Proof(schema, with_ints=True)]

    def require_kept(self) -> None:
        """Check that values of the type can come back, as far as the type shows it.

        Raises:
            StateError: a part of it never does; the attribute is named.
        """
        if (found := find_unkept(self.type, self._what)) is not None:
            raise StateError(*found)

    def dump(self, value: T) -> bytes:
        """Encode a value, which other threads may change meanwhile.

        There are many ways in which it may not come back as it was: excluded fields, subclasses,
        `Any`. Where its type and the classes of its parts don't prove that it does, it is decoded
        again and compared. If it has changed meanwhile it is encoded anew, so that what is returned
        is the value as it was at one moment.

        Raises:
            StateError: a part of it can't be kept, or would come back as another value.
            StateChanged: it was changed each time.
        """
        data = self._dump_proven(value)
        return self._dump_compared(value) if data is None else data

    def _dump_proven(self, value: T) -> bytes | None:
        """Encode a value that is proven to come back, and stays the same meanwhile."""
        for proof in self._proofs:
            encode = written if proof.is_as_is else self._encode
            for _ in range(_TAKES):
                try:
                    data = encode(value)
                    if not proof.holds(value):
                        break
                    if encode(value) == data:
                        return data
                except (orjson.JSONEncodeError, StateError, RuntimeError):
                    return None  # what the matter is shows when it is compared
        return None

    def _dump_compared(self, value: T) -> bytes:
        path, before = self._what, None
        for _ in range(_TAKES):
            data = None
            try:
                data = self._encode(value)
                self._require_same(value, data)
                return data
            except StateError as refusal:
                if before == (data, f"{refusal}"):  # so it is no matter of a change
                    raise
                path, before = refusal.path, (data, f"{refusal}")
            except RuntimeError as error:
                if "during iteration" not in f"{error}":
                    raise
        raise StateChanged(path)

    def _encode(self, value: T) -> bytes:
        if self._is_json:
            if self.type is not Any and type(value) is not dict:
                raise StateError(self._what, f"is a {type(value).__name__}, and no dict.")
            return dump(value, at=self._what)
        try:
            plain = self._adapter.dump_python(
                value, mode="json", by_alias=True, round_trip=True, warnings="error"
            )
        except (ValueError, AttributeError, RecursionError) as error:  # pydantic's own is the first
            raise StateError(self._what, f"is not what its type says: {error}") from error
        return dump(plain, at=self._what)

    def _require_same(self, value: T, data: bytes) -> None:
        """Check that a value comes back, and is still what it was when it was encoded."""
        if self._is_json:
            return
        found = find_difference(value, self.load(data), self._what)
        if found is not None:
            raise StateError(
                found.path,
                f"would come back from JSON as something else: {found.problem} Give it a type in "
                f"{self.name} that pydantic keeps.",
            )

    def load(self, data: bytes) -> T:
        """Decode a value.

        Raises:
            StateError: the value does not fit the type.
        """
        try:
            return self._adapter.validate_json(data, by_alias=True, by_name=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = ".".join([self._what, *map(str, first["loc"])])
            raise StateError(path, f"does not fit {self.name}: {first['msg']}.") from error


def migrated(
    state_type: JsonType[T],
    data: bytes,
    migrate: Callable[[Any], Any] | None,
    saved_by: str,
    *,
    way_back: str = "",
) -> T:
    """Decode a state that an older version of the code may have saved.

    Args:
        state_type: The present type of the state.
        data: The state.
        migrate: Turns the JSON of a state that does not fit into JSON that does.
        saved_by: The version that has saved it, for errors.
        way_back: How to go back to another state, for errors: a sentence, with the command.

    Raises:
        StateError: the state does not fit, even after `migrate`.
    """
    try:
        return state_type.load(data)
    except StateError as misfit:
        if migrate is None:
            raise StateError(
                misfit.path,
                f"{misfit.problem} It was saved by {saved_by}. Let `@execution(migrate=…)` make "
                "of the old state, as JSON, one that fits; or go back to a checkpoint that does. "
                f"{way_back}".rstrip(),
            ) from misfit
    try:
        return state_type.load(dump(migrate(load(data))))
    except StateError as misfit:
        raise StateError(misfit.path, f"after `migrate`: {misfit.problem}") from misfit


def digest(*parts: bytes | str) -> str:
    """128 bits of BLAKE2b over the parts and their lengths, in hex. Strings count as UTF-8."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()
