"""What is proven to come back does: it is what comparing with the decoded value says, too."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from functools import cached_property, partial
from itertools import count
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    StringConstraints,
    TypeAdapter,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict

from prefect_executions import serialization
from prefect_executions.errors import StateChanged
from prefect_executions.kept_values import Proof
from prefect_executions.serialization import JsonType
from strategies import examples


class Status(StrEnum):
    DONE = "done"
    OPEN = "open"


class Level(IntEnum):
    ONE = 1


class Mixed(Enum):
    TEXT = "1"
    NUMBER = 1


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Message(BaseModel):
    role: Literal["user", "assistant"] = "user"
    content: str = ""
    tokens: int | None = None


class Longer(Message):
    more: str = "x"


class Call(BaseModel):
    kind: Literal["call"] = "call"
    arguments: dict[str, Any] = {}


class Answer(BaseModel):
    kind: Literal["answer", "refusal"] = "answer"
    texts: list[str] = []


class Node(BaseModel):
    name: str = ""
    children: list["Node"] = []


class Item(BaseModel):
    n: int = 0


class Tree(BaseModel):
    """Is defined by itself, with parts that are to be compared."""

    items: set[int] = set()
    by_price: dict[Decimal, Item] = {}
    last: Item = Item()
    below: list["Tree"] = []

    @field_validator("items")
    @classmethod
    def _any(cls, items: set[int]) -> set[int]:
        return items


class Grove(BaseModel):
    trees: deque[Tree] = deque()
    by_price: dict[Decimal, Tree] = {}
    first: Node = Node()


class Limited(BaseModel):
    share: float = Field(0.0, ge=0, le=1)
    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=5)] = ""
    few: list[int] = Field(default=[], max_length=2)


class Camel(BaseModel):
    page_size: int = Field(0, alias="pageSize")
    other: int = Field(0, validation_alias="OTHER")


class Crossed(BaseModel):
    one: int = Field(0, alias="two")
    two: int = Field(0, alias="one")


class Checked(BaseModel):
    low: int = 0
    high: int = 0

    @field_validator("high")
    @classmethod
    def _at_least_low(cls, high: int, info: Any) -> int:
        return max(high, info.data.get("low", 0))


class Shown(BaseModel):
    price: Decimal = Decimal(0)
    when: datetime | None = None

    @field_serializer("price")
    def _price(self, price: Decimal) -> str:
        return f"{price:f}"


class Private(BaseModel):
    n: int = 0
    _lock: Any = PrivateAttr(default=None)

    @cached_property
    def double(self) -> int:
        return 2 * self.n


class Settled(BaseModel):
    n: int = 0

    def model_post_init(self, _: Any) -> None:
        self.n = abs(self.n)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0


class Texts(RootModel[list[str]]):
    pass


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    name: str = ""


@dataclass
class Job:
    name: str
    tries: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    n: int


@dataclass
class Counted:
    n: int = field(default=0, init=False)


class Ages(TypedDict):
    bee: int
    cat: NotRequired[str]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**65) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
ODD = st.sampled_from(
    [
        *(
            Status.DONE,
            Level.ONE,
            Mixed.NUMBER,
            Mixed.TEXT,
            Rights.READ,
            Rights.READ | Rights.WRITE,
        ),
        *((), (1, "a"), [(1,)], {"a"}, b"x", Decimal("1.10"), "\ud800", {1: 2}, {Status.DONE: 1}),
        *(datetime(2026, 1, 1), datetime(2026, 1, 1, 1, 2, 3, 4, UTC), date(2026, 1, 1)),
        *(datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")), datetime(2026, 1, 1, fold=1)),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 1, 1, tzinfo=ZoneInfo("America/New_York")),
        *(UUID(int=7), uuid1(), OrderedDict(a=1), {"cat": "x", "bee": 1}, {"bee": 1, "cat": "x"}),
        *({"bee": 1}, {"bee": 1, "dog": 2}, " a ", "done", "abcdefg", 1.5, -1, 2**53 + 1, 3),
    ]
)
CLASSES: list[Callable[..., Any]] = [
    *(Message, Longer, Call, Answer, Node, Limited, Camel, Crossed, Checked, Shown, Private),
    *(Settled, Open, Stripped, Job, Counted, Tree, Grove),
]
TYPED: list[Any] = [
    *(Message, Answer, Node, Private, Stripped, Job, Slotted, Ages),
    *(Status, Mixed, Rights, int, float, str, bool, int | float, str | int | None, str | float),
    *(bool | str | int, datetime, date, UUID, Decimal, bytes, Literal["done"], Literal[1, "a"]),
    *(set[str], list[Status], list[float], tuple[int, str], tuple[int, ...], dict[int, int]),
    *(dict[Literal["a", "bee"], int], dict[str, list[Message]], dict[Status, int], list[Message]),
    *(Message | None, list[Job], list[Ages], Annotated[list[int], Field(min_length=1)]),
]
OTHERS: list[Any] = [
    *(*CLASSES, Texts, Any, dict, list, dict[str, Any], tuple[Any, ...], None, Message | Call),
    *(tuple[int, *tuple[str, ...]], list[Annotated[int, AfterValidator(abs)]]),
]
TAGGED: Any = list[Annotated[Call | Answer, Field(discriminator="kind")]]


@st.composite
def instances(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Any:
    """An instance whose attributes may be anything: pydantic does not look at what is assigned."""
    kind: Any = draw(st.sampled_from(CLASSES))
    made = kind("job") if kind is Job else kind()
    names = sorted(vars(made)) or ["n"]
    for name in draw(st.lists(st.sampled_from(names), max_size=3, unique=True)):
        made.__dict__[name] = draw(inner)
    if isinstance(made, BaseModel) and draw(st.integers(0, 9)) == 0:
        made.__dict__.pop(names[0], None)
    if draw(st.integers(0, 9)) == 0:
        made.__dict__["more"] = 1
    return made


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    PLAIN | ODD,
    lambda inner: (
        instances(inner)
        | instances(st.text(max_size=3))
        | st.lists(instances(inner), max_size=3)
        | st.dictionaries(st.sampled_from(["a", "bee", "c"]), inner, max_size=2)
        | st.lists(inner, max_size=2)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *((type_, st.from_type(type_) | ANYTHING) for type_ in TYPED),
    *((type_, ANYTHING | instances(PLAIN)) for type_ in OTHERS),
    (Texts, st.lists(st.text()).map(Texts)),
    (Limited, st.builds(Limited, share=st.floats(0, 1), name=st.just("a"))),
    (TAGGED, st.lists(instances(st.just("call") | st.just("refusal") | PLAIN), max_size=3)),
]


@settings(max_examples=examples(300))
@given(st.data(), st.sampled_from(VALUES))
def test_what_is_proven_is_what_comparing_says(data: st.DataObject, typed: Any) -> None:
    type_, values = typed
    value = data.draw(values)
    kept: JsonType[Any] = JsonType(type_)

    proven = kept._dump_proven(value)

    event(f"proven: {proven is not None}")
    if proven is not None:
        assert kept._dump_compared(value) == proven


@pytest.mark.parametrize(
    ("type_", "value", "is_as_is"),
    [
        (list[Message], [Message(content="a")], True),
        (Node, Node(children=[Node(), Node(name="b")]), True),
        (Limited, Limited(share=0.5, name="a", few=[1]), True),
        (TAGGED, [Call(arguments={"a": [1]}), Answer()], True),
        (Private, Private(n=1), True),
        (Job, Job("a", [1]), True),
        (Ages, {"bee": 1}, True),
        (dict[str, Status], {"a": Status.DONE}, True),
        (tuple[datetime, UUID], (datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7)), True),
        (Camel, Camel(pageSize=2), False),
        (list[Checked], [Checked(high=2)], False),
        (Tree, Tree(items={1}, below=[Tree()]), False),
        (Grove, Grove(trees=deque([Tree()]), by_price={Decimal(1): Tree(last=Item(n=1))}), False),
        (list[Shown], [Shown(price=Decimal("1.00"))], False),
    ],
    ids=repr,
)
def test_what_agents_keep_is_proven(type_: Any, value: Any, is_as_is: bool) -> None:
    """So that it costs no more than to encode it."""
    proof = Proof(TypeAdapter(type_).core_schema)

    assert proof.holds(value)
    assert proof.is_as_is == is_as_is


def test_an_int_in_place_of_a_float_is_written_as_one() -> None:
    kept: JsonType[Any] = JsonType(Limited)

    assert kept._dump_proven(Limited.model_construct(share=1, name="a", few=[])) is not None
    assert kept.dump(Limited.model_construct(share=1, name="a", few=[])).startswith(b'{"share":1.0')


TYPES_THAT_CHANGE = [(Private, "n"), (Checked, "high"), (dict[str, Any], "n")]


def _changing(
    kept: JsonType[Any], patch: pytest.MonkeyPatch, change: Callable[[], object]
) -> JsonType[Any]:
    """A type each time after whose encoding something happens, as in another thread."""
    encode, written = kept._encode, serialization.written

    def after(encode: Callable[[Any], bytes], value: Any) -> bytes:
        data = encode(value)
        change()
        return data

    patch.setattr(kept, "_encode", partial(after, encode))
    patch.setattr(serialization, "written", partial(after, written))
    return kept


def _set(state: Any, name: str, value: Any) -> None:
    (state if isinstance(state, dict) else vars(state))[name] = value


@pytest.mark.parametrize(("type_", "name"), TYPES_THAT_CHANGE, ids=repr)
def test_a_state_that_changes_while_it_is_saved_is_taken_anew(
    type_: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = type_(**{name: 0})
    times = iter([1, 2, 3])
    change = partial(_set, state, name)
    kept = _changing(JsonType(type_), monkeypatch, lambda: change(next(times, 3)))

    saved = kept.load(kept.dump(state))

    assert saved == state == type_(**{name: 3})


@pytest.mark.parametrize(("type_", "name"), TYPES_THAT_CHANGE[:2], ids=repr)
def test_a_state_that_never_rests_is_said_to_change(
    type_: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, times = type_(**{name: 0}), count(1)
    kept = _changing(JsonType(type_), monkeypatch, lambda: _set(state, name, next(times)))

    with pytest.raises(StateChanged, match=r"state.*changed while it was saved"):
        kept.dump(state)


@pytest.mark.parametrize(("type_", "name"), TYPES_THAT_CHANGE, ids=repr)
def test_what_was_there_for_a_moment_is_not_saved_as_something_else(
    type_: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread takes away what can't be kept once it is encoded, before anybody looks at it."""
    state = type_(**{name: 0})
    _set(state, name, Level.ONE)
    kept = _changing(JsonType(type_), monkeypatch, lambda: _set(state, name, 2))

    assert kept.load(kept.dump(state)) == type_(**{name: 2})
