"""When a request is sent again, and after how long; used by both clients."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isfinite
from random import uniform
from time import monotonic
from typing import Any, TypeVar, cast

import httpx
from pydantic import BaseModel, ValidationError

from prefect_executions.client.operations import Operation
from prefect_executions.client.problems import (
    NO_ANSWER,
    UNAUTHORIZED,
    ServiceError,
    error_of,
    no_answer,
    not_understood,
)
from prefect_executions.client.profiles import KEY, Profile, file

T = TypeVar("T", bound=BaseModel | bool)

FIRST_PAUSE = 0.25  # seconds; each is twice as long as the one before
LONGEST_PAUSE = 10.0
JSON = {"Content-Type": "application/json"}
CONNECT = 5.0  # seconds for connecting to the service

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NEVER_HELPS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_ONLY_IF_REPEATABLE = {502, 503, 504}


@dataclass
class RetryPolicy:
    """Whether and when one operation is sent again.

    Args:
        seconds: For how long, from the first try on.
        profile: The service, which errors name.
        clock: A monotonic clock, in seconds.
    """

    seconds: float
    profile: Profile
    clock: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self._ends = self.clock() + self.seconds
        self._pause = FIRST_PAUSE
        self._maybe_done = False  # whether a try may have been carried out

    def has_succeeded(self, operation: Operation[Any], answer: httpx.Response) -> bool:
        """Whether an operation succeeded; also when a repeated deletion finds nothing left."""
        if answer.is_success:
            return True
        gone = answer.status_code == HTTPStatus.NOT_FOUND and operation.method == "DELETE"
        return gone and self._maybe_done and error_of(answer).code == "execution_not_found"

    def next_pause(
        self, operation: Operation[Any], outcome: httpx.Response | httpx.TransportError
    ) -> float:
        """How long to wait before the next try, in seconds.

        Raises:
            ServiceError: no try follows: it would do harm, not help, or take too long.
        """
        error: ServiceError
        if isinstance(outcome, httpx.Response):
            error = error_of(outcome)
            status = outcome.status_code
            helps = status == 429 or (status in _ONLY_IF_REPEATABLE and operation.repeatable)
            asked = _retry_after(outcome)
        else:
            error = no_answer(outcome)
            helps = operation.repeatable or isinstance(outcome, _NEVER_SENT)
            helps = helps and not isinstance(outcome, _NEVER_HELPS)
            asked, status = 0.0, 0
        self._maybe_done |= status != 429 and not isinstance(outcome, _NEVER_SENT)
        pause = max(asked, uniform(0.5, 1) * self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if not helps or self.clock() + pause > self._ends:
            raise explained(error, self.profile)
        return pause


def explained(error: ServiceError, profile: Profile) -> ServiceError:
    """An error with the setting that holds what is wrong: the URL or the key."""
    if error.code == NO_ANSWER:
        named = "No URL was given; this is the default."
        if profile.url_from is not None:
            named = f"The URL is in {profile.url_from}."
        return error.with_detail(f"{error.detail}. {named}")
    if error.code == UNAUTHORIZED and profile.key_from is None:
        wanted = f"{KEY}, or `api_key` beside that URL in a profile in {file()}"
        return error.with_detail(f"{profile.url} wants a key, and there is none. Set {wanted}.")
    if error.code == UNAUTHORIZED:
        return error.with_detail(
            f"{profile.url} does not know the key in {profile.key_from}: it is wrong, was revoked, "
            "or belongs to another service."
        )
    return error


def read(operation: Operation[T], answer: httpx.Response) -> T:
    """The answer to an operation that succeeded, as its model.

    Raises:
        ServiceError: the answer is not from the service.
    """
    if operation.answer is bool:
        return cast("T", answer.status_code != HTTPStatus.ACCEPTED)
    model = cast("type[BaseModel]", operation.answer)
    try:
        # A newer service may add fields, also in models that forbid others in requests.
        return cast("T", model.model_validate_json(answer.content, extra="ignore"))
    except ValidationError as error:
        raise not_understood(answer) from error


def timeouts(seconds: float) -> httpx.Timeout:
    """The time-outs for one answer, and for a connection."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT))


def headers(api_key: str | None) -> dict[str, str]:
    """The headers of every request."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _retry_after(answer: httpx.Response) -> float:
    """The seconds in `Retry-After`, which is a number of them or a date."""
    asked = answer.headers.get("Retry-After", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):  # no date, or one without a zone
            return 0.0
    return seconds if isfinite(seconds) else 0.0
