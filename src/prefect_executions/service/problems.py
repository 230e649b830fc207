"""Errors as RFC 9457 `application/problem+json`, each with a stable `code`."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from prefect_executions.errors import (
    AgentForbidden,
    AnswerError,
    CheckpointNotFound,
    CorruptEntry,
    CursorError,
    DeploymentForbidden,
    DeploymentNotFound,
    DiffTooLarge,
    ExecutionConflict,
    ExecutionError,
    ExecutionNotFound,
    IdempotencyConflict,
    ParametersError,
    PrefectUnavailable,
    QuestionNotFound,
    StateError,
    StoreUnavailable,
    Superseded,
    UnsuitableDeployment,
)
from prefect_executions.models import Refusal

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5

PROBLEMS: dict[type[ExecutionError], tuple[HTTPStatus, str]] = {
    ExecutionNotFound: (HTTPStatus.NOT_FOUND, "execution_not_found"),
    CheckpointNotFound: (HTTPStatus.NOT_FOUND, "checkpoint_not_found"),
    QuestionNotFound: (HTTPStatus.NOT_FOUND, "question_not_found"),
    DeploymentNotFound: (HTTPStatus.UNPROCESSABLE_ENTITY, "deployment_not_found"),
    UnsuitableDeployment: (HTTPStatus.UNPROCESSABLE_ENTITY, "deployment_unsuitable"),
    ParametersError: (HTTPStatus.UNPROCESSABLE_ENTITY, "parameters_invalid"),
    StateError: (HTTPStatus.UNPROCESSABLE_ENTITY, "state_invalid"),
    AnswerError: (HTTPStatus.UNPROCESSABLE_ENTITY, "input_invalid"),
    ExecutionConflict: (HTTPStatus.CONFLICT, "status_conflict"),
    Superseded: (HTTPStatus.CONFLICT, "superseded"),
    IdempotencyConflict: (HTTPStatus.CONFLICT, "idempotency_conflict"),
    AgentForbidden: (HTTPStatus.FORBIDDEN, "forbidden"),
    DeploymentForbidden: (HTTPStatus.FORBIDDEN, "deployment_forbidden"),
    CursorError: (HTTPStatus.UNPROCESSABLE_ENTITY, "cursor_invalid"),
    DiffTooLarge: (HTTPStatus.UNPROCESSABLE_ENTITY, "diff_too_large"),
    StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "store_unavailable"),
    PrefectUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "prefect_unavailable"),
    CorruptEntry: (HTTPStatus.INTERNAL_SERVER_ERROR, "log_corrupt"),
}
_INTERNAL = (
    "The service failed; its log says why. Nothing is lost: what was acknowledged is durable."
)
# Headers of every answer, unless its route sets its own.
SAFE = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HIDDEN: dict[type[ExecutionError], str] = {
    StoreUnavailable: "The store of executions does not answer or refuses; try again.",
    PrefectUnavailable: "Prefect's server does not answer or refuses; try again.",
    CorruptEntry: "An entry of the execution's log is damaged; the log of the service names it.",
}
_FIELDS: dict[type[ExecutionError], str] = {
    CursorError: "cursor",
    AgentForbidden: "agent_id",
    DeploymentForbidden: "deployment",
    DeploymentNotFound: "deployment",
    UnsuitableDeployment: "deployment",
    ParametersError: "parameters",
    AnswerError: "input",
}


class KeyForbidden(Exception):
    """The key of a caller is known, and may not do what a route does; the message says why."""


def problem(
    status: HTTPStatus | int, code: str, detail: str, *, headers: Any = None, **extra: Any
) -> JSONResponse:
    """Answer with a problem.

    Args:
        status: The HTTP status.
        code: For programs; it never changes.
        detail: For people; it may change.
        headers: Further headers.
        extra: Further members.
    """
    status = HTTPStatus(status)
    content = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": code,
        "detail": detail,
        **extra,
    }
    return JSONResponse(
        content, status.value, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    app.exception_handler(ExecutionError)(_on_execution_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(KeyForbidden)(_on_forbidden_key)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(Exception)(_on_unexpected)


def _known(error: ExecutionError) -> type[ExecutionError] | None:
    return next((kind for kind in PROBLEMS if isinstance(error, kind)), None)


def status_of(error: ExecutionError) -> HTTPStatus:
    """The HTTP status of an error."""
    known = _known(error)
    return HTTPStatus.INTERNAL_SERVER_ERROR if known is None else PROBLEMS[known][0]


def refusal_of(error: ExecutionError) -> Refusal:
    """An error as part of the answer to a bulk request."""
    known = _known(error)
    if known is None:
        return Refusal(code="internal", detail=_INTERNAL)
    if known in _HIDDEN:
        logger.error("%s", error)
    return Refusal(code=PROBLEMS[known][1], detail=_HIDDEN.get(known, f"{error}"))


def unavailable(scope: Scope, error: ExecutionError) -> JSONResponse:
    """The answer when the store or Prefect is not available, or the log is damaged."""
    # The message may contain hosts, accounts and keys, so it is only logged.
    logger.error("%s %r: %s", scope["method"], scope["path"], error)
    known = next(kind for kind in _HIDDEN if isinstance(error, kind))
    status, code = PROBLEMS[known]
    headers = {} if known is CorruptEntry else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem(status, code, _HIDDEN[known], headers=headers)


def _on_execution_error(request: Request, error: ExecutionError) -> JSONResponse:
    known = _known(error)
    if known is None:
        return _on_unexpected(request, error)
    status, code = PROBLEMS[known]
    if known in _HIDDEN:
        return unavailable(request.scope, error)
    extra: dict[str, Any] = {}
    if isinstance(error, ExecutionConflict):
        extra["execution_status"] = error.status
    field = error.path if isinstance(error, StateError) else _FIELDS.get(type(error))
    if field:
        extra["errors"] = [
            {"field": field, "problem": getattr(error, "problem", None) or f"{error}"}
        ]
    return problem(status, code, f"{error}", **extra)


def _on_forbidden_key(_: Request, error: KeyForbidden) -> JSONResponse:
    return problem(HTTPStatus.FORBIDDEN, "forbidden", f"{error}")


def _on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    errors = [
        {"field": _field(item["loc"], item["type"]), "problem": item["msg"]}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['field']}: {item['problem']}" for item in errors)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "request_invalid", detail, errors=errors)


def _field(location: tuple[int | str, ...], kind: str) -> str:
    """The name of a field as in the request: `config.max_retries`, `query checkpoints`."""
    source, *path = location
    if source == "body":
        return "body" if kind == "json_invalid" or not path else ".".join(map(str, path))
    return f"{source} {path[0]}"  # the rest is pydantic's name of a type


def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI raises it when the body is not text
        what = "is no JSON in UTF-8"
        errors = [{"field": "body", "problem": what}]
        return problem(422, "request_invalid", f"body: {what}", errors=errors)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    code = HTTPStatus(error.status_code).name.lower()
    return problem(error.status_code, code, f"{error.detail}", headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods of all routes of a path; Starlette only names those of the first route."""
    route = request.scope.get("route")
    return sorted(map(str.upper, request.app.openapi()["paths"].get(route and route.path, {})))


def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        _INTERNAL,
        headers=SAFE,  # Starlette sends this answer outside of all middleware
    )
