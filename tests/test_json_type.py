"""Typed states: what pydantic keeps comes back, what it would alter is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from memory import Count
from prefect_executions.errors import StateError
from prefect_executions.serialization import JsonType


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


@pytest.mark.parametrize("state", [None, [1], Count()], ids=repr)
def test_a_plain_state_is_a_dict(state: Any) -> None:
    with pytest.raises(StateError, match="and no dict"):
        JsonType[Any](dict[str, Any]).dump(state)


def test_a_state_that_does_not_fit_is_refused_with_its_path() -> None:
    with pytest.raises(StateError, match=r"state\.n: does not fit Count: Input should be a valid"):
        JsonType[Count](Count).load(b'{"n": "three"}')
