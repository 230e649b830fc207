"""The keys of steps: templates into which the inputs of a call are filled."""

import re
from inspect import signature
from string import Formatter
from typing import Any

from prefect.futures import PrefectFuture
from prefect.states import State
from prefect.utilities.annotations import BaseAnnotation
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions.errors import InputError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")  # in the default repr of an object


def require_fitting(name: str, key: str, fn: Any) -> None:
    """Check that a key uses only inputs of the function.

    Raises:
        ValueError: The key uses a name that is no parameter of the function.
    """
    try:
        key.format(**dict.fromkeys(signature(fn).parameters, ""))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"the key {key!r} of step {name!r} uses a name that is no parameter of it: {error}"
        ) from error
    except (AttributeError, TypeError):  # the key uses a part of an input, which only a call has
        pass


def filled(step: str, key: str, parameters: dict[str, Any]) -> str:
    """Return a key with the inputs of a call filled in, as the step will get them.

    Args:
        step: The step's name, for errors.
        key: The template.
        parameters: The inputs. Futures among them are waited for.

    Raises:
        InputError: The text of an input differs from process to process.
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
