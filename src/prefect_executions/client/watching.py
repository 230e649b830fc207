"""The events of an execution, and waiting for its status; used by both clients."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import httpx
import httpx_sse

from prefect_executions.client.problems import error_of
from prefect_executions.config import Status
from prefect_executions.serialization import timestamp

ENDED = frozenset(status for status in Status if status.ended)
RETRY_SECONDS = 2.0  # before a stream that has ended is opened again
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 3.0  # seconds between two reads of the status


@dataclass(frozen=True)
class Event:
    """Something that happened to an execution.

    Args:
        kind: `status`, `checkpoint`, or `deleted`, which is the last one.
        data: See the HTTP API.
        id: Lets another stream continue after it.
    """

    kind: str
    data: dict[str, Any]
    id: str


def event_of(sent: httpx_sse.ServerSentEvent) -> Event | None:
    """The event in a server-sent event, or None when that only sets the time of a retry."""
    return Event(sent.event, sent.json(), sent.id) if sent.data else None


def deleted_meanwhile(id_: str, last: str | None, answer: httpx.Response) -> Event | None:
    """The last event, when a stream that is opened again finds the execution deleted."""
    if last is None or error_of(answer).code != "execution_not_found":
        return None
    return Event("deleted", {"execution_id": id_, "at": timestamp(datetime.now(UTC))}, last)


class Poll:
    """When to read the status of an execution that is waited for.

    Args:
        until: One status or several; an execution that ended is always enough.
        timeout: In seconds, or None to wait for ever.
        clock: A monotonic clock, in seconds.
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
        self._pause = FIRST_PAUSE

    def next_pause(self, status: Status) -> float | None:
        """How long to wait before the next read, in seconds, or None when the wait is over.

        Raises:
            TimeoutError: the time is over, and the status is another.
        """
        if status in self._until or status.ended:
            return None
        pause = self._pause
        self._pause = min(1.5 * self._pause, LONGEST_PAUSE)
        if self._ends is None:
            return pause
        left = self._ends - self._clock()
        if left <= 0:
            wanted = ", ".join(sorted(self._until))
            raise TimeoutError(f"It is {status}; waited in vain for: {wanted}.")
        return min(pause, left)
