"""The inputs of a step's call as canonical bytes, which are the same in every process.

The class of a value decides its canonical form. The forms are tried in this order:

* A member of an enum is its class and its name; a flag is its class and its number.
* `VALUES` are their data. Equal data of different types differ (`1`, `True` and `1.0`; a list and
  a tuple). The order of a dict or a set does not matter, the order of an `OrderedDict` does. Aware
  datetimes of the same instant are the same in every time zone, and all NaNs are the same. An
  instance of a subclass is its class, its data and its additional attributes.
* `OBJECTS` are identified in another way: a model by its class and its public fields, a class or a
  function by the name under which it can be imported, and a `State` or an annotation of Prefect by
  the value that Prefect passes on in its place.
* An instance of a dataclass or an attrs class is its class and its fields. A type such as
  `list[int]` is its origin and its arguments. Anything that can be found under its own
  `__module__` and `__qualname__` is that name.
* Everything else is refused, with the reason in `REFUSED` if there is one.

Recorded runs depend on these forms: when a form changes, their steps run again.
"""

import collections
import dataclasses
import hashlib
import io
import pathlib
import socket
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import tzinfo
from enum import Enum, Flag
from functools import cached_property, lru_cache, partial
from inspect import getattr_static
from types import FunctionType, ModuleType
from typing import Any, NoReturn, get_args, get_origin
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pydantic_core
from prefect import Flow, State, Task
from prefect.blocks.core import Block
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import BaseAnnotation
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions.errors import InputError
from prefect_executions.steps.quick import Quick, Shape
from prefect_executions.steps.values import VALUES, attributes, fields_of, node, string

MAX_DEPTH = 100
_HEAP_TYPE = 1 << 9  # the flag of a class that is not written in C
_NOTHING = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Identified:
    """The key that identifies a value which is not there yet, such as the result of a call."""

    key: str


def canonical(
    parameters: dict[str, Any],
    *,
    at: str,
    future: Callable[[Any], Any] | None = None,
    has_key: bool = True,
) -> bytes:
    """Return the inputs of a call as bytes that are equal only when the inputs are.

    Compute a digest of them; do not store them, as they contain the inputs in plain text.

    Args:
        parameters: The inputs by name, defaults included. Their order does not matter.
        at: The name of the step, for errors.
        future: Returns an `Identified`, or a value, in place of a `PrefectFuture`. Futures are
            refused without it.
        has_key: Whether the call could have a key instead, which errors then show.

    Raises:
        InputError: An input has no canonical form. The error has the path of the first such part,
            for example `fetch(session.pool[0])`. It shows keys and types, but no values.
    """
    # The example shows the first input that reads well in a key.
    names = [name for name, value in parameters.items() if type(value) in (str, int, UUID)]
    example = f"{at}-{{{names[0]}}}" if names else f"{at}-…"
    writer = Canonicalizer(at, example if has_key else None, future)
    return fields_of(writer, parameters, label="")


class Canonicalizer:
    """Turns the inputs of one call into canonical bytes, and knows the path of the current part.

    Args:
        at: The name of the step.
        example: A key that the step could have, if it can have one.
        future: Returns what takes the place of a future, or None to refuse futures.
    """

    def __init__(self, at: str, example: str | None, future: Callable[[Any], Any] | None) -> None:
        self.future = future
        self._at = at
        self._example = example
        self._path: list[str] = []
        self._quick: Quick | None = Quick(_shape_of, self._beside)

    def part(self, label: str, value: Any) -> bytes:
        """Return the canonical bytes of the part that `label` names in the current part."""
        self._path.append(label)
        if len(self._path) > MAX_DEPTH:
            self._raise(f"is nested deeper than {MAX_DEPTH} levels, or contains itself")
        data = self._part_quickly(value) or self._part(value)
        self._path.pop()
        return data

    def _part_quickly(self, value: Any) -> bytes | None:
        """The bytes of a value; None where they are to be made with the paths of all parts."""
        if self._quick is None:
            return None
        length = len(self._path)
        try:
            return self._quick.part(value, MAX_DEPTH - length)
        except (InputError, UnicodeEncodeError):  # an error is to name the path of the part
            self._quick = None
            del self._path[length:]
            return None

    def _beside(self, value: Any, levels: int) -> bytes:
        """The bytes of what is not quick, with as many levels left."""
        length = len(self._path)
        self._path += [""] * (MAX_DEPTH - levels - length)
        data = self._part(value)
        del self._path[length:]
        return data

    def _part(self, value: Any) -> bytes:
        kind: Any = type(value)
        base, form = form_of(kind)
        data = form(value, self)
        if base is not kind and base in VALUES:
            data = node(b"subclass", _name(kind), data, fields_of(self, _added(value, base)))
        return data

    def refuse(self, value: Any, why: str | None = None) -> NoReturn:
        """Raise an `InputError` that says why `value` has no canonical form, and what to do."""
        kind = type(value)
        why = why or next((why for why, kinds in REFUSED.items() if issubclass(kind, kinds)), None)
        what = f"{why}, of type" if why else "a value of type"
        end = "," if why else ""
        self._raise(f"{what} {kind.__qualname__}{end} has no stable identity")

    def _raise(self, problem: str) -> NoReturn:
        path = "".join(self._path)
        path = path if len(path) <= 200 else f"{path[:200]}…"
        hint = "pass plain data"
        if self._example is not None:
            hint += f', or give the step a key: @step(key="{self._example}")'
        raise InputError(f"{self._at}({path})", f"{problem}; {hint}")


_Form = Callable[[Any, Canonicalizer], bytes]


@lru_cache(maxsize=1024)
def form_of(kind: type) -> tuple[type, _Form]:
    """Return the form of the instances of `kind`, and the class that has this form."""
    if issubclass(kind, Enum):  # first, as it may also be a str or an int
        return Enum, OBJECTS[Enum]
    is_python = True
    for base in kind.__mro__:
        if base in OBJECTS:
            return base, OBJECTS[base]
        # A subclass written in C may have hidden data, such as pandas' Timestamp.
        if base in VALUES and is_python:
            return base, VALUES[base]
        is_python = is_python and bool(base.__flags__ & _HEAP_TYPE)
    return object, _other


def _name(kind: type) -> bytes:
    """The name of a value's class, without its module: the value stays when its class is moved."""
    return node(b"name", kind.__qualname__.encode())


def module_name(name: str) -> str:
    """Return a module's name; a script has the same name when it is run and when it is loaded.

    Prefect loads the file of an entrypoint under its stem, or under a name made of its path.
    """
    module = sys.modules.get(name)
    if name == "__main__" and (spec := getattr(module, "__spec__", None)):
        return str(spec.name)
    if name in ("__main__", "__mp_main__") or name.startswith("__prefect_loader_"):
        file = getattr(module, "__file__", None)
        return pathlib.Path(file).stem if file else name
    return name


def _added(value: Any, base: type) -> dict[str, Any]:
    """The attributes of an instance that `base` does not have."""
    state = object.__getstate__(value)
    return {
        name: attribute
        for part in (state if isinstance(state, tuple) else (state,))
        for name, attribute in (part or {}).items()
        if not hasattr(base, name)
        and not isinstance(getattr_static(type(value), name, None), cached_property)
    }


def _enum(value: Enum, writer: Canonicalizer) -> bytes:
    member = value._value_ if isinstance(value, Flag) else value._name_
    return node(b"enum", _name(type(value)), writer.part("", member))


def _zone(value: tzinfo, writer: Canonicalizer) -> bytes:
    known = value.key if isinstance(value, ZoneInfo) else value.utcoffset(None)
    if known is None:
        writer.refuse(value)
    return node(b"zone", writer.part("", known))


def _secret(value: Any, writer: Canonicalizer) -> bytes:
    data = writer.part("", value.get_secret_value())
    return node(b"secret", _name(type(value)), hashlib.sha256(data).digest())


def _shown(value: Any, _: Canonicalizer) -> bytes:
    return node(b"shown", _name(type(value)), string(str(value)))


def _held(value: Any, writer: Canonicalizer) -> bytes:
    return node(b"object", _name(type(value)), fields_of(writer, _added(value, object)))


def _model(value: pydantic.BaseModel, writer: Canonicalizer) -> bytes:
    held = vars(value)  # getattr would warn of a deprecated field
    fields = {name: held[name] for name in type(value).model_fields if name in held}
    extra = dict(value.__pydantic_extra__ or {})
    if isinstance(value, Block):
        extra.pop("block_type_slug", None)  # only there after the block was JSON
    name = _name(type(value))
    generic = type(value).__pydantic_generic_metadata__
    if generic["origin"]:  # the module that wrote `Box[int]` does not matter
        name = _alias(generic["origin"], generic["args"], writer)
    return node(b"object", name, fields_of(writer, fields), fields_of(writer, extra))


@lru_cache(maxsize=1024)
def _shape_of(kind: type) -> Shape | None:
    """What the instances of a model have in common; None for other classes."""
    is_block = issubclass(kind, Block)
    if form_of(kind)[1] is not _model or is_block or kind.__pydantic_generic_metadata__["origin"]:  # type: ignore[attr-defined]
        return None
    return Shape(_name(kind), sorted(kind.model_fields))  # type: ignore[attr-defined]


def _exception(value: BaseException, writer: Canonicalizer) -> bytes:
    reduced = value.__reduce__()  # some have more than their args
    if not isinstance(reduced, tuple):
        writer.refuse(value)
    _, args, *state = reduced
    parts = [writer.part(".args", args), writer.part("", [kept for kept in state if kept])]
    return node(b"exception", _name(type(value)), *parts)


def _found(value: Any) -> bytes | None:
    """The name under which `value` says it can be found, or None when it is not there."""
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str):
        return None
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, _NOTHING)
    is_found = found is value or (isinstance(found, Flow | Task) and found.fn is value)
    # Types such as those of functions and of None are not in builtins, but say so.
    if is_found or (isinstance(value, type) and module == "builtins"):
        return node(b"name", f"{module_name(module)}:{path}".encode())
    return None


def _named(value: Any, writer: Canonicalizer) -> bytes:
    generic = getattr(value, "__pydantic_generic_metadata__", None) or {}
    if generic.get("origin"):
        return _alias(generic["origin"], generic["args"], writer)
    if (name := _found(value)) is None:
        kind = "class" if isinstance(value, type) else "function"
        writer.refuse(value, f"a {kind} that can't be found by its name in its module")
    return name


def _method(value: Any, writer: Canonicalizer) -> bytes:
    owner = value.__self__
    if owner is None or isinstance(owner, ModuleType):
        return _named(value, writer)
    return node(b"method", writer.part(".__self__", owner), string(value.__name__))


def _alias(origin: Any, args: tuple[Any, ...], writer: Canonicalizer) -> bytes:
    is_union = origin in (typing.Union, types.UnionType)
    name = string("|") if is_union else writer.part("", origin)
    return node(b"generic", name, writer.part(".__args__", args))


def _annotation(value: BaseAnnotation, writer: Canonicalizer) -> bytes:
    return writer.part("", value.unwrap())


def _state(value: State[Any], writer: Canonicalizer) -> bytes:
    try:
        result = run_coro_as_sync(value.aresult(raise_on_failure=False))
    except PrefectException:  # the run has not ended, or its result was not kept
        writer.refuse(value, "a state without a result")
    return writer.part("", result)


def _future(value: PrefectFuture[Any], writer: Canonicalizer) -> bytes:
    if writer.future is None:
        writer.refuse(value)
    return writer.part("", writer.future(value))


def _other(value: Any, writer: Canonicalizer) -> bytes:
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    elif (origin := get_origin(value)) is not None:
        return _alias(origin, get_args(value), writer)
    elif (name := _found(value)) is not None:
        return name
    else:
        writer.refuse(value)
    fields = {name: getattr(value, name, _NOTHING) for name in names}
    fields = {name: field for name, field in fields.items() if field is not _NOTHING}
    return node(b"object", _name(kind), fields_of(writer, fields))


OBJECTS: dict[type, _Form] = {
    Enum: _enum,
    tzinfo: _zone,
    BaseException: _exception,
    type: _named,
    FunctionType: _named,
    types.BuiltinFunctionType: _method,
    types.MethodType: _method,
    partial: attributes("partial", "func", "args", "keywords"),
    types.SimpleNamespace: _held,
    collections.ChainMap: _held,
    **dict.fromkeys((collections.UserDict, collections.UserList, collections.UserString), _held),
    pydantic.BaseModel: _model,
    **dict.fromkeys((pydantic.Secret, pydantic.SecretStr, pydantic.SecretBytes), _secret),
    **dict.fromkeys((pydantic_core.Url, pydantic_core.MultiHostUrl, pydantic.AnyUrl), _shown),
    **dict.fromkeys((pydantic.PostgresDsn, pydantic.MongoDsn, pydantic.NatsDsn), _shown),
    pydantic.NameEmail: _shown,
    Flow: attributes("flow", "fn"),
    Task: attributes("task", "fn"),
    BaseAnnotation: _annotation,
    State: _state,
    PrefectFuture: _future,
    Identified: attributes("identified", "key"),
}

REFUSED: dict[str, tuple[type, ...]] = {
    "an open file": (io.IOBase,),
    "a socket": (socket.socket,),
    "a thread": (threading.Thread,),
    "a lock": (
        *(type(threading.Lock()), type(threading.RLock()), threading.Condition),
        *(threading.Event, threading.Semaphore),
    ),
    "an iterator, which can be read only once": (Iterator, AsyncIterator),
    "an awaitable, which can be awaited only once": (Awaitable,),
    "a module": (ModuleType,),
    "a part of a running program": (types.CodeType, types.FrameType, types.TracebackType),
    "a view of other memory": (memoryview,),
}
