"""What a flow returns, as the result of its execution: JSON that stays with the log."""

from collections.abc import Iterator
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import resolve_futures_to_results
from pydantic_core import PydanticSerializationError, to_jsonable_python

from prefect_executions.errors import StateError
from prefect_executions.log.results import require_result


def json_of(returned: Any) -> Any:
    """The JSON value of what a flow has returned, once it has completed.

    Of futures and states it is what they have come to; of models, dataclasses, dates and so on what
    pydantic makes of them. Nobody loads it as a value of their type, so it need not come back.

    Raises:
        StateError: It is no JSON, or too large.
    """
    value = resolve_futures_to_results(returned)
    if isinstance(value, State):
        value = value.result()
    if isinstance(value, Iterator):  # to read it would take it from the caller
        raise StateError("result", "is an iterator, which is no JSON. Return a list.")
    try:
        made = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise StateError("result", f"is no JSON: {error}") from error
    require_result(made)
    return made
