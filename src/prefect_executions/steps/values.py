"""The canonical bytes of plain values, and the functions that build canonical bytes."""

import collections
import hashlib
import ipaddress
import json
import pathlib
import re
import types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from operator import attrgetter
from typing import Any, Protocol
from uuid import UUID

LARGE = 1 << 20  # bytes; a larger part is represented by its SHA-256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PartWriter(Protocol):
    """Turns the parts of a value into canonical bytes."""

    def part(self, label: str, value: Any) -> bytes:
        """Return the canonical bytes of the part that `label` names in the current value."""


Form = Callable[[Any, PartWriter], bytes]


def node(tag: bytes, *parts: bytes | memoryview) -> bytes:
    """Return the bytes of a part with its kind and size, so that no other part has the same."""
    size = sum(map(len, parts))
    if size <= LARGE:
        return b"%s:%d:%s" % (tag, size, b"".join(parts))
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return b"%s#%d:%s" % (tag, size, state.digest())


def string(text: str) -> bytes:
    """Return the canonical bytes of a text."""
    return node(b"str", str.encode(text, "utf-8", "surrogatepass"))


def fields_of(writer: PartWriter, fields: Mapping[str, Any], label: str = ".") -> bytes:
    """Return the canonical bytes of named values; their order does not matter."""
    names = sorted(fields)
    return node(
        b"fields", *[string(name) + writer.part(label + name, fields[name]) for name in names]
    )


def _data(tag: str, encode: Callable[[Any], Any]) -> Form:
    """The form of values that `encode` turns into bytes or a text without loss."""

    def form(value: Any, _: PartWriter) -> bytes:
        data = encode(value)
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        return node(tag.encode(), data)

    return form


def _text(kind: Any) -> Form:
    return _data(kind.__name__, kind.__str__)


def _made(tag: str, **made: Callable[[Any], Any]) -> Form:
    """The form of values that consist of the parts which `made` returns."""

    def form(value: Any, writer: PartWriter) -> bytes:
        parts = [writer.part(f".{name}", make(value)) for name, make in made.items()]
        return node(tag.encode(), *parts)

    return form


def attributes(tag: str, *names: str) -> Form:
    """Return the form of values that consist of these attributes."""
    return _made(tag, **{name: attrgetter(name) for name in names})


def _items(kind: Any, *, is_ordered: bool = True) -> Form:
    tag = kind.__name__.encode()

    def form(value: Any, writer: PartWriter) -> bytes:
        items = enumerate(kind.__iter__(value))
        if is_ordered:
            return node(tag, *[writer.part(f"[{index}]", item) for index, item in items])
        return node(tag, *sorted(writer.part("{…}", item) for _, item in items))

    return form


def _pairs(value: Any, writer: PartWriter) -> list[bytes]:
    pairs = []
    for key, item in dict.items(value):
        label = f"[{json.dumps(key[:40], ensure_ascii=False)}]" if type(key) is str else "[…]"
        pairs.append(writer.part(f"{label} (the key)", key) + writer.part(label, item))
    return pairs


def _dict(value: Any, writer: PartWriter) -> bytes:
    return node(b"dict", *sorted(_pairs(value, writer)))


def _ordered_dict(value: Any, writer: PartWriter) -> bytes:
    return node(b"OrderedDict", *_pairs(value, writer))


def _default_dict(value: Any, writer: PartWriter) -> bytes:
    default = writer.part(".default_factory", value.default_factory)
    return node(b"defaultdict", default, _dict(value, writer))


def _datetime(value: datetime) -> str:
    if value.utcoffset() is None:
        return datetime.isoformat(value.replace(tzinfo=None))
    return f"{(value - _EPOCH) // timedelta(microseconds=1)} after 1970 UTC"


def _each(form: Callable[[type], Form], *kinds: type) -> dict[type, Form]:
    return {kind: form(kind) for kind in kinds}


VALUES: dict[type, Form] = {
    type(None): _data("None", lambda _: ""),
    type(...): _data("Ellipsis", lambda _: ""),
    type(NotImplemented): _data("NotImplemented", lambda _: ""),
    bool: _data("bool", str),
    int: _data("int", lambda value: int.__format__(value, "x")),  # str stops at 4300 digits
    float: _data("float", float.hex),
    complex: attributes("complex", "real", "imag"),
    # The context of the thread decides between 1E+3 and 1e+3.
    Decimal: _data("Decimal", lambda value: Decimal.__str__(value).upper()),
    Fraction: attributes("Fraction", "numerator", "denominator"),
    str: lambda value, _: string(value),
    bytes: _data("bytes", memoryview),
    bytearray: _data("bytearray", memoryview),
    **_each(_items, list, tuple, collections.deque),
    **_each(partial(_items, is_ordered=False), set, frozenset),
    dict: _dict,
    collections.OrderedDict: _ordered_dict,
    collections.defaultdict: _default_dict,
    types.MappingProxyType: _made("mappingproxy", copy=dict),
    range: attributes("range", "start", "stop", "step"),
    slice: attributes("slice", "start", "stop", "step"),
    datetime: _data("datetime", _datetime),
    date: _data("date", date.isoformat),
    time: _made(
        "time", clock=lambda it: it.replace(tzinfo=None).isoformat(), tzinfo=attrgetter("tzinfo")
    ),
    timedelta: attributes("timedelta", "days", "seconds", "microseconds"),
    UUID: _data("UUID", str),
    re.Pattern: attributes("Pattern", "pattern", "flags"),
    **_each(_text, pathlib.PurePosixPath, pathlib.PosixPath),
    **_each(_text, pathlib.PureWindowsPath, pathlib.WindowsPath),
    **_each(_text, ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
    **_each(_text, ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
}
