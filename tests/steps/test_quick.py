"""The quick way gives the canonical bytes, and the errors, that the forms of all values give."""

from enum import StrEnum
from threading import Lock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict

from prefect_executions.errors import InputError
from prefect_executions.steps.identity import MAX_DEPTH, Canonicalizer
from prefect_executions.steps.values import LARGE
from strategies import JSON


class Colour(StrEnum):
    RED = "red"


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: Any = ""
    content: Any = None


LOCK = Lock()
ODD = st.sampled_from(
    [Colour.RED, b"x", {1, 2}, 1j, -0.0, float("nan"), -(2**70), "\ud800", LOCK, Completed(data=1)]
)
PARTS = st.recursive(
    JSON | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "é", "\ud800", 1, None, (1,)]), inner, max_size=3)
        | st.builds(Message, role=inner, content=inner)
        | st.builds(Message, more=inner)
    ),
    max_leaves=8,
)


def _outcome(value: Any, *, quickly: bool) -> Any:
    writer = Canonicalizer("fetch", "fetch-…", None)
    if not quickly:
        writer._quick = None
    try:
        return writer.part("value", value)
    except InputError as refusal:
        return str(refusal)


@given(PARTS)
def test_the_quick_way_is_the_same_as_the_other(value: Any) -> None:
    assert _outcome(value, quickly=True) == _outcome(value, quickly=False)


def _nested(kind: Any, depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = kind(inside)
    return inside


@pytest.mark.parametrize(
    "inside", [1, Colour.RED, LOCK, [Colour.RED]], ids=["1", "odd", "no", "in"]
)
@pytest.mark.parametrize("depth", range(MAX_DEPTH - 4, MAX_DEPTH + 2))
@pytest.mark.parametrize(
    "kind",
    [lambda it: [it], lambda it: (it,), lambda it: {"a": it}, lambda it: Message(content=it)],
    ids=["list", "tuple", "dict", "model"],
)
def test_it_goes_as_deep(kind: Any, depth: int, inside: Any) -> None:
    value = _nested(kind, depth, inside)

    assert _outcome(value, quickly=True) == _outcome(value, quickly=False)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1])
def test_what_is_large_is_the_same(size: int) -> None:
    text = "a" * size
    value = [text, {"a": text}, (text,), Message(content=text)]

    assert _outcome(value, quickly=True) == _outcome(value, quickly=False)
