"""Translation of the errors of Prefect's client; no other module handles those."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from uuid import UUID

import httpx
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from prefect_executions.errors import ExecutionNotFound, PrefectUnavailable
from prefect_executions.ids import execution_id


@contextmanager
def prefect_errors(run_id: UUID | None = None) -> Iterator[None]:
    """Translate the errors of Prefect's client, for requests about a flow run if one is given."""
    try:
        yield
    except ObjectNotFound as error:
        if run_id is None:
            raise PrefectUnavailable(f"{error}") from error
        raise ExecutionNotFound(execution_id(run_id)) from error
    except httpx.HTTPStatusError as error:
        if run_id is not None and error.response.status_code == HTTPStatus.NOT_FOUND:
            raise ExecutionNotFound(execution_id(run_id)) from error
        raise PrefectUnavailable(
            f"{error.response.status_code}: {detail_of(error.response)}"
        ) from error
    except httpx.TransportError as error:
        raise PrefectUnavailable(f"{type(error).__name__}: {error}") from error


@contextmanager
def passing(status: HTTPStatus) -> Iterator[None]:
    """Ignore the error of a request that Prefect answers with this status."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        if error.response.status_code != status:
            raise
    except (ObjectNotFound, ObjectAlreadyExists) as error:
        if _STATUS_OF[type(error)] is not status:
            raise


_STATUS_OF: dict[type[Exception], HTTPStatus] = {
    ObjectNotFound: HTTPStatus.NOT_FOUND,
    ObjectAlreadyExists: HTTPStatus.CONFLICT,
}


def may_pass(away: PrefectUnavailable) -> bool:
    """Whether a later request may succeed; a wrong API key is refused for ever."""
    cause = away.__cause__
    if not isinstance(cause, httpx.HTTPStatusError):
        return True
    status = cause.response.status_code
    return status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR


_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


def detail_of(response: httpx.Response) -> str:
    """Prefect's reason for refusing a request."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text
