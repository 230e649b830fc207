"""All values in one place of a type, looked at together: C does the loops.

A check is called with the values, which it goes through once, and with the levels that may be below
them. It returns whether all of them are what the place says, exactly.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from math import isfinite
from operator import attrgetter, eq, itemgetter
from types import NoneType
from typing import Any

from prefect_executions.sameness import is_same_zone

Check = Callable[[Iterable[Any], int], bool]

_PLAIN = frozenset((NoneType, bool, int, float, str, list, dict))
_held = attrgetter("__dict__")


def are(kind: type, values: Iterable[Any], _: int = 0) -> bool:
    """Whether values are of this class, and of no subclass."""
    return {kind}.issuperset(map(type, values))


def are_plain(values: Iterable[Any], levels: int) -> bool:
    """Whether values are JSON and nothing else, in no more levels than these."""
    level = list(values)
    while level:
        kinds = set(map(type, level))
        if levels < 0 or not kinds <= _PLAIN:
            return False
        floats, dicts, lists = (
            level if kinds == {kind} else _of_kind(kind, level) if kind in kinds else []
            for kind in (float, dict, list)
        )
        if not all(map(isfinite, floats)):
            return False
        if not are(str, chain.from_iterable(dicts)):
            return False
        level = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
        levels -= 1
    return True


def are_floats(values: Iterable[Any], _: int) -> bool:
    """Whether values are finite floats."""
    values = list(values)
    return are(float, values) and (isfinite(sum(values)) or all(map(isfinite, values)))


def are_numbers(values: Iterable[Any], levels: int) -> bool:
    """Whether values are finite floats, or an `int` that is the same as a float."""
    values = list(values)
    ints = _of_kind(int, values)
    return all(map(eq, ints, map(float, ints))) and are_floats(
        [value for value in values if type(value) is not int], levels
    )


def are_of_kinds(kinds: frozenset[type], values: Iterable[Any], levels: int) -> bool:
    """Whether values are JSON of these classes."""
    values = list(values)
    return kinds.issuperset(map(type, values)) and are_plain(values, levels)


def are_times(values: Iterable[Any], _: int) -> bool:
    """Whether values are datetimes without a zone, or in UTC."""
    values = list(values)
    zones = {id(zone): zone for zone in map(attrgetter("tzinfo"), values)}.values()
    return (
        are(datetime, values)
        and not any(map(attrgetter("fold"), values))
        and all(zone is None or is_same_zone(zone, UTC) for zone in zones)
    )


def are_among(texts: frozenset[str], values: Iterable[Any], _: int) -> bool:
    """Whether values are some of these texts."""
    values = list(values)
    return are(str, values) and texts.issuperset(values)


def nullable(inner: Check) -> Check:
    """The check of values, or None."""
    return lambda values, levels: inner((it for it in values if it is not None), levels)


def lists(inner: Check, kind: type = list) -> Check:
    """The check of lists of items, or of tuples of as many as there are."""

    def check(values: Sequence[Any], levels: int) -> bool:
        return are(kind, values) and inner(chain.from_iterable(values), levels)

    return _deep(check)


def tuples(places: Sequence[Check]) -> Check:
    """The check of tuples with an item in each of these places."""

    def check(values: Sequence[Any], levels: int) -> bool:
        return (
            are(tuple, values)
            and {len(places)}.issuperset(map(len, values))
            and all(each(map(itemgetter(at), values), levels) for at, each in enumerate(places))
        )

    return _deep(check)


def dicts(of_keys: Check, inner: Check) -> Check:
    """The check of dicts whose keys are texts."""

    def check(values: Sequence[Any], levels: int) -> bool:
        return (
            are(dict, values)
            and are(str, chain.from_iterable(values))
            and of_keys(chain.from_iterable(values), levels)
            and inner(chain.from_iterable(map(dict.values, values)), levels)
        )

    return _deep(check)


def typed_dicts(fields: Mapping[str, Check], needed: frozenset[str]) -> Check:
    """The check of dicts with these keys, in the order in which they come back."""

    def has_order(names: tuple[str, ...]) -> bool:
        return needed.issubset(names) and names == tuple(it for it in fields if it in names)

    def check(values: Sequence[Any], levels: int) -> bool:
        return (
            are(dict, values)
            and are(str, chain.from_iterable(values))
            and all(map(has_order, set(map(tuple, values))))
            and all(
                each((held[name] for held in values if name in held), levels)
                for name, each in fields.items()
            )
        )

    return _deep(check)


def instances(kind: type, fields: Mapping[str, Check]) -> Check:
    """The check of instances that have these attributes, and no others."""

    def check(values: Sequence[Any], levels: int) -> bool:
        if not are(kind, values):
            return False
        held = list(map(_held, values))
        return {len(fields)}.issuperset(map(len, held)) and all(
            each(map(itemgetter(name), held), levels) for name, each in fields.items()
        )

    return _deep(check)


def tagged(tag: str, tags: Mapping[type, set[str]], checks: Mapping[type, Check]) -> Check:
    """The check of instances of several classes, told apart by what is in this attribute."""

    def is_one(kind: type, values: Sequence[Any], levels: int) -> bool:
        own = _of_kind(kind, values)
        has_tag = tags[kind].issuperset(map(itemgetter(tag), map(_held, own)))
        return has_tag and checks[kind](own, levels)

    def check(values: Iterable[Any], levels: int) -> bool:
        values = list(values)
        kinds = set(map(type, values))
        return kinds <= tags.keys() and all(is_one(kind, values, levels) for kind in kinds)

    return check


def both(one: Check, other: Check) -> Check:
    """The check that values pass two."""

    def check(values: Iterable[Any], levels: int) -> bool:
        values = list(values)
        return one(values, levels) and other(values, levels)

    return check


def of(kind: type) -> Check:
    """The check of values of one class, which have no parts."""
    return partial(are, kind)


def _of_kind(kind: type, values: Iterable[Any]) -> list[Any]:
    return [value for value in values if type(value) is kind]


def _deep(check: Callable[[Sequence[Any], int], bool]) -> Check:
    """The check of values that have parts, one level below."""

    def deep(values: Iterable[Any], levels: int) -> bool:
        values = list(values)
        return not values or (levels >= 0 and check(values, levels - 1))

    return deep
