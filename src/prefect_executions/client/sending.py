"""When a request is sent again, and after how long; for the sync and the async client alike."""

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

from prefect_executions.client.calls import Call
from prefect_executions.client.problems import ServiceError, error_of, no_answer, not_understood

T = TypeVar("T", bound=BaseModel | bool)

FIRST_PAUSE = 0.25  # seconds; each is twice as long as the one before
LONGEST_PAUSE = 10.0
JSON = {"Content-Type": "application/json"}
CONNECT = 5.0  # seconds until a way to the service has to be there

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NEVER_HELPS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_ONLY_IF_REPEATABLE = {502, 503, 504}


@dataclass
class RetryPolicy:
    """How long one call is tried.

    Args:
        seconds: So long, from the first try on.
        clock: Seconds that go on.
    """

    seconds: float
    clock: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self._ends = self.clock() + self.seconds
        self._pause = FIRST_PAUSE
        self._maybe_done = False  # whether a try may have been carried out

    def has_succeeded(self, call: Call[Any], answer: httpx.Response) -> bool:
        """Whether a call has done what it is for: a repeated deletion finds nothing left."""
        if answer.is_success:
            return True
        gone = answer.status_code == HTTPStatus.NOT_FOUND and call.method == "DELETE"
        return gone and self._maybe_done and error_of(answer).code == "execution_not_found"

    def pause_after(self, call: Call[Any], outcome: httpx.Response | httpx.TransportError) -> float:
        """How long to wait before the next try, in seconds.

        Raises:
            ServiceError: there is none: it would do harm, or not help, or take too long.
        """
        error: ServiceError
        if isinstance(outcome, httpx.Response):
            error = error_of(outcome)
            status = outcome.status_code
            helps = status == 429 or (status in _ONLY_IF_REPEATABLE and call.repeatable)
            asked = _retry_after(outcome)
        else:
            error = no_answer(outcome)
            helps = call.repeatable or isinstance(outcome, _NEVER_SENT)
            helps = helps and not isinstance(outcome, _NEVER_HELPS)
            asked, status = 0.0, 0
        self._maybe_done |= status != 429 and not isinstance(outcome, _NEVER_SENT)
        pause = max(asked, uniform(0.5, 1) * self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if not helps or self.clock() + pause > self._ends:
            raise error
        return pause


def read(call: Call[T], answer: httpx.Response) -> T:
    """The answer to a call that has succeeded.

    Raises:
        ServiceError: it is not the service that has answered.
    """
    if call.answer is bool:
        return cast("T", answer.status_code != HTTPStatus.ACCEPTED)
    model = cast("type[BaseModel]", call.answer)
    try:
        # A newer service may tell more, also where its requests take nothing more.
        return cast("T", model.model_validate_json(answer.content, extra="ignore"))
    except ValidationError as error:
        raise not_understood(answer) from error


def timeouts(seconds: float) -> httpx.Timeout:
    """How long is waited for one answer, and for a connection."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT))


def headers(api_key: str | None) -> dict[str, str]:
    """What every request has."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _retry_after(answer: httpx.Response) -> float:
    """What `Retry-After` asks for, in seconds: it says a number of them, or a date."""
    asked = answer.headers.get("Retry-After", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):  # no date, or one without a zone
            return 0.0
    return seconds if isfinite(seconds) else 0.0
