"""When a request is sent again, and after how long; for the sync and the async client alike."""

from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from time import monotonic
from typing import Any, TypeVar, cast

import httpx
from pydantic import BaseModel

from prefect_executions.client.calls import Call
from prefect_executions.client.problems import ServiceError, error_of, no_answer

T = TypeVar("T", bound=BaseModel | bool)

FIRST_PAUSE = 0.25  # seconds; each is twice as long as the one before
LONGEST_PAUSE = 10.0

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_ONLY_IF_REPEATABLE = {502, 503, 504}


@dataclass
class Patience:
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
            asked = 0.0
        pause = max(asked, uniform(0.5, 1) * self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if not helps or self.clock() + pause > self._ends:
            raise error
        return pause


def read(call: Call[T], answer: httpx.Response) -> T:
    """The answer to a call that has succeeded."""
    if call.answer is bool:
        return cast("T", answer.status_code == httpx.codes.NO_CONTENT)
    return cast("T", cast("type[BaseModel]", call.answer).model_validate_json(answer.content))


def headers(api_key: str | None) -> dict[str, str]:
    """What every request has."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _retry_after(answer: httpx.Response) -> float:
    try:
        return float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return 0.0
