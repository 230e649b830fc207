"""State to bytes and back: strict JSON, and the change against an earlier state."""

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import zstandard

from prefect_executions.errors import StateError

_JSON_TYPES = "None, bool, int, float, str, list and dict with str keys"

_LEVEL = 3
_MARK = 64 << 10  # bytes between the places that a digest can be started from
_CONTEXT = 64 << 10  # how much around a change serves as its dictionary
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


@dataclass(frozen=True, slots=True)
class Delta:
    """One state as the change against another, its base.

    The state is `base[:prefix]`, then the payload, then the last `suffix` bytes of the base. What
    a small change leaves alone is thus kept whatever the size of the state, and without looking at
    it closely; zstd only sees what lies between, with the part of the base that stood there, and
    some of what surrounds it, as its dictionary.

    Args:
        prefix: How many bytes at the beginning are the base's.
        suffix: How many bytes at the end are the base's.
        window: From where to where the base is the payload's raw dictionary.
        payload: A zstd frame.
    """

    prefix: int
    suffix: int
    window: tuple[int, int]
    payload: bytes


def delta(base: bytes, data: bytes) -> Delta:
    """The change that makes `data` of `base`."""
    prefix = _common_prefix(base, data)
    suffix = _common_suffix(base, data, min(len(base), len(data)) - prefix)
    window = (max(0, prefix - _CONTEXT), min(len(base), len(base) - suffix + _CONTEXT))
    dictionary = base[slice(*window)]
    middle = data[prefix : len(data) - suffix]
    compressor = zstandard.ZstdCompressor(
        dict_data=_dictionary(dictionary), compression_params=_parameters(dictionary, middle)
    )
    return Delta(prefix, suffix, window, compressor.compress(middle))


def apply(base: bytes, change: Delta, size: int) -> bytes:
    """Undo `delta`.

    Raises:
        ValueError: the change is damaged, is not of this base, or does not make `size` bytes.
    """
    decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(base[slice(*change.window)]))
    middle = _decompress(decompressor, change.payload, size - change.prefix - change.suffix)
    return base[: change.prefix] + middle + base[len(base) - change.suffix :]


class Digest:
    """The SHA-256 of some bytes, which that of bytes with the same beginning can start from.

    Hashing a large state takes longer than all else that a checkpoint does to it; of a state that
    only grows at its end, the new end is hashed.

    Args:
        data: The bytes.
        like: The digest of other bytes.
        prefix: How many bytes at the beginning are the same in both.
    """

    def __init__(self, data: bytes, like: "Digest | None" = None, prefix: int = 0) -> None:
        self._marks: list[hashlib._Hash] = like._marks[: prefix // _MARK] if like else []
        digest = self._marks[-1].copy() if self._marks else hashlib.sha256()
        for start in range(len(self._marks) * _MARK, len(data), _MARK):
            digest.update(data[start : start + _MARK])
            if start + _MARK <= len(data):
                self._marks.append(digest.copy())
        self.hex = digest.hexdigest()


def digest(*parts: bytes | str) -> str:
    """128 bits of BLAKE2b over the parts and their lengths, in hex; a string is its UTF-8."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def whole_milliseconds(time: datetime) -> datetime:
    """A time as `timestamp` keeps it."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def timestamp(time: datetime) -> str:
    """A time as it is stored: ISO 8601, UTC, with milliseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def compress(data: bytes) -> bytes:
    """Compress `data` by itself."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def decompress(payload: bytes, size: int) -> bytes:
    """Undo `compress`.

    Raises:
        ValueError: the payload is damaged, or does not hold `size` bytes.
    """
    return _decompress(zstandard.ZstdDecompressor(), payload, size)


def _decompress(decompressor: zstandard.ZstdDecompressor, payload: bytes, size: int) -> bytes:
    try:
        if zstandard.frame_content_size(payload) != size:
            raise ValueError(f"the payload does not hold {size} bytes")
        return decompressor.decompress(payload)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _parameters(dictionary: bytes, data: bytes) -> zstandard.ZstdCompressionParameters:
    """Parameters whose window spans dictionary and data, and whose index has room for both.

    With its usual tables zstd would index no more than the last megabyte of a dictionary.
    """
    span = max(len(dictionary) + len(data), 1)
    scale = min(max(span.bit_length() - 3, 10), 22)
    return zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=len(data),
        dict_size=len(dictionary),
        window_log=min(max(span.bit_length(), 10), 27),
        hash_log=scale,
        chain_log=scale,
    )


def _common_prefix(one: bytes, other: bytes) -> int:
    """How many bytes two strings share at their beginning; halving, since slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(one: bytes, other: bytes, most: int) -> int:
    """How many bytes, `most` at most, two strings share at their end."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low
