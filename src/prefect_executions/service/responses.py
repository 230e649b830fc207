"""The answers of the routes for the OpenAPI document: every error, by its code."""

from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, Field

CODES: dict[str, tuple[HTTPStatus, str]] = {
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "no key, or none that is known"),
    "forbidden": (HTTPStatus.FORBIDDEN, "the key has not this permission, or not for this agent"),
    "deployment_forbidden": (
        HTTPStatus.FORBIDDEN,
        "the key may not start this deployment, or nobody may here",
    ),
    "execution_not_found": (
        HTTPStatus.NOT_FOUND,
        "unknown, deleted, a flow run that is no execution, or one that the key may not see",
    ),
    "checkpoint_not_found": (HTTPStatus.NOT_FOUND, "the execution has no such checkpoint"),
    "question_not_found": (HTTPStatus.NOT_FOUND, "the execution asks nothing now"),
    "not_found": (HTTPStatus.NOT_FOUND, "no such route"),
    "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "the route has not this method"),
    "status_conflict": (
        HTTPStatus.CONFLICT,
        "not possible in the execution's status, which is `execution_status`",
    ),
    "superseded": (HTTPStatus.CONFLICT, "another attempt has begun, or is to begin: stop"),
    "idempotency_conflict": (HTTPStatus.CONFLICT, "the key was used with another request"),
    "body_too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is over the limit"),
    "request_invalid": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "not JSON, an unknown field, a wrong type, a limit",
    ),
    "state_invalid": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "NaN, an integer beyond 64 bits, a lone surrogate, too deep, …: with its path",
    ),
    "input_invalid": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "the answer does not fit what is asked, is missing, or nothing is asked",
    ),
    "deployment_not_found": (HTTPStatus.UNPROCESSABLE_ENTITY, "there is no such deployment"),
    "deployment_unsuitable": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "its flow is not known as an execution",
    ),
    "parameters_invalid": (HTTPStatus.UNPROCESSABLE_ENTITY, "the flow does not take them"),
    "diff_too_large": (HTTPStatus.UNPROCESSABLE_ENTITY, "the states have over 4 MiB together"),
    "cursor_invalid": (HTTPStatus.UNPROCESSABLE_ENTITY, "the cursor is not of this list"),
    "rate_limited": (HTTPStatus.TOO_MANY_REQUESTS, "too many requests: see `Retry-After`"),
    "log_corrupt": (HTTPStatus.INTERNAL_SERVER_ERROR, "an entry in the store is damaged"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "ours; the log of the service says why"),
    "store_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "the store does not answer: try again"),
    "prefect_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "Prefect does not answer: try again"),
}
EVERYWHERE = (
    "unauthorized",
    "forbidden",
    "request_invalid",
    "rate_limited",
    "log_corrupt",
    "internal",
    "store_unavailable",
    "prefect_unavailable",
)
CREATION = (
    "state_invalid",
    "deployment_forbidden",
    "deployment_not_found",
    "deployment_unsuitable",
    "parameters_invalid",
    "idempotency_conflict",
)
_ONE = ("execution_not_found",)
_CHANGES = ("body_too_large",)


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok"] = "ok"
    away: list[Literal["store", "prefect"]] = Field(
        description="What has not answered last; calls that need it are answered 503 at once."
    )


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="The field, with its path.")
    problem: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="`about:blank`.")
    title: str = Field(description="The phrase of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="What clients decide by; it never changes.", examples=[*CODES])
    detail: str = Field(description="What people read; it may change.")
    errors: list[FieldProblem] | None = Field(
        None, description="The fields that are wrong; absent where it is none."
    )
    execution_status: str | None = Field(
        None, description="With `status_conflict`: the status of the execution."
    )


def responses(*codes: str, one: bool = True, body: bool = False, **others: str) -> dict[Any, Any]:
    """The answers of a route besides its success, for FastAPI's argument `responses`.

    Args:
        codes: The errors of this route.
        one: Whether it is about one execution.
        body: Whether it has a body.
        others: Other successes by name (`ok`, `accepted`, `not_modified`), and what they mean.
    """
    every = [*EVERYWHERE, *(_ONE if one else ()), *(_CHANGES if body else ()), *codes]
    by_status: dict[int, list[str]] = {}
    for code in CODES:
        if code in every:
            by_status.setdefault(CODES[code][0].value, []).append(code)
    documented: dict[Any, Any] = {
        status: {
            "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in known),
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status, known in by_status.items()
    }
    for name, meaning in others.items():
        documented[HTTPStatus[name.upper()].value] = {"description": meaning}
    return documented
