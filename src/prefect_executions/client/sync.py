"""The sync client: see the package. `make client` generates it from `aio`."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from time import sleep
from typing import Any, Literal, Self, Unpack

import httpx
import httpx_sse

from prefect_executions.client import operations
from prefect_executions.client.operations import Operation, T
from prefect_executions.client.problems import not_understood
from prefect_executions.client.profiles import Profile, find
from prefect_executions.client.sending import JSON, RetryPolicy, headers, read, timeouts
from prefect_executions.client.watching import (
    ENDED,
    RETRY_SECONDS,
    Event,
    Poll,
    deleted_meanwhile,
    event_of,
)
from prefect_executions.config import OnTimeout, Status
from prefect_executions.models import (
    Begun,
    BulkResult,
    Checkpoint,
    CheckpointPage,
    Comparison,
    Cost,
    Diff,
    Execution,
    Forked,
    Order,
    Page,
    Question,
    Resumed,
    Saved,
    Standing,
    Summary,
)


class Connection:
    """A connection to the service: sends operations, and sends them again where that is safe."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        profile: str | Profile | None = None,
        timeout: float = 75,
        patience: float = 60,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        found = profile
        if not isinstance(found, Profile):
            found = find(url, api_key, profile=found)
        self.url = found.url
        self._profile = found
        self._patience = patience
        self._http = httpx.Client(
            base_url=found.url,
            headers=headers(found.api_key),
            timeout=timeouts(timeout),
            transport=transport,
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _retries(self) -> RetryPolicy:
        return RetryPolicy(self._patience, self._profile)

    def send(self, operation: Operation[T]) -> T:
        """Send an operation, again where that is safe, and return the answer."""
        retries, content = self._retries(), operation.content
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(
                    operation.method,
                    operation.path,
                    content=content,
                    params=operation.params,
                    headers={**operation.headers, **JSON} if content else operation.headers,
                )
                if retries.has_succeeded(operation, outcome):
                    return read(operation, outcome)
            except httpx.TransportError as error:
                outcome = error
            sleep(retries.next_pause(operation, outcome))


class Client(Connection):
    """A client of the REST service; a context manager.

    Its methods raise a `ServiceError`: `NotFound`, `Conflict`, `Invalid`, `Unauthorized`,
    `Forbidden`, `RateLimited`, or `Unavailable` when the service did not answer in time.

    Args:
        url: The service's URL; by default see `profiles`.
        api_key: The key to it.
        profile: The name of a profile with both, or a `Profile`, which is used as it is.
        timeout: For one answer, in seconds.
        patience: How long a request is sent again where that is safe, in seconds.
        transport: Sends the requests, for tests.
    """

    # ------------------------------------------------------------------ executions

    def create(
        self,
        name: str,
        *,
        idempotency_key: str | None = None,
        **new: Unpack[operations.CreateOptions],
    ) -> Execution:
        """Create an execution; without a deployment the caller is its agent, as attempt 1.

        Args:
            name: Its name.
            idempotency_key: The same key again creates nothing; by default a new one.
            new: Its other fields: see `operations.CreateOptions`.
        """
        return self.send(operations.create(name, idempotency_key, new))

    def get(
        self,
        execution_id: str,
        *,
        checkpoints: int | Literal["all", "none"] = 100,
        states: bool = True,
        state: bool = True,
    ) -> Execution:
        """Read an execution, with its newest checkpoints and, if asked for, the states.

        Args:
            execution_id: The execution.
            checkpoints: How many of the newest.
            states: Whether these come with their states.
            state: Whether it comes with its own, the newest.
        """
        return self.send(operations.get(execution_id, checkpoints, states, state))

    def page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        order: Order | str = Order.NEWEST_FIRST,
        **filter_: Unpack[operations.Filter],
    ) -> Page:
        """A page of the list of executions; `list` goes through all pages."""
        return self.send(operations.page(cursor, limit, order, filter_))

    def list(
        self, *, order: Order | str = Order.NEWEST_FIRST, **filter_: Unpack[operations.Filter]
    ) -> Iterator[Summary]:
        """All executions that a filter selects, read page by page."""
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
        """Pause an execution; wait up to `wait` seconds for its process to end."""
        return self.send(operations.pause(execution_id, reason, until, on_timeout, wait))

    def cancel(self, execution_id: str, *, wait: float = 0) -> Execution:
        """Terminate an execution and keep it; wait up to `wait` seconds for its process to end."""
        return self.send(operations.cancel(execution_id, wait))

    def resume(
        self,
        execution_id: str,
        *,
        checkpoint_id: str | None = None,
        input: dict[str, Any] | None = None,  # noqa: A002
        force: bool = False,
        reason: str | None = None,
        wait: float = 0,
    ) -> Resumed:
        """Resume an execution, from any checkpoint, or with an answer to its question.

        Args:
            execution_id: The execution.
            checkpoint_id: Roll back to this checkpoint; by default the newest.
            input: The answer to its question.
            force: Roll back a running one, too: it is paused first.
            reason: Why it is rolled back; it is kept with that.
            wait: How many seconds to wait for its next attempt to begin.
        """
        going_on = operations.resume(execution_id, checkpoint_id, input, force, reason, wait)
        return self.send(going_on)

    def question(self, execution_id: str) -> Question:
        """What an execution asks; `resume` with `input` answers it.

        Raises:
            NotFound: it asks nothing now, with the code `question_not_found`.
        """
        return self.send(operations.question(execution_id))

    def delete(self, execution_id: str, *, wait: float = 10) -> bool:
        """Delete an execution. Returns whether all of it is gone within `wait` seconds."""
        return self.send(operations.delete(execution_id, wait))

    def fork(
        self,
        execution_id: str,
        *,
        idempotency_key: str | None = None,
        **changes: Unpack[operations.ForkOptions],
    ) -> Forked:
        """Create an execution that continues from a checkpoint of another one, or several.

        Args:
            execution_id: The other one.
            idempotency_key: A repeat with the same key creates nothing.
            changes: The checkpoint, and what is to differ: see `operations.ForkOptions`.

        Returns:
            The first of them; `forks` has the ids of all.
        """
        return self.send(operations.fork(execution_id, idempotency_key, changes))

    def compare(self, *ids: str) -> Comparison:
        """Compare executions with the first of them: results, steps, states label by label."""
        return self.send(operations.compare(ids))

    def bulk(
        self,
        action: Literal["pause", "resume", "delete"],
        *,
        ids: Sequence[str] | None = None,
        filter: operations.Filter | None = None,  # noqa: A002
        cursor: str | None = None,
        limit: int = 50,
        reason: str | None = None,
    ) -> BulkResult:
        """Act on many executions, one by one: on `ids`, or on those that a filter selects."""
        return self.send(operations.bulk(action, ids, filter, cursor, limit, reason))

    # ------------------------------------------------------------------ checkpoints

    def checkpoint(
        self,
        execution_id: str,
        state: Any,
        *,
        label: str | None = None,
        attempt: int | None = None,
        reason: str | None = None,
        after: str | None = None,
    ) -> Saved:
        """Save a checkpoint; the answer says whether to continue.

        Args:
            execution_id: The execution.
            state: The state, as JSON or a pydantic model.
            label: What people see in the list of checkpoints.
            attempt: Save it only as this attempt; None for a checkpoint by hand.
            reason: Why it is saved; people see it.
            after: The checkpoint that was corrected, `continues_from` of the execution; None for
                any.

        Raises:
            AttemptSuperseded: the attempt is not the newest, or a new one is about to begin.
            Conflict: the execution has ended, a process runs it, or it continues from another
                checkpoint than `after` by now.
        """
        return self.send(operations.checkpoint(execution_id, state, label, attempt, reason, after))

    def checkpoints(self, execution_id: str, *, states: bool = False) -> Iterator[Checkpoint]:
        """All checkpoints, newest first, read page by page."""
        cursor = None
        while True:
            found = self.send(operations.checkpoints(execution_id, cursor, 200, states))
            yield from found.items
            cursor = found.next_cursor
            if cursor is None:
                return

    def checkpoint_page(
        self,
        execution_id: str,
        *,
        cursor: str | None = None,
        until: str | None = None,
        limit: int = 50,
        states: bool = False,
    ) -> CheckpointPage:
        """A page of the list of checkpoints; `checkpoints` goes through all pages.

        Args:
            execution_id: The execution.
            cursor: `next_cursor` of the page before.
            until: Begin at this checkpoint, or, where none has this id, at the newest before it.
            limit: How many at most.
            states: Whether they come with their states.
        """
        return self.send(operations.checkpoints(execution_id, cursor, limit, states, until))

    def get_checkpoint(self, execution_id: str, checkpoint_id: str) -> Checkpoint:
        """Read one checkpoint, with its state."""
        return self.send(operations.get_checkpoint(execution_id, checkpoint_id))

    def diff(self, execution_id: str, checkpoint_id: str, other_id: str) -> Diff:
        """What changes one checkpoint into another: the state, as JSON Patch, and steps."""
        return self.send(operations.diff(execution_id, checkpoint_id, other_id))

    def cost(self, execution_id: str) -> Cost:
        """What an execution cost in the store."""
        return self.send(operations.cost(execution_id))

    # ------------------------------------------------------------------ agents outside Prefect

    def begin_attempt(self, execution_id: str) -> Begun:
        """Begin an attempt: from now on the caller alone runs the execution."""
        return self.send(operations.begin_attempt(execution_id))

    def heartbeat(self, execution_id: str, attempt: int) -> Standing:
        """Report that an attempt is alive; the answer says whether to continue."""
        return self.send(operations.heartbeat(execution_id, attempt))

    def complete(
        self,
        execution_id: str,
        *,
        result: Any = None,
        attempt: int | None = None,
        **state: Unpack[operations.LastState],
    ) -> Execution:
        """Complete an execution, with a result and, as `state`, its last state."""
        return self.send(operations.complete(execution_id, result, attempt, state))

    def fail(
        self,
        execution_id: str,
        error: str,
        *,
        attempt: int | None = None,
        **state: Unpack[operations.LastState],
    ) -> Execution:
        """Fail an attempt, with an error and, as `state`, its last state."""
        return self.send(operations.fail(execution_id, error, attempt, state))

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
            until: One status or several; by default those of an execution that ended.
            timeout: In seconds; by default it waits for ever.

        Raises:
            TimeoutError: it had none of them in time.
        """
        poll = Poll(until, timeout)
        while True:
            now = self.get(execution_id, checkpoints="none")
            pause = poll.next_pause(now.status)
            if pause is None:
                return now
            sleep(pause)

    def stream(self, execution_id: str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """The events of an execution, from now on, until it is deleted.

        A stream that breaks is opened again, and continues without loss or repetition.

        Args:
            execution_id: The execution.
            last_event_id: Continue after this event.

        Raises:
            Unavailable: the service was away for longer than `patience`.
        """
        operation = Operation("GET", operations.events(execution_id), bool, repeatable=True)
        last, retries = last_event_id, self._retries()
        while True:
            headers, opened = {"Last-Event-ID": last} if last else {}, False
            try:
                with httpx_sse.connect_sse(
                    self._http, "GET", operation.path, headers=headers
                ) as source:
                    if not source.response.is_success:
                        source.response.read()
                        if end := deleted_meanwhile(execution_id, last, source.response):
                            yield end
                            return
                        sleep(retries.next_pause(operation, source.response))
                        continue
                    opened = True
                    for sent in source.iter_sse():
                        event = event_of(sent)
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
                    sleep(retries.next_pause(operation, error))
                    continue
            retries = self._retries()  # it may have been open for hours
            sleep(RETRY_SECONDS)
