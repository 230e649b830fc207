"""What the service refuses, as exceptions; the rest of its errors, and those of the way to it.

ServiceError
├── Unauthorized         no key, or none that the service knows
├── Forbidden            the key has not this permission, or not for this agent
├── NotFound             no such execution, or checkpoint, or none that the key may see
├── Conflict             not possible in the execution's status; or a key was used before
│   └── Superseded       another attempt has begun, or is to begin: stop
├── Invalid              the request is wrong: `errors` names the fields
├── RateLimited          too many requests, for longer than the client would wait
└── Unavailable          no answer, 502, 503 or 504, for longer than the client would wait
"""

from typing import Any

import httpx

from prefect_executions.errors import ExecutionError


class ServiceError(ExecutionError):
    """The service has refused a request, or failed.

    Args:
        status: The HTTP status; 0: there was no answer.
        code: What to decide by; see the HTTP API.
        detail: What people read.
        errors: The fields that are wrong, each with `field` and `problem`.
        execution_status: Of a conflict: the execution's status.
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
        """Say what people read."""
        return self.detail


class Unauthorized(ServiceError):
    """No key, or none that the service knows."""


class Forbidden(ServiceError):
    """The key has not this permission, or not for this agent."""


class NotFound(ServiceError):
    """There is no such execution, or checkpoint, or none that the key may see."""


class Conflict(ServiceError):
    """Not possible in the execution's status, or the `Idempotency-Key` was used before."""


class Superseded(Conflict):
    """Another attempt has begun, or is to begin; nothing was changed."""


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
    """The exception that an answer stands for."""
    try:
        told: Any = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict) or "code" not in told:  # of something in between
        told = {"code": "unknown", "detail": f"{answer.status_code}: {answer.text[:1000]}"}
    kind = _BY_STATUS.get(answer.status_code, ServiceError)
    if told["code"] == "superseded":
        kind = Superseded
    return kind(
        answer.status_code,
        told["code"],
        told.get("detail", ""),
        tuple(told.get("errors", ())),
        told.get("execution_status"),
    )


def not_understood(answer: httpx.Response) -> ServiceError:
    """The exception for an answer that is none of the service's, though it says success."""
    where = answer.request.url.copy_with(query=None, fragment=None)
    kind = answer.headers.get("content-type", "unknown")
    detail = f"{where} answers something else, of the type {kind}: is that the service?"
    return ServiceError(answer.status_code, "unknown", detail)


def no_answer(error: httpx.TransportError) -> Unavailable:
    """The exception for a way that is broken."""
    where = error.request.url.copy_with(path="/", query=None, fragment=None)
    what = f"{type(error).__name__} {error}".strip()
    return Unavailable(0, "no_answer", f"{where} does not answer: {what}")
