"""The exceptions of the client: what the service refuses, its errors, and those of the network.

ServiceError
├── Unauthorized         no key, or one that the service does not know
├── Forbidden            the key lacks the permission, or has it for other agents only
├── NotFound             no such execution or checkpoint, or the key may not see it
├── Conflict             not possible in the execution's status; or a used Idempotency-Key
│   └── AttemptSuperseded  another attempt has begun, or is about to: stop
├── Invalid              the request is wrong: `errors` names the fields
├── RateLimited          too many requests, for longer than the client would wait
└── Unavailable          no answer, 502, 503 or 504, for longer than the client would wait
"""

from typing import Any, Self

import httpx

from prefect_executions.errors import ExecutionError

# Codes of problems.
NO_ANSWER = "no_answer"
UNAUTHORIZED = "unauthorized"


class ServiceError(ExecutionError):
    """The service refused a request, or failed.

    Args:
        status: The HTTP status, or 0 when there was no answer.
        code: The problem, for programs; see the HTTP API.
        detail: The problem, for people.
        errors: The fields that are wrong, each with `field` and `problem`.
        execution_status: The execution's status, after a conflict.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: tuple[dict[str, str], ...] = (),
        execution_status: str | None = None,
    ) -> None:
        super().__init__(status, code, detail, errors, execution_status)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.execution_status = execution_status

    def __str__(self) -> str:
        """Return `detail`."""
        return self.detail

    def with_detail(self, detail: str) -> Self:
        """The same error in other words."""
        return type(self)(self.status, self.code, detail, self.errors, self.execution_status)


class Unauthorized(ServiceError):
    """There was no key, or one that the service does not know."""


class Forbidden(ServiceError):
    """The key lacks the permission, or has it for other agents only."""


class NotFound(ServiceError):
    """There is no such execution or checkpoint, or the key may not see it."""


class Conflict(ServiceError):
    """Not possible in the execution's status, or the `Idempotency-Key` was used before."""


class AttemptSuperseded(Conflict):
    """Another attempt has begun, or is about to; nothing was changed."""


class Invalid(ServiceError):
    """The request is wrong; nothing was changed."""


class RateLimited(ServiceError):
    """There were too many requests, for longer than the client would wait."""


class Unavailable(ServiceError):
    """There was no answer, 502, 503 or 504, for longer than the client would wait.

    Whether a request that changes something was carried out is not known.
    """


_BY_STATUS: dict[int, type[ServiceError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(answer: httpx.Response) -> ServiceError:
    """The exception for an answer that is an error."""
    try:
        problem: Any = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:  # not from the service, but a proxy
        problem = {"code": "unknown", "detail": f"{answer.status_code}: {answer.text[:1000]}"}
    kind = _BY_STATUS.get(answer.status_code, ServiceError)
    if problem["code"] == "superseded":
        kind = AttemptSuperseded
    return kind(
        answer.status_code,
        problem["code"],
        problem.get("detail", ""),
        tuple(problem.get("errors", ())),
        problem.get("execution_status"),
    )


def not_understood(answer: httpx.Response) -> ServiceError:
    """The exception for a success that is not an answer of the service."""
    where = answer.request.url.copy_with(query=None, fragment=None)
    kind = answer.headers.get("content-type", "unknown")
    detail = f"{where} answers something else, of the type {kind}: is that the service?"
    return ServiceError(answer.status_code, "unknown", detail)


def no_answer(error: httpx.TransportError) -> Unavailable:
    """The exception for an answer that did not come."""
    where = error.request.url.copy_with(path="/", query=None, fragment=None)
    what = f"{type(error).__name__} {error}".strip()
    return Unavailable(0, NO_ANSWER, f"{where} does not answer: {what}")
