"""What clients are told of an execution as it happens, and what they wait for."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import httpx
import httpx_sse

from prefect_executions.client.problems import error_of
from prefect_executions.models import Status
from prefect_executions.serialization import timestamp

ENDED = frozenset(status for status in Status if status.ended)
RETRY_SECONDS = 2.0  # before a stream that has ended is opened again
FIRST_LOOK, LONGEST_LOOK = 0.25, 3.0  # seconds between two looks of who waits


@dataclass(frozen=True)
class Event:
    """What has happened to an execution.

    Args:
        kind: `status`, `checkpoint` or `deleted`: the last one.
        data: See the HTTP API.
        id: Lets another stream go on behind it.
    """

    kind: str
    data: dict[str, Any]
    id: str


def event_of(told: httpx_sse.ServerSentEvent) -> Event | None:
    """What a server-sent event says; None: nothing, it only sets the time of a retry."""
    return Event(told.event, told.json(), told.id) if told.data else None


def deleted_meanwhile(id_: str, last: str | None, answer: httpx.Response) -> Event | None:
    """The last event, where a stream that goes on finds that the execution is there no more."""
    if last is None or error_of(answer).code != "execution_not_found":
        return None
    return Event("deleted", {"execution_id": id_, "at": timestamp(datetime.now(UTC))}, last)


class Poll:
    """When who waits for an execution looks at it.

    Args:
        until: The statuses that are waited for, or the one; the end is waited for in any case.
        timeout: For how long, in seconds; None: for ever.
        clock: Seconds that go on.
    """

    def __init__(
        self,
        until: Status | str | Collection[Status | str],
        timeout: float | None,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._until = {Status(each) for each in ([until] if isinstance(until, str) else until)}
        self._clock = clock
        self._ends = None if timeout is None else clock() + timeout
        self._pause = FIRST_LOOK

    def pause_after(self, status: Status) -> float | None:
        """How long to wait before the next look, in seconds; None: it has come.

        Raises:
            TimeoutError: it has not, and the time is over.
        """
        if status in self._until or status.ended:
            return None
        pause = self._pause
        self._pause = min(1.5 * self._pause, LONGEST_LOOK)
        if self._ends is None:
            return pause
        left = self._ends - self._clock()
        if left <= 0:
            wanted = ", ".join(sorted(self._until))
            raise TimeoutError(f"It is {status}; waited in vain for: {wanted}.")
        return min(pause, left)
