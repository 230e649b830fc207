"""Values to bytes and back: strict JSON, and times as they stand in it."""

import math
from datetime import UTC, datetime
from typing import Any

import orjson

from prefect_executions.errors import StateError

_JSON_TYPES = "None, bool, int, float, str, list and dict with str keys"

MAX_DEPTH = 200  # what pydantic's JSON parser goes down to
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


def dump(value: Any, *, at: str = "state") -> bytes:
    """Encode a JSON value as UTF-8 JSON; what would come back as something else is refused.

    Args:
        value: What to encode.
        at: How the value is called in errors.

    Raises:
        StateError: with the path of the first part that JSON can't keep: NaN or an infinity, a key
            that is no string, a lone surrogate, an integer beyond 64 bits, any other type.
    """
    try:
        data = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        _explain(value, at)
        raise StateError(at, f"can't be kept as JSON: {error}.") from error
    if not _is_plain(value):
        _explain(value, at)
    return data


def load(data: bytes) -> Any:
    """Decode what `dump` wrote.

    Raises:
        ValueError: it is no JSON.
    """
    return orjson.loads(data)


def _is_plain(value: Any) -> bool:
    """Whether nothing in `value` is of a kind that orjson would silently turn into another.

    orjson itself refuses unknown types, keys that are no strings, lone surrogates and long
    integers. It also writes tuples, enums, dates, UUIDs and dataclasses, and NaN as null: for these
    this one flat pass looks, since it costs a third of decoding the result and comparing it.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                continue
            if kind is dict:
                below.extend(item.values())
            elif kind is list:
                below.extend(item)
            elif kind is float:
                if not math.isfinite(item):
                    return False
            elif kind is not int and kind is not bool and item is not None:
                return False
        if not below:
            return True
        level = below
    return False


def _explain(value: Any, path: str, depth: int = 0) -> None:
    """Raise `StateError` for the first part of `value` that can't be kept, if there is one."""
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
    """A time as `timestamp` keeps it."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def timestamp(time: datetime) -> str:
    """A time as it is stored: ISO 8601, UTC, with milliseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
