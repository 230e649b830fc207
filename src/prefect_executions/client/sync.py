"""The sync client: see the package. `make client` makes it of `aio`."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from time import sleep
from typing import Any, Literal, Self, Unpack

import httpx
import httpx_sse

from prefect_executions.client import calls
from prefect_executions.client.calls import Call, T
from prefect_executions.client.problems import not_understood
from prefect_executions.client.profiles import find
from prefect_executions.client.sending import JSON, RetryPolicy, headers, read, timeouts
from prefect_executions.client.watching import (
    ENDED,
    RETRY_SECONDS,
    Event,
    Poll,
    deleted_meanwhile,
    event_of,
)
from prefect_executions.models import (
    Begun,
    BulkResult,
    Checkpoint,
    Cost,
    Diff,
    Execution,
    OnTimeout,
    Order,
    Page,
    Resumed,
    Saved,
    Standing,
    Status,
    Summary,
)


class Client:
    """A client of the REST service; a context manager.

    Every call raises a `ServiceError`: `NotFound`, `Conflict`, `Invalid`, `Unauthorized`,
    `Forbidden`, `RateLimited`, or `Unavailable` when the service did not answer in time.

    Args:
        url: Where the service is; by default see `profiles`.
        api_key: The key to it.
        profile: The name of a profile with both.
        timeout: For one answer, in seconds.
        patience: How long a call is tried again where that is safe, in seconds.
        transport: The way to the service, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        profile: str | None = None,
        timeout: float = 75,
        patience: float = 60,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        found = find(url, api_key, profile=profile)
        self.url = found.url
        self._patience = patience
        self._http = httpx.Client(
            base_url=found.url,
            headers=headers(found.api_key),
            timeout=timeouts(timeout),
            transport=transport,
        )

    def __enter__(self) -> Self:
        """Open it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Carry out a call, and try it again where that is safe."""
        patience, content = RetryPolicy(self._patience), call.content
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(
                    call.method,
                    call.path,
                    content=content,
                    params=call.params,
                    headers={**call.headers, **JSON} if content else call.headers,
                )
                if patience.has_succeeded(call, outcome):
                    return read(call, outcome)
            except httpx.TransportError as error:
                outcome = error
            sleep(patience.pause_after(call, outcome))

    # ------------------------------------------------------------------ executions

    def create(
        self, name: str, *, idempotency_key: str | None = None, **new: Unpack[calls.New]
    ) -> Execution:
        """Create an execution; without a deployment its agent is the caller, as attempt 1.

        Args:
            name: What it is called.
            idempotency_key: The same for a repetition; by default a new one.
            new: What else it has: see `calls.New`.
        """
        return self.send(calls.create(name, idempotency_key, new))

    def get(
        self,
        execution_id: str,
        *,
        checkpoints: int | Literal["all", "none"] = 100,
        states: bool = True,
    ) -> Execution:
        """Read an execution, with its newest checkpoints and, if asked for, their states."""
        return self.send(calls.get(execution_id, checkpoints, states))

    def page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        order: Order | str = Order.NEWEST_FIRST,
        **filter_: Unpack[calls.Filter],
    ) -> Page:
        """A page of the list of executions; `list` gives all of them."""
        return self.send(calls.page(cursor, limit, order, filter_))

    def list(
        self, *, order: Order | str = Order.NEWEST_FIRST, **filter_: Unpack[calls.Filter]
    ) -> Iterator[Summary]:
        """All executions that a filter means, page by page."""
        cursor = None
        while True:
            found = self.page(cursor=cursor, limit=200, order=order, **filter_)
            yield from found.items
            cursor = found.next_cursor
            if cursor is None:
                return

    def pause(
        self,
        execution_id: str,
        *,
        reason: str | None = None,
        until: datetime | None = None,
        on_timeout: OnTimeout | str = OnTimeout.RESUME,
        wait: float = 0,
    ) -> Execution:
        """Pause an execution; `wait` so many seconds for its process to leave."""
        return self.send(calls.pause(execution_id, reason, until, on_timeout, wait))

    def resume(
        self,
        execution_id: str,
        *,
        checkpoint_id: str | None = None,
        input: dict[str, Any] | None = None,  # noqa: A002
        wait: float = 0,
    ) -> Resumed:
        """Resume an execution, from any checkpoint, or with an answer.

        Args:
            execution_id: The execution.
            checkpoint_id: Roll back to this checkpoint; by default the newest.
            input: The answer to what it asks.
            wait: For so many seconds, until its next attempt has begun.
        """
        return self.send(calls.resume(execution_id, checkpoint_id, input, wait))

    def delete(self, execution_id: str, *, wait: float = 10) -> bool:
        """Delete an execution; whether all of it is gone within `wait` seconds."""
        return self.send(calls.delete(execution_id, wait))

    def fork(
        self,
        execution_id: str,
        *,
        checkpoint_id: str | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Execution:
        """Create an execution that continues from a checkpoint of another one, beside it."""
        return self.send(calls.fork(execution_id, checkpoint_id, name, idempotency_key))

    def bulk(
        self,
        action: Literal["pause", "resume", "delete"],
        *,
        ids: Sequence[str] | None = None,
        filter: calls.Filter | None = None,  # noqa: A002
        cursor: str | None = None,
        limit: int = 50,
        reason: str | None = None,
    ) -> BulkResult:
        """Act on many executions, each for itself: on `ids`, or on what a filter means."""
        return self.send(calls.bulk(action, ids, filter, cursor, limit, reason))

    # ------------------------------------------------------------------ checkpoints

    def checkpoint(
        self,
        execution_id: str,
        state: Any,
        *,
        label: str | None = None,
        attempt: int | None = None,
    ) -> Saved:
        """Save a checkpoint, and learn whether to go on.

        Raises:
            Superseded: the attempt is not the newest, or another one is to begin.
            Conflict: the execution has ended.
        """
        return self.send(calls.checkpoint(execution_id, state, label, attempt))

    def checkpoints(self, execution_id: str, *, states: bool = False) -> Iterator[Checkpoint]:
        """All checkpoints, newest first, page by page."""
        cursor = None
        while True:
            found = self.send(calls.checkpoints(execution_id, cursor, 200, states))
            yield from found.items
            cursor = found.next_cursor
            if cursor is None:
                return

    def get_checkpoint(self, execution_id: str, checkpoint_id: str) -> Checkpoint:
        """Read one checkpoint, with its state."""
        return self.send(calls.get_checkpoint(execution_id, checkpoint_id))

    def diff(self, execution_id: str, checkpoint_id: str, other_id: str) -> Diff:
        """What changes the state of one checkpoint into that of another, as JSON Patch."""
        return self.send(calls.diff(execution_id, checkpoint_id, other_id))

    def cost(self, execution_id: str) -> Cost:
        """What an execution has cost in the store."""
        return self.send(calls.cost(execution_id))

    # ------------------------------------------------------------------ agents outside Prefect

    def begin_attempt(self, execution_id: str) -> Begun:
        """Begin an attempt: from now on the caller runs the execution, and nobody else."""
        return self.send(calls.begin_attempt(execution_id))

    def heartbeat(self, execution_id: str, attempt: int) -> Standing:
        """Say that an attempt is alive, and learn whether to go on."""
        return self.send(calls.heartbeat(execution_id, attempt))

    def complete(
        self,
        execution_id: str,
        *,
        result: Any = None,
        attempt: int | None = None,
        **state: Unpack[calls.Last],
    ) -> Execution:
        """Say that an execution is done, with a result and, as `state`, its last state."""
        return self.send(calls.complete(execution_id, result, attempt, state))

    def fail(
        self,
        execution_id: str,
        error: str,
        *,
        attempt: int | None = None,
        **state: Unpack[calls.Last],
    ) -> Execution:
        """Say that an attempt has failed, with, as `state`, its last state."""
        return self.send(calls.fail(execution_id, error, attempt, state))

    # ------------------------------------------------------------------ as it happens

    def wait(
        self,
        execution_id: str,
        *,
        until: Status | str | Collection[Status | str] = ENDED,
        timeout: float | None = None,
    ) -> Execution:
        """Wait until an execution has one of these statuses, or has ended.

        Args:
            execution_id: The execution.
            until: The statuses, or the one; by default only the end.
            timeout: For how long, in seconds; by default for ever.

        Raises:
            TimeoutError: it has none of them in time.
        """
        looks = Poll(until, timeout)
        while True:
            now = self.get(execution_id, checkpoints="none")
            pause = looks.pause_after(now.status)
            if pause is None:
                return now
            sleep(pause)

    def stream(self, execution_id: str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """What happens to an execution, from now on, until it is deleted.

        A stream that breaks is opened again, and goes on without loss or doubling.

        Args:
            execution_id: The execution.
            last_event_id: Go on behind this event.

        Raises:
            Unavailable: the service is away for longer than the client would wait.
        """
        call = Call("GET", calls.events(execution_id), bool, repeatable=True)
        last, patience = last_event_id, RetryPolicy(self._patience)
        while True:
            headers, opened = {"Last-Event-ID": last} if last else {}, False
            try:
                with httpx_sse.connect_sse(self._http, "GET", call.path, headers=headers) as source:
                    if not source.response.is_success:
                        source.response.read()
                        if end := deleted_meanwhile(execution_id, last, source.response):
                            yield end
                            return
                        sleep(patience.pause_after(call, source.response))
                        continue
                    opened = True
                    for told in source.iter_sse():
                        event = event_of(told)
                        if event is None:
                            continue
                        last = event.id
                        yield event
                        if event.kind == "deleted":
                            return
            except httpx_sse.SSEError as error:
                raise not_understood(source.response) from error
            except httpx.TransportError as error:
                if not opened:
                    sleep(patience.pause_after(call, error))
                    continue
            patience = RetryPolicy(self._patience)  # one that was open may have been so for hours
            sleep(RETRY_SECONDS)
