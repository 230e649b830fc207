"""What the service refuses, as errors of a tool that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server.mcpserver.exceptions import ToolError

from prefect_executions.client import ServiceError
from prefect_executions.errors import StateError

_AGAIN = "Try again in a moment."
_ASK = "Ask the person who runs this server."
HINTS = {
    "unauthorized": _ASK,
    "forbidden": "Ask the person who gave you the key for one that may do this.",
    "deployment_forbidden": "Ask the person who gave you the key which deployments it may start.",
    "execution_not_found": "list_executions shows those that this key may see.",
    "checkpoint_not_found": "list_checkpoints shows those that there are.",
    "question_not_found": "get_execution shows what it waits for.",
    "not_found": "The service is older than this server, or is something else. " + _ASK,
    "method_not_allowed": "The service is older than this server, or is something else. " + _ASK,
    "status_conflict": "get_execution shows its status.",
    "superseded": "Another attempt runs it now: get_execution shows its status.",
    "idempotency_conflict": "Give another idempotency_key.",
    "body_too_large": "Send less.",
    "request_invalid": "Mend the fields that are named, and call again.",
    "state_invalid": "Mend the state at the path that is named, and call again.",
    "input_invalid": "get_execution shows the question, with the JSON schema of its answer.",
    "deployment_not_found": "list_executions with prefect.deployment shows some that there are.",
    "deployment_unsuitable": "Name another deployment.",
    "parameters_invalid": "Mend the parameters that are named, and call again.",
    "diff_too_large": "Read the parts that matter of both checkpoints by get_state with a path.",
    "cursor_invalid": "Leave the cursor out to begin anew.",
    "rate_limited": "Wait, and call less often.",
    "log_corrupt": _ASK,
    "internal": _AGAIN,
    "store_unavailable": _AGAIN,
    "prefect_unavailable": _AGAIN,
    "no_answer": "Whether a change was made is not known: look before you repeat it. " + _ASK,
}


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what the service refuses as the error of a tool.

    Raises:
        ToolError: What was refused, and what to do.
    """
    try:
        yield
    except ServiceError as error:
        raise ToolError(reason_of(error)) from error
    except StateError as error:
        raise ToolError(f"{error}") from error


def reason_of(error: ServiceError) -> str:
    """What was refused, and what to do, in a few sentences."""
    return " ".join(filter(None, (error.detail, HINTS.get(error.code, _ASK))))
