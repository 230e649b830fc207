"""Errors as RFC 9457 `application/problem+json`, each with a stable `code`."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from prefect_executions.errors import (
    AnswerError,
    CheckpointNotFound,
    CorruptEntry,
    DeploymentNotFound,
    ExecutionConflict,
    ExecutionError,
    ExecutionNotFound,
    ParametersError,
    PrefectUnavailable,
    StateError,
    StoreUnavailable,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5

PROBLEMS: dict[type[ExecutionError], tuple[HTTPStatus, str]] = {
    ExecutionNotFound: (HTTPStatus.NOT_FOUND, "execution_not_found"),
    CheckpointNotFound: (HTTPStatus.NOT_FOUND, "checkpoint_not_found"),
    DeploymentNotFound: (HTTPStatus.UNPROCESSABLE_ENTITY, "deployment_not_found"),
    ParametersError: (HTTPStatus.UNPROCESSABLE_ENTITY, "parameters_invalid"),
    StateError: (HTTPStatus.UNPROCESSABLE_ENTITY, "state_invalid"),
    AnswerError: (HTTPStatus.UNPROCESSABLE_ENTITY, "input_invalid"),
    ExecutionConflict: (HTTPStatus.CONFLICT, "status_conflict"),
    StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "store_unavailable"),
    PrefectUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "prefect_unavailable"),
    CorruptEntry: (HTTPStatus.INTERNAL_SERVER_ERROR, "log_corrupt"),
}
UNTOLD: dict[type[ExecutionError], str] = {
    StoreUnavailable: "The store of executions does not answer or refuses; try again.",
    PrefectUnavailable: "Prefect's server does not answer or refuses; try again.",
    CorruptEntry: "An entry of the execution's log is damaged; the log of the service names it.",
}
_FIELDS: dict[type[ExecutionError], str] = {
    DeploymentNotFound: "deployment",
    ParametersError: "parameters",
    AnswerError: "input",
}


def problem(
    status: HTTPStatus | int, code: str, detail: str, *, headers: Any = None, **extra: Any
) -> JSONResponse:
    """Answer with a problem.

    Args:
        status: The HTTP status.
        code: What clients decide by; it never changes.
        detail: What people read; it may change.
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
    """Let every error of `app` leave as a problem."""
    app.exception_handler(ExecutionError)(_on_execution_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(Exception)(_on_unexpected)


def _on_execution_error(request: Request, error: ExecutionError) -> JSONResponse:
    known = next((kind for kind in PROBLEMS if isinstance(error, kind)), None)
    if known is None:
        return _on_unexpected(request, error)
    status, code = PROBLEMS[known]
    if known in UNTOLD:
        # What the store or Prefect said may name hosts, accounts and keys: for the log alone.
        logger.error("%s %s: %s", request.method, request.url.path, error)
        headers = {} if known is CorruptEntry else {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return problem(status, code, UNTOLD[known], headers=headers)
    extra: dict[str, Any] = {}
    field = error.path if isinstance(error, StateError) else _FIELDS.get(type(error))
    if field:
        extra["errors"] = [
            {"field": field, "problem": getattr(error, "problem", None) or f"{error}"}
        ]
    return problem(status, code, f"{error}", **extra)


def _on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    errors = [
        {"field": _field(item["loc"], item["type"]), "problem": item["msg"]}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['field']}: {item['problem']}" for item in errors)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "request_invalid", detail, errors=errors)


def _field(location: tuple[int | str, ...], kind: str) -> str:
    """The name of a field as its sender knows it: `config.max_retries`, `query checkpoints`."""
    source, *path = location
    if source == "body":
        return "body" if kind == "json_invalid" or not path else ".".join(map(str, path))
    return f"{source} {path[0]}"  # what follows is pydantic's name of a type


def _on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
    code = HTTPStatus(error.status_code).name.lower()
    return problem(error.status_code, code, f"{error.detail}", headers=error.headers)


def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "The service failed; its log says why. Nothing is lost: what was acknowledged is durable.",
    )
