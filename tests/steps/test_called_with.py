"""What people read of the inputs of a call."""

from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from prefect_executions import record, step
from prefect_executions.log.journal import Outcome
from prefect_executions.steps.called_with import LENGTH, called_with
from prefect_executions.testkit import TestKit
from trials import act, acts, journal, once

SECRET = "hunter 2"


class Colour(Enum):
    RED = 1


class Order(BaseModel):
    number: int
    card: SecretStr
    note: str = Field("", repr=False)


@dataclass
class Login:
    name: str
    password: str
    once: str = field(default="", repr=False)


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("not now")


class Long:
    def __repr__(self) -> str:
        return "x" * 1_000_000


class Token:
    def __repr__(self) -> str:
        return f"Token(secret='{SECRET * 100_000}')"


class Lines:
    def __repr__(self) -> str:
        return "one\n  two"


@pytest.mark.parametrize(
    ("inputs", "shown"),
    [
        ({}, ""),
        ({"city": "Oslo", "days": 3}, "city='Oslo', days=3"),
        ({"n": None, "x": 0.5, "yes": True}, "n=None, x=0.5, yes=True"),
        ({"text": "a\nb"}, r"text='a\nb'"),
        ({"text": "x" * 1_000}, f"text='{'x' * 80}'+920"),
        ({"pages": [*range(10)]}, "pages=[0, 1, 2, ... +7]"),
        ({"deep": [[[[[[1]]]]]]}, "deep=[[[[[...]]]]]"),
        ({"colour": Colour.RED}, "colour=<Colour.RED: 1>"),
        ({"day": date(2026, 12, 1)}, "day=datetime.date(2026, 12, 1)"),
        ({"lines": Lines()}, "lines=one   two"),
        ({"long": Long()}, f"long={'x' * 294}…"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_one_short_line(inputs: dict[str, Any], shown: str) -> None:
    assert called_with(inputs) == shown


@pytest.mark.parametrize(
    "inputs",
    [
        {"password": SECRET},
        {"api_key": SECRET},
        {"apiKey": SECRET},
        {"client_secret": SECRET.encode()},
        {"headers": {"Authorization": f"Bearer {SECRET}", "X-Auth-Token": SECRET}},
        {"login": Login("ada", SECRET, SECRET)},
        {"orders": [Order(number=1, card=SecretStr(SECRET), note=SECRET)]},
        {"secret": f'it\'s "{SECRET}"'},
        {"token": SECRET * 100},
        {"of": Token()},
    ],
    ids=str,
)
def test_it_has_no_secrets(inputs: dict[str, Any]) -> None:
    shown = called_with(inputs)

    assert SECRET not in shown
    assert "***" in shown


def test_what_is_no_secret_is_shown() -> None:
    inputs = {"max_tokens": 100, "key": "order-1", "keyboard": "qwerty"}

    assert called_with(inputs) == "max_tokens=100, key='order-1', keyboard='qwerty'"


def test_how_a_class_shows_itself_is_no_matter_of_the_call() -> None:
    assert "one=" in called_with({"one": Broken(), "two": [Broken()]})


@given(inputs=st.dictionaries(st.text(), st.text(st.characters(categories=None)) | st.integers()))
def test_it_is_always_a_line_of_text(inputs: dict[str, Any]) -> None:
    shown = called_with(inputs)

    assert len(shown) <= LENGTH
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown


def test_it_is_recorded_as_it_was_when_the_call_was_made(kit: TestKit) -> None:
    @step
    def adds(items: list[int], n: int = 2) -> int:
        acts["adds"] += 1
        items.append(n)
        return len(items)

    @step
    def fails(city: str) -> None:
        raise ValueError(city)

    @step
    def odd(city: str) -> Any:
        return object()

    def body() -> None:
        adds([1])
        record("named", lambda: act("named"), key="one", shown={"city": "Oslo"})
        record("by inputs", lambda: act("by inputs"), inputs={"city": "Rome"})
        record("bare", lambda: act("bare"), key="two")
        with pytest.raises(ValueError, match="Kiel"):
            fails("Kiel")
        odd("Bern")

    trial = once(kit, body)

    told = {one.step: (one.outcome, one.called_with) for one in journal(kit, trial)}
    assert told == {
        "adds": (Outcome.DONE, "items=[1], n=2"),
        "named": (Outcome.DONE, "city='Oslo'"),
        "by inputs": (Outcome.DONE, "inputs={'city': 'Rome'}"),
        "bare": (Outcome.DONE, ""),
        "fails": (Outcome.BEGUN, "city='Kiel'"),
        "odd": (Outcome.UNKEPT, "city='Bern'"),
    }
    assert acts["adds"] == 1
