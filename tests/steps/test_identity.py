"""Canonical bytes of inputs: equal for equal inputs, different for different ones."""

import asyncio
import collections
import dataclasses
import datetime
import enum
import functools
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import types
import typing
import zoneinfo
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, NamedTuple, Optional
from unittest.mock import Mock
from uuid import UUID

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow, task
from prefect.blocks.core import Block
from prefect.blocks.system import Secret as SecretBlock
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import Completed, Failed
from prefect.utilities.annotations import allow_failure, opaque, quote, unmapped
from pydantic import BaseModel

from prefect_executions import serialization
from prefect_executions.steps import identity
from prefect_executions.steps.identity import OBJECTS, Identified
from prefect_executions.steps.values import VALUES

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Colour(enum.StrEnum):
    RED = "red"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class User(BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    _session: Any = pydantic.PrivateAttr(default_factory=threading.Lock)


T = typing.TypeVar("T")


class Box(BaseModel, typing.Generic[T]):
    content: T


@dataclasses.dataclass
class Point:
    x: int
    y: Any = dataclasses.field(default=0, compare=False)

    @functools.cached_property
    def length(self) -> float:
        return math.hypot(self.x, self.y)


@attrs.define
class Size:
    width: int


class Pair(NamedTuple):
    one: Any
    other: Any


class Tagged(str):
    tag: Any


class Words(list[str]):
    __slots__ = ("language",)


class Odd(dict[str, Any]):
    """A dict whose methods must not be called."""

    def _no(self, *_: Any) -> Any:
        raise AssertionError("user code was called")

    __iter__ = __len__ = __eq__ = __getitem__ = items = keys = values = _no  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Outer(Block):
    inner: SecretBlock


def function() -> None: ...


@functools.lru_cache
def cached() -> None: ...


UserId = typing.NewType("UserId", int)


@task
def a_task() -> None: ...


@flow
def a_flow() -> None: ...


def _future() -> PrefectFuture[Any]:
    return PrefectConcurrentFuture(UUID(int=1), Mock())


def _key_of(_: Any) -> Identified:
    return Identified("abc")


def _canonical(value: Any, future: Any = _key_of) -> bytes:
    return identity.canonical({"value": value}, at="fetch", future=future)


def _digest(value: Any) -> str:
    return serialization.digest(_canonical(value))


# At least one value of each form. All differ, and their digests never change.
SAMPLES: dict[str, Any] = {
    "None": None,
    "Ellipsis": ...,
    "NotImplemented": NotImplemented,
    "False": False,
    "True": True,
    "0": 0,
    "1": 1,
    "-1": -1,
    "2**20000": 2**20000,
    "1.0": 1.0,
    "0.0": 0.0,
    "-0.0": -0.0,
    "nan": math.nan,
    "inf": math.inf,
    "1j": 1j,
    "empty str": "",
    "str 1": "1",
    "surrogate": "\ud800",
    "large": "a" * (1 << 20),
    "empty bytes": b"",
    "bytes 1": b"1",
    "bytearray": bytearray(b"1"),
    "[]": [],
    "[1]": [1],
    "[[]]": [[]],
    "[[], []]": [[], []],
    "()": (),
    "(1,)": (1,),
    "a bc": ("a", "bc"),
    "ab c": ("ab", "c"),
    "deque": collections.deque([1]),
    "set()": set(),
    "set": {1, "a", (2.0, None)},
    "frozenset": frozenset({1}),
    "{}": {},
    "dict": {"a": 1, 2: "b", None: [], (1,): {}},
    "OrderedDict": collections.OrderedDict(a=1, b=2),
    "OrderedDict, other": collections.OrderedDict(b=2, a=1),
    "defaultdict": collections.defaultdict(list, a=1),
    "Counter": collections.Counter("aab"),
    "mappingproxy": types.MappingProxyType({"a": 1}),
    "ChainMap": collections.ChainMap({"a": 1}, {"b": 2}),
    "UserDict": collections.UserDict({"a": 1}),
    "UserList": collections.UserList([1]),
    "UserString": collections.UserString("a"),
    "SimpleNamespace": SimpleNamespace(a=1),
    "range": range(3),
    "slice": slice(1, None),
    "Decimal": Decimal("1E+3"),
    "Decimal 1.0": Decimal("1.0"),
    "Decimal 1.00": Decimal("1.00"),
    "Fraction": Fraction(1, 3),
    "naive": datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    "aware": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    "earliest": datetime.datetime.min.replace(tzinfo=BERLIN),
    "date": datetime.date(2026, 1, 2),
    "time": datetime.time(3, 4),
    "time, aware": datetime.time(3, 4, tzinfo=UTC),
    "timedelta": timedelta(days=1, microseconds=2),
    "timezone": timezone(timedelta(hours=2)),
    "ZoneInfo": BERLIN,
    "UUID": UUID(int=1),
    "pattern": re.compile("a", re.IGNORECASE),
    "pattern of bytes": re.compile(b"a"),
    "PurePosixPath": pathlib.PurePosixPath("a/b"),
    "PosixPath": pathlib.PosixPath("a/b"),
    "PureWindowsPath": pathlib.PureWindowsPath("a/b"),
    **{
        f"{make.__name__} {text}": make(text)
        for make in (ip_address, ip_interface, ip_network)
        for text in ("10.0.0.1", "::1")
    },
    "StrEnum": Colour.RED,
    "Flag": Access.READ | Access.WRITE,
    "str subclass": Tagged("a"),
    "named tuple": Pair(1, [2]),
    "dataclass": Point(1),
    "attrs": Size(1),
    "model": User(name="Ada"),
    "model, extra": User.model_validate({"name": "Ada", "age": 36}),
    "root model": pydantic.RootModel[list[int]]([1]),
    "generic model": Box[int](content=1),
    "SecretStr": pydantic.SecretStr("s3cret"),
    "SecretBytes": pydantic.SecretBytes(b"s3cret"),
    "Secret": pydantic.Secret[int](5),
    "AnyUrl": pydantic.AnyUrl("https://example.org/a"),
    "HttpUrl": pydantic.HttpUrl("https://example.org/a"),
    "Url": pydantic.AnyUrl("https://example.org/a")._url,
    "PostgresDsn": pydantic.PostgresDsn("postgres://a@b/c"),
    "MultiHostUrl": pydantic.PostgresDsn("postgres://a@b/c")._url,
    "MongoDsn": pydantic.MongoDsn("mongodb://b/c"),
    "NatsDsn": pydantic.NatsDsn("nats://b"),
    "NameEmail": pydantic.NameEmail("Ada", "ada@example.org"),
    "exception": ValueError("a", 1),
    "exception with state": FileNotFoundError(2, "no", "a"),
    "class": Point,
    "type": type,
    "NoneType": type(None),
    "function": function,
    "builtin function": len,
    "bound builtin": "a".join,
    "bound method": Point(1).__init__,  # type: ignore[misc]
    "class method": Point.mro,
    "cached function": cached,
    "new type": UserId,
    "partial": functools.partial(function, 1, a=2),
    "list[int]": list[int],
    "int | None": int | None,
    "Literal": Literal[1, "a"],
    "generic model class": Box[int],
    "task": a_task,
    "flow": a_flow,
    "block": SecretBlock(value="s3cret"),
    "Identified": Identified("key"),
    "annotation": unmapped("an annotated value"),
    "state": Completed(data="a state's result"),
    "future": _future(),
}
GOLDEN: dict[str, str] = {
    "None": "9f7c4917b18958efa25fa340057ce020",
    "Ellipsis": "75940bb06e94410a6035be0cd6a4f09f",
    "NotImplemented": "9a0d74d35702258dd0695bccf6bf5946",
    "False": "7305e52a4e906c909e27646ee0e7adb4",
    "True": "44edfbfb8e4e9cac235f7669d16ee00d",
    "0": "7037ee8a467832fd0cb570710edbf89f",
    "1": "b1cc48545f936a73cdcc9dfe6046eed1",
    "-1": "fc9694d6a75c41e420ce98e910d7f89d",
    "2**20000": "0d58d730e459964afc6f9b84950f6497",
    "1.0": "f561da967c7bc66ab1309f1f7d22344a",
    "0.0": "b4c6fef38e4151d3e3865d3ba0544d66",
    "-0.0": "c086c0cb8014beab6e19cd4fe3715d76",
    "nan": "e0b829dcc3a30b9383f6b48fe6af7f85",
    "inf": "eb3e59b268e57332fc129d5ee50c726f",
    "1j": "683b817e7a3d3eaef2a7adc22caafaed",
    "empty str": "b076fe7da99f9dddc617d747b9c5bec1",
    "str 1": "efae09f3da8742efaa11c37588333595",
    "surrogate": "3c9fb652b80c306bb47fcd243dc62be8",
    "large": "320b4d55113924cf7600a5a90578ea32",
    "empty bytes": "34b5ce0f6bf49872a1e262872ce9bf01",
    "bytes 1": "659d54b7163c4dd348bffcf80232fa41",
    "bytearray": "fef1154eb3ad9cff9c1c3f81fee23f16",
    "[]": "f7564093dc3200ee6ad814e1ddfb9e68",
    "[1]": "0b9297392a6264e81236451af4dc30f8",
    "[[]]": "e20e010ca75e4cb3fbccbad62fa1f765",
    "[[], []]": "98c08b3e648a96e091a7aa8ddbb0ac65",
    "()": "b01c407c10877cb5eb279d07ab092d0c",
    "(1,)": "97ac5476305fa0c2f1cf538dd368c9dd",
    "a bc": "4f9a26839a8e1834dba03b6e63e40576",
    "ab c": "cc2525be59dd51699936d74a4272abdc",
    "deque": "1f9feb51939a50a5add65c175230ac86",
    "set()": "42db2cd928189b6518f6d0fc25e8e7f4",
    "set": "bc6ef7fb2aa88bf246218e379beb2eb8",
    "frozenset": "ccd89476026efcbebe94a6d11ebff6a9",
    "{}": "38e74f2f8334124eaec61f0e65f7f9de",
    "dict": "b16ee3590219f5eb405560fc37e27277",
    "OrderedDict": "b27355a153635e2fd4b05ecac26ce466",
    "OrderedDict, other": "72688eb1ae10f6373d239586ad91850c",
    "defaultdict": "766e73202bebe69e19b04153d0dc42b3",
    "Counter": "3b3a241c414a66d0ed6f8e0145fb601c",
    "mappingproxy": "0997995cf653a1cc711ee548bd7c53cb",
    "ChainMap": "a64c4b5ee13971028f572ca607ddd60d",
    "UserDict": "778de1a446560b738f9349e311c1bf61",
    "UserList": "350ee143cc6f94ae889aaafd5fd6d892",
    "UserString": "b6354b5e48c849d3b177ba7847e954b5",
    "SimpleNamespace": "7e4060e4b876f3332e92bda854314ad8",
    "range": "645c39ef1fbe9dc00056075faf714441",
    "slice": "797cd1e8a36c1e26589076907fcfcdce",
    "Decimal": "4c86e28b06052b3827a5c5bd095f014c",
    "Decimal 1.0": "72cc4fc8d7bdec40c39b34566d5ac7a1",
    "Decimal 1.00": "ea477c5952e1ebb3cecf121c1bbe61af",
    "Fraction": "e86aa7e7a4728ba74b75d7251c65bdd5",
    "naive": "50ce36d1ad2cf65466c164c4653da392",
    "aware": "41d2b3f378cdc2856680fe1a3037f5a8",
    "earliest": "15872903e3409306845bd380175e2f82",
    "date": "70495b134d70c28fcd73ce96bcc3a927",
    "time": "87355f6861db942bcc96b2eceb0b8848",
    "time, aware": "b8cd670f67ac65c6ce5c7ff2c5d5ef95",
    "timedelta": "5c2de256f9175d556f8a555cddd96330",
    "timezone": "57c12b21e87add13207abc9a4a65cbf9",
    "ZoneInfo": "d95eeeb077dcf660968355ff32bb64a3",
    "UUID": "842cfe6d3a53ee6ff094be514e589ea2",
    "pattern": "57397879538333b2402b695cc7bc45cc",
    "pattern of bytes": "efb3f2aa1a6e1cd7e0a9696974f5c7aa",
    "PurePosixPath": "dec4784a11a793c26a072fbd9c29040a",
    "PosixPath": "0972a0d53aa564bdfcfa848294837fd5",
    "PureWindowsPath": "7641349ced8f42f3a70c03bf15080043",
    "ip_address 10.0.0.1": "fe56f765bb92f3a1fb6579ca12e9ef3c",
    "ip_address ::1": "3664a3f4337386a016c243899b3b8805",
    "ip_interface 10.0.0.1": "82d35fb6b9b6c8fda132f914d3f4e257",
    "ip_interface ::1": "4b34dcd90caa6a28c806e2c1e5970dbf",
    "ip_network 10.0.0.1": "62d64b99bad9238fd3e404d85ef1849a",
    "ip_network ::1": "9fd8fe125c87db11bfd99f3343dfcb01",
    "StrEnum": "1577962fd83524a227bfe6ad7422e2fd",
    "Flag": "e09efadec156be4d0b343787bd2e4a32",
    "str subclass": "47f628faa2cf11c09d0a0c91137da49e",
    "named tuple": "72c9e7dc359115ef5925f17ec8581aa3",
    "dataclass": "f31f8734ee33d7173d431037bbeed7ba",
    "attrs": "8d6c4019284de59bc31aa0474ce4103d",
    "model": "45a77db7b16c50728456510107d0dc9f",
    "model, extra": "49bcc2bf5117a7871cf2bb1bb3ac7475",
    "root model": "708bf8aa0b2d0927c4b776dac47e0c98",
    "generic model": "c4b4065f785b7c1ccdcd72ded0b955ba",
    "SecretStr": "bbe6c62b146916dd96e84e84f0f253ad",
    "SecretBytes": "64774396a934b33e30814bb558b8f690",
    "Secret": "b87bf3693b60c551024eea04277a7442",
    "AnyUrl": "8f8a2580c1c7e21274a74d88606b18aa",
    "HttpUrl": "cd5290ea973cc536b2d28e5489f51f1d",
    "Url": "80e66dcf77d7709d52dfbc505823aac0",
    "PostgresDsn": "daee57bfa2636fd278d92bba7a7cb621",
    "MultiHostUrl": "36696ecb854c2d1feaab63be1eaf1fab",
    "MongoDsn": "897c7165d52b6b3d555f3b6e79aef1d0",
    "NatsDsn": "5d7f4c2230917f1913e3351d9233bf64",
    "NameEmail": "4b2f75fa9d5e1a329406f661707711fd",
    "exception": "64b384ed5fd6284ab6d287c018de055d",
    "exception with state": "afe4171e85383c4e9d0d8321c33d5f3e",
    "class": "e7e3f101e3074b12096b6eec096d787b",
    "type": "cbf315bd96a7f0c51475aee7e5bf43b6",
    "NoneType": "33e7790c3c6745339f249bea18254c96",
    "function": "ffc6e0e261c3911bdff8814ea4d85db6",
    "builtin function": "bbdf6ada639cb4954f622a442db4777b",
    "bound builtin": "d90668a7812b3ec306cd9d94887bc892",
    "bound method": "418817288f4d37df0c5ec1e715211445",
    "class method": "20320f490b9f22c7abdd0ad346346668",
    "cached function": "2912fce9eecef976419ea3e171793560",
    "new type": "3adc1c9c182cd82d3d0e5c8b4487fd7f",
    "partial": "23a4c92f8350bfcbc84ec60462c0a695",
    "list[int]": "bd201330ea88d6f1f136948eee48d584",
    "int | None": "7931da8541693d4db7adfd3bf79a50ed",
    "Literal": "09e19a8d27c45d93759c0b4f83c650cb",
    "generic model class": "2f43cf147be1c60e7c0e902699c9e561",
    "task": "1b060de0b23ff43cb206fafacbdda12e",
    "flow": "ec91be1b9f670d26e994854dd07da336",
    "block": "a4ccd9e14f950f1cc966b09eaffd56bd",
    "Identified": "810f0ed45d7dc9c2319c45a8717e6cb2",
    "annotation": "31e3ba429591821d2fc57064a72057c8",
    "state": "42512f4c2e88819c69b0c1b1ca80555f",
    "future": "5605c53126f87654904ebc398cb099ad",
}


def test_each_form_has_a_sample() -> None:
    forms = {identity.form_of(type(value))[0] for value in SAMPLES.values()}

    missing = {*VALUES, *OBJECTS} - forms

    assert missing == {pathlib.WindowsPath}  # there are none on this system


def test_the_digest_of_a_value_never_changes() -> None:
    """Otherwise the steps of runs recorded by an earlier version would run again."""
    assert {name: _digest(value) for name, value in SAMPLES.items()} == GOLDEN


def test_different_values_have_different_digests() -> None:
    assert len(set(GOLDEN.values())) == len(SAMPLES)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_digests_are_the_same_in_every_process(seed: str) -> None:
    code = (
        f"from {__name__} import _digest, GOLDEN, SAMPLES\n"
        "print({name: _digest(value) for name, value in SAMPLES.items()} == GOLDEN)"
    )
    env = {**os.environ, "PYTHONHASHSEED": seed}
    root = pathlib.Path(__file__).parents[2]

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True
    )

    assert run.stdout.strip().endswith("True"), run.stderr


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (math.nan, -math.nan),
        (
            datetime.datetime(2026, 7, 1, 12, tzinfo=BERLIN),
            datetime.datetime(2026, 7, 1, 10, tzinfo=UTC),
        ),
        (Decimal("1E+3"), Decimal("1e3")),
        (unmapped(1), 1),
        (allow_failure(quote([1])), [1]),
        (opaque({"a": 1}), {"a": 1}),
        (Completed(data=[1]), [1]),
        (_future(), Identified("abc")),
        (Optional[int], int | None),  # noqa: UP045
        (a_task, a_task.with_options(retries=3)),
        (User(name="Ada"), User(name="Ada")),
        (
            Outer(inner=SecretBlock(value="a")),
            Outer.model_validate(
                Outer(inner=SecretBlock(value="a")).model_dump(context={"include_secrets": True})
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_the_same_has_the_same_digest(one: Any, other: Any) -> None:
    assert _digest(one) == _digest(other)


def _tagged(tag: Any) -> Tagged:
    text = Tagged("a")
    text.tag = tag
    return text


def _words(language: str) -> Words:
    words = Words(["a"])
    words.language = language
    return words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_tagged(1), _tagged(2)),
        (_words("de"), _words("en")),
        (Point(1, 2), Point(1, 3)),
        (FileNotFoundError(2, "no", "a"), FileNotFoundError(2, "no", "b")),
        (list[int], list[str]),
        (Box[int], Box[str]),
        (functools.partial(function, 1), functools.partial(function, 2)),
        ("a".join, "b".join),
        (b"a" * 2_000_000, b"a" * 2_000_000 + b"b"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_differs_in_one_thing_differs(one: Any, other: Any) -> None:
    assert _digest(one) != _digest(other)


PLAIN = st.recursive(
    st.sampled_from(
        [None, False, True, 0, 1, 0.0, -0.0, 1.0, "", "1", b"", b"1", "a:1", b"int:1:1"]
    )
    | st.integers()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def _same(value: Any) -> Any:
    """A form for which Python's == agrees with equality of canonical bytes."""
    if isinstance(value, dict):
        return ("dict", frozenset((name, _same(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(_same, value)))
    return (type(value).__name__, repr(value))


def test_an_exception_that_has_been_looked_at_is_the_same() -> None:
    error = ValueError("a")
    before = _digest(error)

    assert vars(error) == {}

    assert _digest(error) == before


@given(PLAIN, PLAIN)
def test_values_have_the_same_form_only_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (_canonical(one) == _canonical(other)) == (_same(one) == _same(other))


@given(st.dictionaries(st.text(max_size=3), PLAIN, max_size=5), st.randoms())
def test_the_order_of_names_and_members_does_not_matter(
    values: dict[str, Any], source: Any
) -> None:
    names = list(values)
    source.shuffle(names)
    other = {name: values[name] for name in names}

    assert identity.canonical(other, at="a") == identity.canonical(values, at="b")
    assert _canonical(other) == _canonical(values)
    assert _canonical(set(names)) == _canonical(set(values))


@given(st.lists(st.binary(max_size=3)), st.lists(st.binary(max_size=3)))
def test_digests_differ_as_their_parts_do(one: list[bytes], other: list[bytes]) -> None:
    assert (serialization.digest(*one) == serialization.digest(*other)) == (one == other)
    assert len(serialization.digest(*one)) == 32


def test_a_value_that_has_been_looked_at_is_the_same() -> None:
    point = Point(3, 4)
    before = _digest(point)

    assert point.length == 5

    assert _digest(point) == before


def test_no_method_of_a_collection_is_called() -> None:
    assert b"Odd" in _canonical(Odd(a=1))


def test_a_script_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of `flow.py` is the same when it is run, imported, or loaded by Prefect."""
    names = []
    for name in ("flow", "__main__", "__mp_main__", "__prefect_loader_0123__"):
        module = ModuleType(name)
        module.__file__ = "/tmp/somewhere/flow.py"
        monkeypatch.setitem(sys.modules, name, module)
        names.append(identity.module_name(name))

    assert names == ["flow"] * 4


def test_a_future_stands_for_what_the_caller_says() -> None:
    assert _canonical([_future()], future=lambda _: {"a": 1}) == _canonical([{"a": 1}])


def test_a_state_is_its_result_in_a_running_loop_too() -> None:
    async def inside() -> bytes:
        return _canonical(Completed(data=1))

    assert asyncio.run(inside()) == _canonical(1)


def test_a_failed_state_is_its_exception() -> None:
    assert _canonical(Failed(data=ValueError("a"))) == _canonical(ValueError("a"))


def test_a_secret_is_not_in_the_bytes() -> None:
    for name in ("SecretStr", "SecretBytes", "block"):
        assert b"s3cret" not in _canonical(SAMPLES[name])


def test_many_and_large_inputs_are_quick() -> None:
    values = [list(range(100_000)), bytes(100_000_000)]
    start = time.thread_time()

    data = _canonical(values)

    assert time.thread_time() - start < 5
    assert len(data) < 2_000_000


def test_a_value_stays_the_same_when_its_class_is_moved() -> None:
    """Between two attempts the code may be deployed anew, with its classes in other modules."""
    source = (
        "from dataclasses import dataclass\nfrom enum import Enum\nfrom pydantic import BaseModel\n"
        "class Order(BaseModel):\n    id: int\n"
        "@dataclass\nclass Line:\n    n: int\n"
        "class Kind(Enum):\n    NEW = 1\n"
        "class Refused(Exception): ...\n"
    )
    digests = []
    for name in ("shop", "shop_models"):
        module = ModuleType(name)
        exec(source, module.__dict__)
        values = [module.Order(id=1), module.Line(1), module.Kind.NEW, module.Refused("no")]
        digests.append([_digest(value) for value in values])

    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 4
