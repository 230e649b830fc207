"""State to bytes and back: strict JSON, and zstd with an earlier state as the dictionary."""

import math
from typing import Any

import orjson
import zstandard

from prefect_executions.errors import StateError

type_of_json = "None, bool, int, float, str, list and dict with str keys"

_LEVEL = 3
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
    rest = [value]
    pop, extend = rest.pop, rest.extend
    while rest:
        item = pop()
        kind = type(item)
        if kind is str:
            continue
        if kind is dict:
            extend(item.values())
        elif kind is list:
            extend(item)
        elif kind is float:
            if not math.isfinite(item):
                return False
        elif kind is not int and kind is not bool and item is not None:
            return False
    return True


def _explain(value: Any, path: str, depth: int = 0) -> None:
    """Raise `StateError` for the first part of `value` that can't be kept, if there is one."""
    if depth > 250:
        raise StateError(path, "is nested deeper than 250 levels, or contains itself.")
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
            f"is of type {kind.__qualname__}; a state holds {type_of_json}. "
            "Convert it, or give the flow a pydantic model as the type of its state.",
        )


class Dictionary:
    """A state that others are compressed against, prepared once and used often.

    zstd takes the bytes as a raw dictionary: what a new state shares with it costs nothing. Making
    its index is what takes time (2 ms for 800 kB), so it is made when first compressed against and
    kept.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._raw = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._compressor: zstandard.ZstdCompressor | None = None

    def prepare(self) -> zstandard.ZstdCompressor:
        """Index the dictionary, unless that is done."""
        if self._compressor is None:
            self._raw.precompute_compress(compression_params=_parameters(2 * len(self.data)))
            self._compressor = zstandard.ZstdCompressor(dict_data=self._raw)
        return self._compressor

    def compress(self, data: bytes) -> bytes:
        """Compress `data` as the change against this dictionary."""
        if len(data) <= 2 * len(self.data):
            return self.prepare().compress(data)
        # The index is made for states of the dictionary's own size, with too small a window.
        parameters = _parameters(len(self.data) + len(data))
        return zstandard.ZstdCompressor(
            dict_data=self._raw, compression_params=parameters
        ).compress(data)

    def decompress(self, payload: bytes, size: int) -> bytes:
        """Undo `compress`.

        Raises:
            ValueError: the payload is damaged, or does not hold `size` bytes.
        """
        return _decompress(zstandard.ZstdDecompressor(dict_data=self._raw), payload, size)


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


def _parameters(span: int) -> zstandard.ZstdCompressionParameters:
    """Parameters whose window spans the dictionary and a state as large as it."""
    window_log = min(max(span.bit_length(), 10), 27)
    return zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, source_size=span, window_log=window_log
    )
