"""The steps that can be undone, under names that are the same in every process.

A record names the step's function and what undoes it: `module:qualname` of both. A process that
undoes the call finds these, and nothing in their place.
"""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType
from typing import Any

from prefect import Task

from prefect_executions.errors import ReplayMismatch
from prefect_executions.log.journal import Record
from prefect_executions.steps.identity import module_name

_DEPTH = 20  # of functions in the closures of functions that are compared

# Equal ones are the same; a method is equal to another only if both are of one object.
_COMPARED = (str, bytes, int, float, type(None), CodeType, MethodType, BuiltinMethodType)

# By the steps' names. A copy that only has other options takes the place of the one before.
_undoable: dict[str, list[Any]] = {}


def require_undo(step: str, undo: Any) -> None:
    """Check that something can be called with a result.

    Raises:
        TypeError: It can't.
    """
    if not callable(undo):
        raise TypeError(f"undo: {step!r} is undone by a function, not by {undo!r}")
    try:
        takes = inspect.signature(undo.fn if isinstance(undo, Task) else undo)
    except ValueError:  # some builtin functions have none
        return
    try:
        takes.bind(None)
    except TypeError as error:
        raise TypeError(
            f"undo: {describe(undo)} is called with the result of {step!r} alone: {error}"
        ) from error


def register(step: Any) -> None:
    """Let a step undo the calls that its function and its `undo` are recorded with."""
    known = _undoable.setdefault(step.name, [])
    same_names = [other for other in known if _names(other) == _names(step)]
    for other in same_names:
        if _is_same(step.undo, other.undo):
            known[known.index(other)] = step
            return
    if len(same_names) > 1 and not _is_found(step.undo):
        return  # it can't be told from these two, which is all that is to be said
    known.append(step)


def find_undoable(record: Record) -> Any:
    """The step that undoes a recorded call.

    Raises:
        ReplayMismatch: This code does not have it, or several that can't be told apart.
    """
    known = _undoable.get(record.step, [])
    recorded = (record.function or "", record.undo_by or "")
    fitting = [step for step in known if _names(step) == recorded] or [
        step for step in known if all(map(_fits, recorded, _names(step)))
    ]
    # A function that was defined again, in a notebook, is not found under its name any more.
    found = [step for step in fitting if _is_found(step.undo)] or fitting
    if len(found) == 1:
        return found[0]
    was = f"a roll-back has left a call of {recorded[0]} to be undone by {recorded[1]}, and"
    if fitting:
        raise ReplayMismatch(
            record.step,
            f"{was} this code has several of these names: {_listed(fitting)}. Leave one of them "
            "until it is undone; then give each a function of its own name.",
        )
    raise ReplayMismatch(
        record.step,
        f"{was} this code has {_listed(known) or 'no step of this name with `undo`'}. Bring it "
        "back at the top level of its module, under these names; a copy that nobody calls, by "
        "`with_options(undo=…)`, is enough.",
    )


def name_of(call: Any) -> str:
    """`module:qualname` of what can be called; of an object, of its class."""
    if isinstance(call, Task):
        return name_of(call.fn)
    path = getattr(call, "__qualname__", None)
    if path is None and isinstance(call, partial):
        module, path = name_of(call.func).split(":", 1)
        return f"{module}:partial({path})"
    if path is None:
        return name_of(type(call))
    module = getattr(call, "__module__", None) or type(getattr(call, "__self__", call)).__module__
    return f"{module_name(module)}:{path}"


def describe(call: Any) -> str:
    """The name of what can be called, and where it is written, if that is known."""
    inner: Any = call.fn if isinstance(call, Task) else call
    code = getattr(inspect.unwrap(inner), "__code__", None)
    where = f" (line {code.co_firstlineno} of {code.co_filename})" if code else ""
    return f"{name_of(call)}{where}"


def _names(step: Any) -> tuple[str, str]:
    return step.function, step.undo_by


def _listed(steps: list[Any]) -> str:
    return "; ".join(f"{step.function}, undone by {describe(step.undo)}" for step in steps)


def _fits(one: str, other: str) -> bool:
    """Whether two names can be of one function.

    A module that was loaded from its file has a name without its packages.
    """
    (of_one, path), (of_other, other_path) = one.rsplit(":", 1), other.rsplit(":", 1)
    short, long = sorted((of_one, of_other), key=len)
    return path == other_path and f".{long}".endswith(f".{short}")


def _is_found(call: Any) -> bool:
    """Whether a function is what its module has under its name."""
    function = call.fn if isinstance(call, Task) else call
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is not None and function is (found.fn if isinstance(found, Task) else found)


def _is_same(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two functions do the same: a module may have been loaded twice."""
    if one is other:
        return True
    if name_of(type(one)) != name_of(type(other)) or depth > _DEPTH:
        return False
    if isinstance(one, _COMPARED):
        return bool(one == other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _is_same(one[name], other[name], depth + 1) for name in one
        )
    if isinstance(one, tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_is_same(*pair, depth + 1) for pair in pairs)
    parts = _parts_of(one)
    return parts is not None and _is_same(parts(one), parts(other), depth + 1)


def _parts_of(call: Any) -> Callable[[Any], tuple[Any, ...]] | None:
    if isinstance(call, Task):
        return lambda task: (task.fn,)
    if isinstance(call, partial):
        return lambda part: (part.func, part.args, part.keywords)
    if isinstance(call, CellType):
        return lambda cell: () if cell == CellType() else (cell.cell_contents,)
    if isinstance(call, FunctionType):
        return lambda function: (
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            function.__closure__,
        )
    if isinstance(vars(type(call)).get("__call__"), FunctionType):  # else it may hide its state
        return lambda made: (type(made).__call__, object.__getstate__(made))
    return None
