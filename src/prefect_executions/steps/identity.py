"""What the inputs of a step's call are, as bytes that are the same in every process.

A part of the inputs has a canonical form by its class, which is looked for in this order:

* An enum's member, by the class and its name; a flag by its number.
* `VALUES`: what is all that its data is. Equal data of different types are different (`1`, `True`
  and `1.0`; a list and a tuple). The order of a dict or a set does not matter, that of an
  `OrderedDict` does. Aware datetimes of one instant are the same, whatever their zone; a NaN is
  like any other. A member of a subclass is its class, its data, and what attributes it has beside.
* `OBJECTS`: what is known by something else, such as a model by its class and its fields without
  the private ones, a class or a function by the name that it can be found under, and a `State` or
  an annotation of Prefect by what Prefect passes on in its place.
* An instance of a dataclass or of an attrs class, by its class and its fields; a type such as
  `list[int]`; and whatever else can be found under its own `__module__` and `__qualname__`.
* Anything else is refused, with a reason where `REFUSED` has one.

Recorded runs rest on these forms: one that changes makes their steps run again.
"""

import collections
import dataclasses
import hashlib
import io
import ipaddress
import json
import pathlib
import re
import socket
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from functools import cached_property, lru_cache, partial
from inspect import getattr_static
from operator import attrgetter
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

MAX_DEPTH = 100
_LARGE = 1 << 20  # bytes; of a larger part the canonical form holds the SHA-256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAP_TYPE = 1 << 9  # the flag of a class that is not written in C
_NOTHING = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Identified:
    """Stands for a value that is known by a key, such as what a call will return."""

    key: str


def canonical(
    parameters: dict[str, Any], *, at: str, future: Callable[[Any], Any] | None = None
) -> bytes:
    """The inputs of a call as bytes: the same for the same inputs, others for others.

    They are meant for `digest`, not for keeping: whoever reads them reads the inputs.

    Args:
        parameters: Names and values, with the defaults applied. Their order does not matter.
        at: The name of the step, for errors.
        future: What a `PrefectFuture` stands for: an `Identified`, or a value in its place. Without
            it futures are refused.

    Raises:
        InputError: with the path of the first part that has no canonical form, such as
            `fetch(session.pool[0])`. It shows keys and types, but no values.
    """
    # A key is made of what reads well in it.
    names = [name for name, value in parameters.items() if type(value) in (str, int, UUID)]
    example = f"{at}-{{{names[0]}}}" if names else f"{at}-…"
    writer = Canonicalizer(at, example, future)
    return _fields(writer, parameters, label="")


def _node(tag: bytes, *parts: bytes | memoryview) -> bytes:
    """What a part says, marked by what it is and how long, so that no other reads the same."""
    size = sum(map(len, parts))
    if size <= _LARGE:
        return b"%s:%d:%s" % (tag, size, b"".join(parts))
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return b"%s#%d:%s" % (tag, size, state.digest())


class Canonicalizer:
    """Writes the parts of one call's inputs, and knows the path of the one it is at.

    Args:
        at: The name of the step.
        example: A key that the step could be given.
        future: What a future stands for.
    """

    def __init__(self, at: str, example: str, future: Callable[[Any], Any] | None) -> None:
        self.future = future
        self._at = at
        self._example = example
        self._path: list[str] = []

    def part(self, label: str, value: Any) -> bytes:
        """The canonical form of what stands at `label` of the present part."""
        self._path.append(label)
        if len(self._path) > MAX_DEPTH:
            self._raise(f"is nested deeper than {MAX_DEPTH} levels, or contains itself")
        kind: Any = type(value)
        base, form = _form(kind)
        data = form(value, self)
        if base is not kind and base in VALUES:
            data = _node(b"subclass", _name(kind), data, _fields(self, _added(value, base)))
        self._path.pop()
        return data

    def refuse(self, value: Any, why: str | None = None) -> NoReturn:
        """Say that `value` has no canonical form, and what to do instead."""
        kind = type(value)
        why = why or next((why for why, kinds in REFUSED.items() if issubclass(kind, kinds)), None)
        what = f"{why}, of type" if why else "a value of type"
        end = "," if why else ""
        self._raise(f"{what} {kind.__qualname__}{end} has no stable identity")

    def _raise(self, problem: str) -> NoReturn:
        path = "".join(self._path)
        path = path if len(path) <= 200 else f"{path[:200]}…"
        hint = f'pass plain data, or give the step a key: @step(key="{self._example}")'
        raise InputError(f"{self._at}({path})", f"{problem}; {hint}")


_Form = Callable[[Any, Canonicalizer], bytes]


@lru_cache(maxsize=1024)
def _form(kind: type) -> tuple[type, _Form]:
    """The class whose form the instances of `kind` have, and the form."""
    if issubclass(kind, Enum):  # before the data that it is mixed with
        return Enum, OBJECTS[Enum]
    is_python = True
    for base in kind.__mro__:
        if base in OBJECTS:
            return base, OBJECTS[base]
        # A subclass written in C may hold more than can be seen, as pandas' Timestamp does.
        if base in VALUES and is_python:
            return base, VALUES[base]
        is_python = is_python and bool(base.__flags__ & _HEAP_TYPE)
    return object, _other


def _name(kind: type) -> bytes:
    return _node(b"name", f"{_module(kind.__module__)}:{kind.__qualname__}".encode())


def _module(name: str) -> str:
    """A module's name, which for a script does not depend on whether it is run or loaded.

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
    """The attributes that an instance has beside those of `base`."""
    state = object.__getstate__(value)
    return {
        name: attribute
        for part in (state if isinstance(state, tuple) else (state,))
        for name, attribute in (part or {}).items()
        if not hasattr(base, name)
        and not isinstance(getattr_static(type(value), name, None), cached_property)
    }


def _str(text: str) -> bytes:
    return _node(b"str", str.encode(text, "utf-8", "surrogatepass"))


def _fields(writer: Canonicalizer, fields: Mapping[str, Any], label: str = ".") -> bytes:
    names = sorted(fields)
    return _node(
        b"fields", *[_str(name) + writer.part(label + name, fields[name]) for name in names]
    )


def _data(tag: str, encode: Callable[[Any], Any]) -> _Form:
    """The form of what bytes, or a text, say all about."""

    def form(value: Any, _: Canonicalizer) -> bytes:
        data = encode(value)
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        return _node(tag.encode(), data)

    return form


def _text(kind: Any) -> _Form:
    return _data(kind.__name__, kind.__str__)


def _made(tag: str, **made: Callable[[Any], Any]) -> _Form:
    """The form of what the values that are `made` of it say all about."""

    def form(value: Any, writer: Canonicalizer) -> bytes:
        parts = [writer.part(f".{name}", make(value)) for name, make in made.items()]
        return _node(tag.encode(), *parts)

    return form


def _attributes(tag: str, *names: str) -> _Form:
    return _made(tag, **{name: attrgetter(name) for name in names})


def _items(kind: Any, *, is_ordered: bool = True) -> _Form:
    tag = kind.__name__.encode()

    def form(value: Any, writer: Canonicalizer) -> bytes:
        items = enumerate(kind.__iter__(value))
        if is_ordered:
            return _node(tag, *[writer.part(f"[{index}]", item) for index, item in items])
        return _node(tag, *sorted(writer.part("{…}", item) for _, item in items))

    return form


def _pairs(value: Any, writer: Canonicalizer) -> list[bytes]:
    pairs = []
    for key, item in dict.items(value):
        label = f"[{json.dumps(key[:40], ensure_ascii=False)}]" if type(key) is str else "[…]"
        pairs.append(writer.part(f"{label} (the key)", key) + writer.part(label, item))
    return pairs


def _dict(value: Any, writer: Canonicalizer) -> bytes:
    return _node(b"dict", *sorted(_pairs(value, writer)))


def _ordered_dict(value: Any, writer: Canonicalizer) -> bytes:
    return _node(b"OrderedDict", *_pairs(value, writer))


def _default_dict(value: Any, writer: Canonicalizer) -> bytes:
    default = writer.part(".default_factory", value.default_factory)
    return _node(b"defaultdict", default, _dict(value, writer))


def _datetime(value: datetime) -> str:
    if value.utcoffset() is None:
        return datetime.isoformat(value.replace(tzinfo=None))
    return f"{(value - _EPOCH) // timedelta(microseconds=1)} after 1970 UTC"


def _enum(value: Enum, writer: Canonicalizer) -> bytes:
    member = value._value_ if isinstance(value, Flag) else value._name_
    return _node(b"enum", _name(type(value)), writer.part("", member))


def _zone(value: tzinfo, writer: Canonicalizer) -> bytes:
    known = value.key if isinstance(value, ZoneInfo) else value.utcoffset(None)
    if known is None:
        writer.refuse(value)
    return _node(b"zone", writer.part("", known))


def _secret(value: Any, writer: Canonicalizer) -> bytes:
    data = writer.part("", value.get_secret_value())
    return _node(b"secret", _name(type(value)), hashlib.sha256(data).digest())


def _shown(value: Any, _: Canonicalizer) -> bytes:
    return _node(b"shown", _name(type(value)), _str(str(value)))


def _held(value: Any, writer: Canonicalizer) -> bytes:
    return _node(b"object", _name(type(value)), _fields(writer, _added(value, object)))


def _model(value: pydantic.BaseModel, writer: Canonicalizer) -> bytes:
    held = vars(value)  # getattr would warn of a deprecated field
    fields = {name: held[name] for name in type(value).model_fields if name in held}
    extra = dict(value.__pydantic_extra__ or {})
    if isinstance(value, Block):
        extra.pop("block_type_slug", None)  # is there after a way through JSON
    name = _name(type(value))
    generic = type(value).__pydantic_generic_metadata__
    if generic["origin"]:  # where `Box[int]` was written is no part of what it is
        name = _alias(generic["origin"], generic["args"], writer)
    return _node(b"object", name, _fields(writer, fields), _fields(writer, extra))


def _exception(value: BaseException, writer: Canonicalizer) -> bytes:
    reduced = value.__reduce__()  # some keep more than their args
    if not isinstance(reduced, tuple):
        writer.refuse(value)
    _, args, *state = reduced
    parts = [writer.part(".args", args), writer.part("", [kept for kept in state if kept])]
    return _node(b"exception", _name(type(value)), *parts)


def _found(value: Any) -> bytes | None:
    """The name that `value` says it has, if that is where it is."""
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str):
        return None
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, _NOTHING)
    is_found = found is value or (isinstance(found, Flow | Task) and found.fn is value)
    # The types of functions, of None and the like say that they are in builtins, but are not.
    if is_found or (isinstance(value, type) and module == "builtins"):
        return _node(b"name", f"{_module(module)}:{path}".encode())
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
    return _node(b"method", writer.part(".__self__", owner), _str(value.__name__))


def _alias(origin: Any, args: tuple[Any, ...], writer: Canonicalizer) -> bytes:
    is_union = origin in (typing.Union, types.UnionType)
    name = _str("|") if is_union else writer.part("", origin)
    return _node(b"generic", name, writer.part(".__args__", args))


def _annotation(value: BaseAnnotation, writer: Canonicalizer) -> bytes:
    return writer.part("", value.unwrap())


def _state(value: State[Any], writer: Canonicalizer) -> bytes:
    try:
        result = run_coro_as_sync(value.aresult(raise_on_failure=False))
    except PrefectException:  # it has not ended, or its result was not kept
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
    return _node(b"object", _name(kind), _fields(writer, fields))


def _each(form: Callable[[type], _Form], *kinds: type) -> dict[type, _Form]:
    return {kind: form(kind) for kind in kinds}


VALUES: dict[type, _Form] = {
    type(None): _data("None", lambda _: ""),
    type(...): _data("Ellipsis", lambda _: ""),
    type(NotImplemented): _data("NotImplemented", lambda _: ""),
    bool: _data("bool", str),
    int: _data("int", lambda value: int.__format__(value, "x")),  # decimal stops at 4300 digits
    float: _data("float", float.hex),
    complex: _attributes("complex", "real", "imag"),
    # Whether it is 1E+3 or 1e+3 depends on the thread's context.
    Decimal: _data("Decimal", lambda value: Decimal.__str__(value).upper()),
    Fraction: _attributes("Fraction", "numerator", "denominator"),
    str: lambda value, _: _str(value),
    bytes: _data("bytes", memoryview),
    bytearray: _data("bytearray", memoryview),
    **_each(_items, list, tuple, collections.deque),
    **_each(partial(_items, is_ordered=False), set, frozenset),
    dict: _dict,
    collections.OrderedDict: _ordered_dict,
    collections.defaultdict: _default_dict,
    types.MappingProxyType: _made("mappingproxy", copy=dict),
    range: _attributes("range", "start", "stop", "step"),
    slice: _attributes("slice", "start", "stop", "step"),
    datetime: _data("datetime", _datetime),
    date: _data("date", date.isoformat),
    time: _made(
        "time", clock=lambda it: it.replace(tzinfo=None).isoformat(), tzinfo=attrgetter("tzinfo")
    ),
    timedelta: _attributes("timedelta", "days", "seconds", "microseconds"),
    UUID: _data("UUID", str),
    re.Pattern: _attributes("Pattern", "pattern", "flags"),
    **_each(_text, pathlib.PurePosixPath, pathlib.PosixPath),
    **_each(_text, pathlib.PureWindowsPath, pathlib.WindowsPath),
    **_each(_text, ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
    **_each(_text, ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
}

OBJECTS: dict[type, _Form] = {
    Enum: _enum,
    tzinfo: _zone,
    BaseException: _exception,
    type: _named,
    FunctionType: _named,
    types.BuiltinFunctionType: _method,
    types.MethodType: _method,
    partial: _attributes("partial", "func", "args", "keywords"),
    types.SimpleNamespace: _held,
    collections.ChainMap: _held,
    **dict.fromkeys((collections.UserDict, collections.UserList, collections.UserString), _held),
    pydantic.BaseModel: _model,
    **dict.fromkeys((pydantic.Secret, pydantic.SecretStr, pydantic.SecretBytes), _secret),
    **dict.fromkeys((pydantic_core.Url, pydantic_core.MultiHostUrl, pydantic.AnyUrl), _shown),
    **dict.fromkeys((pydantic.PostgresDsn, pydantic.MongoDsn, pydantic.NatsDsn), _shown),
    pydantic.NameEmail: _shown,
    Flow: _attributes("flow", "fn"),
    Task: _attributes("task", "fn"),
    BaseAnnotation: _annotation,
    State: _state,
    PrefectFuture: _future,
    Identified: _attributes("identified", "key"),
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
