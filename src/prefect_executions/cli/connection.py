"""A command's client of the service, and how it ends when the service refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from prefect_executions.cli.exits import AWAY, FORBIDDEN, MISSING, REFUSED, USAGE, end
from prefect_executions.cli.options import CommonOptions
from prefect_executions.cli.output import Output, harmless

if TYPE_CHECKING:
    from prefect_executions.client import Client, ServiceError

PATIENCE = 10.0  # seconds: longer than the service's `Retry-After`
NO_ANSWER = 0  # in place of an HTTP status

_CODES = {
    NO_ANSWER: AWAY,
    HTTPStatus.UNAUTHORIZED: FORBIDDEN,
    HTTPStatus.FORBIDDEN: FORBIDDEN,
    HTTPStatus.NOT_FOUND: MISSING,
    HTTPStatus.CONFLICT: REFUSED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: USAGE,
    HTTPStatus.TOO_MANY_REQUESTS: AWAY,
    HTTPStatus.BAD_GATEWAY: AWAY,
    HTTPStatus.SERVICE_UNAVAILABLE: AWAY,
    HTTPStatus.GATEWAY_TIMEOUT: AWAY,
}
_HINTS = {
    NO_ANSWER: "Name the service by --url, PREFECT_EXECUTIONS_URL or a profile (--profile). "
    "`prefect-executions serve` starts one here.",
    HTTPStatus.UNAUTHORIZED: "`prefect-executions keys create`, where Prefect is, makes a key.",
}


@contextmanager
def connected(
    common: CommonOptions, patience: float = PATIENCE
) -> Iterator[tuple["Client", Output]]:
    """A client of the service that the options name, and an output.

    What the service refuses ends the command.

    Args:
        common: The options.
        patience: How long the service may be away, in seconds.
    """
    # The HTTP client takes as long to load as all else, and the help needs none.
    from prefect_executions.client import Client, ServiceError  # noqa: PLC0415

    try:
        client = Client(common.url, profile=common.profile, patience=patience)
    except ValueError as error:
        end(USAGE, f"{error}")
    with client:
        try:
            yield client, Output(as_json=common.json)
        except ServiceError as error:
            end(_CODES.get(error.status, REFUSED), _text(error))


def _text(error: "ServiceError") -> str:
    """What a person reads of an error, with what helps against it on the next line."""
    return "\n".join(filter(None, (harmless(error.detail), _HINTS.get(error.status))))
