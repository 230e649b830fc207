"""Whether a value that was decoded is the one that was encoded, all the way down.

`==` does not tell: an enum's member may equal a text, a number a bool, two times of one moment
differ in their zones, and two deques in how long they may grow.
"""

import dataclasses
import inspect
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cached_property
from itertools import chain, zip_longest
from re import Pattern
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from pydantic_core import TzInfo

_DEPTH = 250  # levels; more than JSON has

# Of these, two that are equal are the same. What a UUID says of how it was made is no data.
_ATOMS: frozenset[type] = frozenset(
    (NoneType, bool, int, str, bytes, date, timedelta, Pattern, UUID)
)
_OPTIONS: dict[type, str] = {defaultdict: "default_factory", deque: "maxlen"}  # besides the items
_UTC = ("UTC", "Etc/UTC")
_ABSENT = object()


class Difference(NamedTuple):
    """The first part in which two values differ.

    Args:
        path: Where it is.
        problem: What is the matter with it.
    """

    path: str
    problem: str


def find_difference(one: Any, other: Any, path: str, depth: int = 0) -> Difference | None:
    """Find the first part in which a decoded value is not what was encoded.

    Types count, and the order of the keys of a dict; of a set, only what it has. Private attributes
    of models and dataclasses are no data. An `int` may come back as the `float` that its annotation
    says, as in Python's own rules for these two.

    Args:
        one: What was encoded.
        other: What was decoded.
        path: The name of the value.
        depth: How far inside the value it is.

    Returns:
        None when there is no difference.
    """
    kind = type(one)
    if one is other:
        return None
    if kind is not type(other):
        if kind is int and type(other) is float and one == other:
            return None
        return Difference(path, f"is of type {_named(kind)}, not {_named(type(other))}.")
    if kind in _ATOMS:
        return None if one == other else _changed(path, one, other)
    if kind is float:
        return None if one.hex() == other.hex() else _changed(path, one, other)
    if depth > _DEPTH:
        return Difference(path, "contains itself.")
    if kind is datetime or kind is time:
        return _time_difference(one, other, path)
    if kind in (set, frozenset):
        return _set_difference(one, other, path, depth)
    if kind is list and _are_same_atoms(one, other):
        return None
    return _difference_of_parts(one, other, path, depth)


def _difference_of_parts(one: Any, other: Any, path: str, depth: int) -> Difference | None:
    parts = _parts(one, other, path)
    if isinstance(parts, Difference):
        return parts
    for name, first, second in parts:
        if found := find_difference(first, second, f"{path}{name or ''}", depth + 1):
            hidden = name is None
            return Difference(path, "would have other contents.") if hidden else found
    return None


def _named(kind: type) -> str:
    return "None" if kind is NoneType else kind.__qualname__


def _changed(path: str, one: Any, other: Any) -> Difference:
    if isinstance(one, str | bytes):  # which may be long, or secret
        return Difference(path, "would be another text.")
    return Difference(path, f"{one!r:.100} would be {other!r:.100}.")


def _are_same_atoms(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists are the same, and of nothing but atoms: in C, for long ones."""
    kinds = list(map(type, one))
    return _ATOMS.issuperset(kinds) and kinds == list(map(type, other)) and one == other


_Part = tuple[str | None, Any, Any]  # its name; None where people don't know it
_Parts = Iterator[_Part] | Difference


def _parts(one: Any, other: Any, path: str) -> _Parts:
    """The parts of two values of one type, with their names; each pair has to be the same."""
    kind = type(one)
    if kind is list or isinstance(one, tuple):
        if len(one) != len(other):
            return Difference(path, f"has {len(one)} items, not {len(other)}.")
        names = getattr(kind, "_fields", None) or range(len(one))
        items = ((f".{name}", *pair) for name, *pair in zip(names, one, other, strict=True))
        return chain(items, _attributes(one, other))
    if kind is dict:
        return _entries(list(one.items()), list(other.items()), path)
    if isinstance(one, BaseModel):
        fields = [(f".{name}", *_of_both(name, one, other)) for name in kind.model_fields]
        extra, back = (list((each.model_extra or {}).items()) for each in (one, other))
        entries = _entries(extra, back, path)
        return entries if isinstance(entries, Difference) else chain(iter(fields), entries)
    if dataclasses.is_dataclass(one):
        fields = [(f".{f.name}", *_of_both(f.name, one, other)) for f in dataclasses.fields(one)]
        return chain(iter(fields), _attributes(one, other))
    return _pickled_parts(one, other, path)


def _of_both(name: str, one: Any, other: Any) -> tuple[Any, Any]:
    return getattr(one, name, _ABSENT), getattr(other, name, _ABSENT)


def _attributes(one: Any, other: Any) -> Iterator[_Part]:
    """The public attributes that two instances have besides their fields."""
    fields = (
        {field.name for field in dataclasses.fields(one)}
        if dataclasses.is_dataclass(one)
        else set()
    )
    for name in list(getattr(one, "__dict__", ())):
        if name in fields or name.startswith("_"):
            continue
        if not isinstance(inspect.getattr_static(type(one), name, None), cached_property):
            yield f".{name}", *_of_both(name, one, other)


def _entries(one: list[tuple[Any, Any]], other: list[tuple[Any, Any]], path: str) -> _Parts:
    """The keys and values of two dicts."""
    missing = dict(other)
    for key, _ in one:
        if key not in missing:
            return Difference(path, f"has the key {key!r:.100}, which would not come back.")
    if len(one) != len(other):
        return Difference(path, f"has {len(one)} keys, not {len(other)}.")

    def pairs() -> Iterator[_Part]:
        for (first, value), (second, back) in zip(one, other, strict=True):
            if type(first) is not str or first != second or type(second) is not str:
                yield " (a key)", first, second
            yield f".{first}", value, back

    return pairs()


def _set_difference(one: Any, other: Any, path: str, depth: int) -> Difference | None:
    items, back = list(one), {item: item for item in other}
    if len(items) != len(back):
        return Difference(path, f"has {len(items)} items, not {len(back)}.")
    for item in items:
        if item not in back:
            return Difference(path, f"has {item!r:.100}, which would not come back.")
        if found := find_difference(item, back[item], f"{path} (an item)", depth + 1):
            return found
    return None


def _pickled_parts(one: Any, other: Any, path: str) -> _Parts:
    """What pickle would take to make the two."""
    try:
        made, remade = one.__reduce_ex__(4), other.__reduce_ex__(4)
    except TypeError:
        return Difference(path, f"is of type {_named(type(one))}, which can't be compared.")

    def pairs() -> Iterator[_Part]:
        if (name := _OPTIONS.get(type(one))) is not None:
            yield f".{name}", *_of_both(name, one, other)
        if isinstance(made, str):
            yield None, made, remade
            return
        for first, second in zip_longest(made, remade):
            if isinstance(first, Iterator) and isinstance(second, Iterator):
                yield "", list(first), list(second)
            else:
                yield None, first, second

    return pairs()


def _time_difference(one: Any, other: Any, path: str) -> Difference | None:
    if one.replace(tzinfo=None) != other.replace(tzinfo=None):
        return _changed(path, one, other)
    if one.fold != other.fold:
        return Difference(path, f"has fold={one.fold}, which would not come back; use UTC.")
    if is_same_zone(one.tzinfo, other.tzinfo):
        return None
    return Difference(
        path,
        f"has the zone {one.tzinfo}, which would come back as {_zone(other.tzinfo)}. Keep it in "
        "UTC (`.astimezone(UTC)`), and the name of the zone beside it.",
    )


def _zone(zone: tzinfo | None) -> str:
    return "none" if zone is None else f"the fixed offset {zone}"


def is_same_zone(one: tzinfo | None, other: tzinfo | None) -> bool:
    """Whether two zones are the same for all times: no zone, or one fixed offset and name."""
    if one is None or other is None:
        return one is other
    if isinstance(one, ZoneInfo):
        return one is other or (one.key in _UTC and other == UTC)
    if not all(type(zone) in (timezone, TzInfo) for zone in (one, other)):
        return False
    offset = one.utcoffset(None)
    unnamed = offset is not None and one.tzname(None) in (
        timezone(offset).tzname(None),
        TzInfo(offset.total_seconds()).tzname(None),
    )
    return unnamed and offset == other.utcoffset(None)
