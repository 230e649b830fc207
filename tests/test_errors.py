"""The tree of errors: complete, picklable, saying what to do."""

import inspect
import pickle
from dataclasses import fields, is_dataclass

import pytest

from prefect_executions import errors

PUBLIC = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if error.__module__ == errors.__name__
]


def _example(kind: type[errors.ExecutionError]) -> errors.ExecutionError:
    if not is_dataclass(kind):
        return kind("what happened")
    names = [field.name for field in fields(kind)]
    numbers = {"attempt", "max_duration_seconds"}
    return kind(*(7 if name in numbers else f"some {name}" for name in names))


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_error_is_an_execution_error_and_drawn(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.ExecutionError)
    assert errors.__doc__ is not None
    assert f" {kind.__name__}" in errors.__doc__


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_error_survives_pickling(kind: type[errors.ExecutionError]) -> None:
    error = _example(kind)

    again = pickle.loads(pickle.dumps(error))

    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_error_tells_its_facts(kind: type[errors.ExecutionError]) -> None:
    error = _example(kind)

    assert all(str(fact) in str(error) for fact in vars(error).values())
