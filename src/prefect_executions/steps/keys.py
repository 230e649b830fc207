"""The keys of steps: templates that are filled with a call's inputs."""

import re
from inspect import signature
from string import Formatter
from typing import Any

from prefect.futures import PrefectFuture
from prefect.states import State
from prefect.utilities.annotations import BaseAnnotation
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions.errors import InputError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")  # in what Python shows of an object by default


def require_fitting(name: str, key: str, fn: Any) -> None:
    """Check that a key names inputs of the function.

    Raises:
        ValueError: it does not.
    """
    try:
        key.format(**dict.fromkeys(signature(fn).parameters, ""))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"the key {key!r} of step {name!r} names what is no parameter of it: {error}"
        ) from error
    except (AttributeError, TypeError):  # a part of an input, which only a call shows
        pass


def filled(step: str, key: str, parameters: dict[str, Any]) -> str:
    """A key with the inputs of a call in it, as the step will get them.

    Args:
        step: The step's name, for errors.
        key: The template.
        parameters: The inputs; futures are waited for.

    Raises:
        InputError: one of them shows as something else in every process.
    """
    return _Template(step).vformat(key, (), parameters)


class _Template(Formatter):
    def __init__(self, step: str) -> None:
        self._step = step

    def get_value(self, key: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_value(key, args, kwargs)
        if isinstance(value, BaseAnnotation):
            value = value.unwrap()
        if isinstance(value, PrefectFuture):
            value.wait()
            value = value.state
        if isinstance(value, State):
            value = run_coro_as_sync(value.aresult(raise_on_failure=False))
        return value

    def format_field(self, value: Any, format_spec: str) -> Any:
        text = super().format_field(value, format_spec)
        if _ADDRESS.search(text):
            raise InputError(
                f"{self._step}(key)",
                f"a value of type {type(value).__qualname__} shows where it is in memory, which no "
                "later attempt could recognise; name a part of it that stays the same.",
            )
        return text
