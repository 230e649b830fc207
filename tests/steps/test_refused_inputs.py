"""Inputs without a canonical form are refused, with their path and a way out."""

import asyncio
import dataclasses
import functools
import io
import socket
import sys
import threading
from typing import Any, NamedTuple
from unittest.mock import Mock
from uuid import UUID

import pydantic
import pytest
from prefect import task
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Running
from prefect.utilities.annotations import quote
from pydantic import BaseModel

from prefect_executions.errors import InputError
from prefect_executions.steps import identity
from strategies import cycle, nested


class User(BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    _session: Any = pydantic.PrivateAttr(default_factory=threading.Lock)


@dataclasses.dataclass
class Point:
    x: int
    y: Any = dataclasses.field(default=0, compare=False)


class Pair(NamedTuple):
    one: Any
    other: Any


class Tagged(str):
    tag: Any


class Service:
    def call(self) -> None: ...


def _tagged(tag: Any) -> Tagged:
    text = Tagged("a")
    text.tag = tag
    return text


def _closure() -> Any:
    def inner() -> None: ...

    return inner


def _local_class() -> Any:
    class Local: ...

    return Local


def _coroutine() -> Any:
    coroutine = asyncio.sleep(0)
    coroutine.close()
    return coroutine


SECRET = "hunter2"
UNSTABLE = [
    (io.StringIO(SECRET), "", "an open file, of type StringIO,"),
    (socket.socket(), "", "a socket, of type socket,"),
    (threading.Lock(), "", "a lock, of type lock,"),
    (threading.Thread(), "", "a thread, of type Thread,"),
    (iter([SECRET]), "", "an iterator, which can be read only once, of type list_iterator,"),
    (
        (word for word in [SECRET]),
        "",
        "an iterator, which can be read only once, of type generator,",
    ),
    (_coroutine(), "", "an awaitable, which can be awaited only once, of type coroutine,"),
    (sys, "", "a module, of type module,"),
    (memoryview(b"a"), "", "a view of other memory, of type memoryview,"),
    (
        lambda: SECRET,
        "",
        "a function that can't be found by its name in its module, of type function,",
    ),
    (_closure(), "", "a function that can't be found by its name in its module, of type function,"),
    (_local_class(), "", "a class that can't be found by its name in its module, of type type,"),
    (functools.partial(_closure()), ".func", "a function that can't be found"),
    (task(_closure()), ".fn", "a function that can't be found"),
    (Service().call, ".__self__", "a value of type Service"),
    (Service(), "", "a value of type Service"),
    (object(), "", "a value of type object"),
    (sys.version_info, "", "a value of type version_info"),
    (Mock(spec=User), "", "a value of type Mock"),
    (Running(), "", "a state without a result, of type State,"),
    ([1, {"x": (Service(),)}], '[1]["x"][0]', "a value of type Service"),
    ({(1, Service()): SECRET}, "[…] (the key)[1]", "a value of type Service"),
    ({5: Service()}, "[…]", "a value of type Service"),
    (frozenset({Service()}), "{…}", "a value of type Service"),
    (Point(1, {"a": Service()}), '.y["a"]', "a value of type Service"),
    (Pair(SECRET, Service()), "[1]", "a value of type Service"),
    (
        User.model_validate({"name": SECRET, "pool": [Service()]}),
        ".pool[0]",
        "a value of type Service",
    ),
    (_tagged(Service()), ".tag", "a value of type Service"),
    (ValueError(SECRET, Service()), ".args[1]", "a value of type Service"),
    (quote([Service()]), "[0]", "a value of type Service"),
    (nested(200), "[0]" * 66 + "…", "is nested deeper than 100 levels, or contains itself"),
    (cycle(), '["loop"]' + "[0]" * 62 + "…", "is nested deeper than 100 levels"),
]


@pytest.mark.parametrize(("value", "path", "problem"), UNSTABLE, ids=lambda it: type(it).__name__)
def test_what_is_unstable_is_refused_with_path_and_way_out(
    value: Any, path: str, problem: str
) -> None:
    with pytest.raises(InputError) as refusal:
        identity.canonical({"session": value, "url": SECRET}, at="fetch")

    assert refusal.value.path.startswith(f"fetch(session{path[:150]}")
    assert refusal.value.path.endswith("…)" if path.endswith("…") else f"session{path})")
    assert refusal.value.problem.startswith(problem)
    assert refusal.value.problem.endswith(
        'pass plain data, or give the step a key: @step(key="fetch-{url}")'
    )
    assert SECRET not in str(refusal.value)


def test_a_future_is_refused_where_nobody_knows_it() -> None:
    with pytest.raises(InputError, match="PrefectConcurrentFuture has no stable identity"):
        identity.canonical({"value": PrefectConcurrentFuture(UUID(int=1), Mock())}, at="fetch")
