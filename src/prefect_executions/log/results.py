"""The result of an execution, which is read with the head of its log, and so is small."""

from typing import Any

from prefect_executions import serialization
from prefect_executions.errors import StateError

RESULT_BYTES = 256 << 10  # as JSON


def require_result(result: Any) -> None:
    """Check that a value can be the result of an execution.

    Raises:
        StateError: It is no JSON value, or too large.
    """
    if (size := len(serialization.dump(result, at="result"))) > RESULT_BYTES:
        problem = f"has {size} bytes; at most {RESULT_BYTES}. Keep more in the state."
        raise StateError("result", problem)
