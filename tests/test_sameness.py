"""What is kept comes back as it was, all the way down, or is refused with its path."""

import re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ByteSize, ConfigDict, Field, PrivateAttr, SecretStr
from typing_extensions import TypedDict

from prefect_executions.errors import StateError
from prefect_executions.serialization import JsonType

NEW_YORK = ZoneInfo("America/New_York")
T = TypeVar("T")


class Status(StrEnum):
    DONE = "done"


class Level(IntEnum):
    ONE = 1


class Colour(Enum):
    RED = 1


class Text(str):
    pass


@dataclass
class Job:
    status: str
    more: Any = None


@dataclass
class Tally:
    name: str
    total: int = field(init=False, compare=False, default=0)


@dataclass
class Doubled:
    n: int
    twice: int = field(init=False)

    def __post_init__(self) -> None:
        self.twice = 2 * self.n
        self._lock = Lock()

    @cached_property
    def thrice(self) -> int:
        return 3 * self.n


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Board(BaseModel):
    jobs: list[Job] = []


class Box(BaseModel, Generic[T]):
    inside: T


class Pair(NamedTuple):
    left: int
    right: str


class Ages(TypedDict):
    bee: int


class Hidden(BaseModel):
    n: int = 0
    _client: Any = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=Lock)

    @cached_property
    def doubled(self) -> int:
        return 2 * self.n


class Aliased(BaseModel):
    page_size: int = Field(validation_alias="pageSize")
    other: int = Field(0, alias="OTHER")


def _tally(total: int) -> Tally:
    tally = Tally("a")
    tally.total = total
    return tally


def _with_attribute(value: Any, name: str, content: Any) -> Any:
    setattr(value, name, content)
    return value


def _read(value: Any, name: str) -> Any:
    getattr(value, name)
    return value


def _named(part: object) -> str:
    """A part of a test's name, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(part))


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        (Job, Job(Status.DONE), "state.status"),
        (Job, Job(Text("x")), "state.status"),
        (Job, Job("x", [Level.ONE]), "state.more.0"),
        (Job, Job("x", (1,)), "state.more"),
        (Job, _with_attribute(Job("x"), "note", "lost"), "state.note"),
        (Board, Board(jobs=[Job(Status.DONE)]), "state.jobs.0.status"),
        (set[str], {Status.DONE}, "state (an item)"),
        (frozenset[Any], frozenset({(1, 2)}), "state.0"),
        (dict[str, int], {Status.DONE: 1}, "state (a key)"),
        (dict[Any, int], {1: 1}, "state"),
        (dict[int, int], {True: 1}, "state.True.[key]"),
        (Open, Open(status=Status.DONE), "state.status"),
        (Open, Open(moment=datetime(2026, 1, 1, tzinfo=UTC)), "state.moment"),
        (Tally, _tally(7), "state.total"),
        (Box[Any], Box[Any](inside=Colour.RED), "state.inside"),
        (list[Any], [{"a": Decimal(1)}], "state.0.a"),
        (datetime, datetime(2026, 3, 7, 9, tzinfo=NEW_YORK), "state"),
        (datetime, datetime(2026, 11, 1, 1, 30, fold=1), "state"),
        (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")), "state"),
        (list[time], [time(9, tzinfo=NEW_YORK)], "state.0"),
        (time, time(1, 30, fold=1), "state"),
        (deque[int], deque([1], maxlen=3), "state.maxlen"),
        (defaultdict[str, int], defaultdict(lambda: 7, a=1), "state.default_factory"),
        (list[bool | int], [Level.ONE], "state.0"),
        (int, True, "state"),
        (float, True, "state"),
        (float, 2**53 + 1, "state"),
        (Decimal, 1, "state"),
        (re.Pattern[str], re.compile("a", re.IGNORECASE), "state"),
        (SecretStr, SecretStr("told"), "state"),
        (Pair, Pair(Level.ONE, "a"), "state.left"),
        (Ages, {"bee": 1, "cat": 2}, "state"),
        (float, float("nan"), "state"),
    ],
    ids=_named,
)
def test_what_equals_but_is_another_is_refused_with_its_path(
    kind: Any, value: Any, path: str
) -> None:
    kept: JsonType[Any] = JsonType(kind)

    with pytest.raises(StateError) as refusal:
        kept.dump(value)

    assert refusal.value.path == path
    assert "told" not in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Job, Job("x", {"a": [1, 1.0, True, None, -0.0]})),
        (Board, Board(jobs=[Job("a"), Job("b")])),
        (Doubled, _read(Doubled(3), "thrice")),
        (Aliased, Aliased(pageSize=20, OTHER=3)),  # type: ignore[call-arg]
        (Open, Open(a=1, b=[2.0])),
        (Box[list[Pair]], Box[list[Pair]](inside=[Pair(1, "a")])),
        (Colour | Status, Status.DONE),
        (dict[Level, Colour], {Level.ONE: Colour.RED}),
        (dict[date, set[int]], {date(2026, 1, 1): {1, 2}}),
        (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (datetime, datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
        (time, time(9, tzinfo=UTC)),
        (ZoneInfo, NEW_YORK),
        (deque[int], deque([1, 2])),
        (defaultdict[str, list[int]], defaultdict(list, a=[1])),
        (OrderedDict[str, int], OrderedDict(b=1, a=2)),
        (Counter[str], Counter("aab")),
        (Ages, {"bee": 1}),
        (float, -0.0),
        (float, 3),
        (Decimal, Decimal("1.00")),
        (Fraction, Fraction(1, 3)),
        (complex, 1 - 2j),
        (PurePosixPath, PurePosixPath("a/b")),
        (IPv4Address, IPv4Address("10.0.0.1")),
        (AnyUrl, AnyUrl("http://a/b?c")),
        (ByteSize, ByteSize(3)),
        (UUID, UUID(int=7)),
        (re.Pattern[str], re.compile("a+")),
    ],
    ids=_named,
)
def test_what_comes_back_as_it_was_is_kept(kind: Any, value: Any) -> None:
    kept: JsonType[Any] = JsonType(kind)

    back = kept.load(kept.dump(value))

    assert back == value
    assert type(back) in (type(value), kind)


def test_what_is_private_is_made_anew() -> None:
    kept: JsonType[Hidden] = JsonType(Hidden)
    state = _read(_with_attribute(Hidden(n=3), "_client", object()), "doubled")

    back = kept.load(kept.dump(state))

    assert back.n == 3
    assert back._client is None


_ZONES = st.sampled_from([None, UTC, NEW_YORK, timezone(timedelta(hours=-3))])
_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.just(Level.ONE),
    float: st.floats() | st.integers(-(2**60), 2**60),
    str: st.text(st.characters(codec="utf-8")) | st.just(Status.DONE) | st.just(Text("x")),
    bytes: st.binary(),
    Decimal: st.decimals(allow_nan=False) | st.just(Decimal("1.00")),
    datetime: st.datetimes(timezones=_ZONES) | st.datetimes().map(lambda it: it.replace(fold=1)),
    time: st.times(timezones=_ZONES),
    date: st.dates() | st.datetimes(),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Status: st.just(Status.DONE) | st.just("done"),
    Any: st.integers() | st.text() | st.tuples(st.booleans()) | st.just(Level.ONE) | st.floats(),
}


def _hashable(typed: tuple[Any, Any]) -> bool:
    return typed[0] is not Any and getattr(typed[0], "__origin__", None) not in (list, dict, set)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types with strategies of their values: containers of others."""

    def model(typed: Any) -> Any:
        kind, values = typed
        shape = make_dataclass("Shape", [("part", kind)])
        return shape, values.map(shape)

    def union(pair: Any) -> Any:
        (one, ones), (other, others) = pair
        return one | other if one is not Any and other is not Any else Any, ones | others

    keys = st.sampled_from(list(_VALUES.items())).filter(_hashable)
    return (
        inner.map(lambda typed: (list[typed[0]], st.lists(typed[1], max_size=3)))
        | inner.map(lambda typed: (deque[typed[0]], st.lists(typed[1], max_size=2).map(deque)))
        | inner.map(lambda typed: (tuple[typed[0], ...], st.lists(typed[1]).map(tuple)))
        | inner.map(model)
        | inner.map(lambda typed: (Box[typed[0]], typed[1].map(lambda it: _box(typed[0], it))))
        | keys.map(lambda typed: (set[typed[0]], st.sets(typed[1], max_size=3)))
        | keys.map(lambda typed: (frozenset[typed[0]], st.frozensets(typed[1], max_size=3)))
        | st.tuples(keys, inner).map(
            lambda pair: (
                dict[pair[0][0], pair[1][0]],  # type: ignore[misc]
                st.dictionaries(pair[0][1], pair[1][1], max_size=3),
            )
        )
        | st.tuples(inner, inner).map(union)
    )


def _box(kind: Any, value: Any) -> Any:
    return Box[kind].model_construct(inside=value)


TYPED = st.recursive(st.sampled_from(list(_VALUES.items())), _containers, max_leaves=4)


def _written(value: Any) -> str:
    """A text that tells values apart by their types, however deep, and by what they are."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, list | tuple | deque):
        return f"{kind}[{', '.join(map(_written, value))}]"
    if isinstance(value, set | frozenset):
        return f"{kind}{{{', '.join(sorted(map(_written, value)))}}}"
    if isinstance(value, dict):
        return f"{kind}{[(_written(key), _written(item)) for key, item in value.items()]}"
    if isinstance(value, Box) or type(value).__name__ == "Shape":
        return f"{kind}{_written(vars(value))}"
    if isinstance(value, datetime | time) and value.tzinfo is not None:
        later = [value.replace(month=m) for m in (1, 7)] if isinstance(value, datetime) else []
        offsets = [it.utcoffset() for it in [value, *later]]
        return f"{kind} {value.replace(tzinfo=None)!r} {offsets}"
    return f"{kind} {value!r}"


@given(st.data())
def test_it_is_refused_or_comes_back_the_same(data: st.DataObject) -> None:
    kind, values = data.draw(TYPED)
    value = data.draw(values)
    kept: JsonType[Any] = JsonType(kind)
    try:
        text = kept.dump(value)
    except StateError as refusal:
        event(f"refused: {refusal.problem[:60]}")
        return

    back = kept.load(text)

    assert _written(_as_floats(value, back)) == _written(back)
    assert sorted(kept.dump(back)) == sorted(text)  # a set may come in another order


def _as_floats(value: Any, back: Any) -> Any:
    """A value with floats where an int has come back as one, as the type says."""
    if type(value) is int and type(back) is float:
        assert value == back
        return back
    if type(value) in (list, tuple, deque):
        return type(value)(map(_as_floats, value, back))
    if type(value) in (set, frozenset):
        found = {item: item for item in back}
        return type(value)(_as_floats(item, found[item]) for item in value)
    if type(value) is dict:
        keys = list(map(_as_floats, value, back))
        return dict(zip(keys, map(_as_floats, value.values(), back.values()), strict=True))
    if isinstance(value, Box):
        return _box(
            type(value).model_fields["inside"].annotation, _as_floats(value.inside, back.inside)
        )
    if type(value).__name__ == "Shape":
        return type(value)(_as_floats(value.part, back.part))
    return value
