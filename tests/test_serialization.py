"""State to bytes and back: strict JSON, and the types that pydantic keeps."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from pydantic import BaseModel, Field, SecretStr

from memory import Count
from prefect_executions import serialization
from prefect_executions.errors import StateError
from prefect_executions.serialization import JsonType
from strategies import JSON, cycle, nested


class Colour(StrEnum):
    RED = "red"


@given(JSON)
def test_what_is_kept_comes_back_equal(value: Any) -> None:
    back = serialization.load(serialization.dump(value))

    assert back == value
    assert repr(back) == repr(value)  # 1, 1.0 and True are equal, but not the same


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "state"),
        ({"a": [1, {"b": math.inf}]}, "state.a[1].b"),
        ({"a": -math.inf}, "state.a"),
        ({1: "a"}, "state"),
        ({"a": {None: 1}}, "state.a"),
        ({"a": "\ud800"}, "state.a"),
        ({"\ud800": 1}, "state (a key)"),
        ({"a": 2**64}, "state.a"),
        ({"a": -(2**63) - 1}, "state.a"),
        ({"a": (1, 2)}, "state.a"),
        ({"a": {1, 2}}, "state.a"),
        ({"a": b"bytes"}, "state.a"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "state.a"),
        ({"a": UUID(int=0)}, "state.a"),
        ({"a": Colour.RED}, "state.a"),
        ({"a": 1 + 2j}, "state.a"),
    ],
    ids=repr,
)
def test_what_would_be_altered_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(StateError) as refusal:
        serialization.dump(value)

    assert refusal.value.path == path


@pytest.mark.parametrize("value", [nested(300), cycle()], ids=["deep", "cycle"])
def test_endless_nesting_is_refused(value: Any) -> None:
    with pytest.raises(StateError, match="nested deeper"):
        serialization.dump(value)


def test_a_state_that_is_not_what_its_model_says_is_refused() -> None:
    """It would be saved, and could never be loaded again."""
    state = Count()
    state.n = "three"  # type: ignore[assignment]

    with pytest.raises(StateError, match="is not what its type says"):
        JsonType[Count](Count).dump(state)


class Base(BaseModel):
    a: int = 0


class Derived(Base):
    b: int = 0


class Odd(BaseModel):
    aliased: int = Field(0, alias="other")
    hidden: int = Field(0, exclude=True)
    anything: Any = None
    base: Base = Base()
    small: int = Field(0, le=10)
    secret: SecretStr = SecretStr("")
    raw: bytes = b""
    when: str | datetime = ""
    numbers: tuple[int, ...] = ()
    words: set[str] = set()


def _odd(**values: Any) -> Odd:
    state = Odd()
    for name, value in values.items():
        setattr(state, name, value)
    return state


@pytest.mark.parametrize(
    "state",
    [
        _odd(aliased=41),
        _odd(numbers=(1, 2), words={"a", "b"}),
        _odd(anything={"a": [1, None, "b"]}),
        _odd(base=Base(a=3)),
        _odd(raw=b"bytes"),
    ],
)
def test_a_model_comes_back_as_it_was(state: Odd) -> None:
    odd = JsonType[Odd](Odd)

    assert odd.load(odd.dump(state)) == state


@pytest.mark.parametrize(
    ("state", "path"),
    [
        (_odd(hidden=1), "state.hidden"),
        (_odd(anything=(1, 2)), "state.anything"),
        (_odd(anything={"a": [datetime(2026, 1, 1, tzinfo=UTC)]}), "state.anything.a.0"),
        (_odd(anything={1: "a"}), "state.anything"),
        (_odd(anything=float("nan")), "state.anything"),
        (_odd(base=Derived(a=1, b=2)), "state.base"),
        (_odd(small=50), "state.small"),
        (_odd(secret=SecretStr("told")), "state.secret"),
        (_odd(raw=b"\xff"), "state"),
        (_odd(when=datetime(2026, 1, 1, tzinfo=UTC)), "state.when"),
    ],
)
def test_a_model_that_would_come_back_different_is_refused(state: Odd, path: str) -> None:
    with pytest.raises(StateError) as refusal:
        JsonType[Odd](Odd).dump(state)

    assert refusal.value.path == path


class NoData:
    """Nothing that pydantic knows."""


@pytest.mark.parametrize(
    ("type_", "problem"),
    [
        (NoData, "Unable to generate"),
        (int | NoData, "Unable to generate"),
        (Iterator[int], "Unable to generate"),
        ("Nowhere", "name 'Nowhere' is not defined"),
        (list["Nowhere"], "name 'Nowhere' is not defined"),  # type: ignore[name-defined]  # noqa: F821
    ],
    ids=str,
)
def test_a_type_that_pydantic_can_not_keep_is_refused(type_: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=f"^the answer can't be recorded: {problem}"):
        JsonType(type_, what="the answer")


@pytest.mark.parametrize("type_", [BaseModel, list[BaseModel], dict[str, BaseModel | None]])
def test_a_model_without_a_class_of_its_own_is_refused(type_: Any) -> None:
    with pytest.raises(StateError, match="is a BaseModel, which has no fields"):
        JsonType(type_).require_kept()


@pytest.mark.parametrize("state", [None, [1], Count()], ids=repr)
def test_a_plain_state_is_a_dict(state: Any) -> None:
    with pytest.raises(StateError, match="and no dict"):
        JsonType[Any](dict[str, Any]).dump(state)


def test_a_state_that_does_not_fit_is_refused_with_its_path() -> None:
    with pytest.raises(StateError, match=r"state\.n: does not fit Count: Input should be a valid"):
        JsonType[Count](Count).load(b'{"n": "three"}')
