"""The events of an execution as server-sent events."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Literal

from prefect.client.schemas.objects import StateType
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prefect_executions.errors import ExecutionError, ExecutionNotFound
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.changes import Change, Deleted, StatusChanged
from prefect_executions.service.streams.follower import Follower, Position
from prefect_executions.service.streams.hub import EventHub, Gap

logger = logging.getLogger(__name__)

LIFETIME_SECONDS = 3600.0  # how long a stream lasts; then its client reconnects with its key
PING_SECONDS = 15
SEND_SECONDS = 30.0  # how long a client may receive nothing
RETRY_MILLISECONDS = 2000  # how long clients wait before they reconnect


async def follow(
    hub: EventHub,
    executions: Executions,
    execution_id: str,
    last_event_id: str | None = None,
    *,
    lifetime: float = LIFETIME_SECONDS,
) -> AsyncGenerator[ServerSentEvent]:
    """Yield the events of an execution for a client, after a first `retry`.

    It ends after a deletion, and when the client should reconnect with its `Last-Event-ID`.

    Raises:
        ExecutionNotFound: There is no such execution; nothing was yielded.
        StoreUnavailable, PrefectUnavailable: They do not answer; nothing was yielded.
    """
    follower = Follower(executions, execution_id, Position.of(last_event_id))
    until = asyncio.get_running_loop().time() + lifetime
    with hub.subscribed(flow_run_id(execution_id)) as news:
        missed = await hub.look(follower)
        yield ServerSentEvent(retry=RETRY_MILLISECONDS, sep="\n")
        for event in missed:
            yield event
        while (change := await news.next(until)) is not None:
            if change is not Gap.GAP:
                new = follower.take(change)
                if new is not None:
                    yield new
                if isinstance(change, Deleted):
                    return
                # A killed process has sent no event of its last checkpoint.
                if new is None or not _is_crash(change):
                    continue
            try:
                missed = await hub.look(follower)
            except ExecutionNotFound:
                yield follower.end()
                return
            except ExecutionError as error:
                logger.warning("The stream of %s ends: %s", execution_id, error)
                return
            for event in missed:
                yield event


def _is_crash(change: Change) -> bool:
    return isinstance(change, StatusChanged) and change.type is StateType.CRASHED


class EventStream(Response):
    """The response with the events of an execution.

    When it is called it raises what `follow` raises, before anything is sent.

    Args:
        hub: The subscription to events in Prefect.
        executions: The executions that the client may see.
        execution_id: The execution to follow.
        last_event_id: The `Last-Event-ID` of the request.
        lifetime: How long the stream lasts, in seconds.
    """

    media_type: Literal["text/event-stream"] = "text/event-stream"

    def __init__(
        self,
        hub: EventHub,
        executions: Executions,
        execution_id: str,
        last_event_id: str | None = None,
        *,
        lifetime: float = LIFETIME_SECONDS,
    ) -> None:
        super().__init__()
        self._follow = partial(
            follow, hub, executions, execution_id, last_event_id, lifetime=lifetime
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        async with aclosing(self._follow()) as events:
            response = EventSourceResponse(
                _after(await anext(events), events),
                ping=PING_SECONDS,
                ping_message_factory=lambda: ServerSentEvent(comment="alive", sep="\n"),
                sep="\n",
                send_timeout=SEND_SECONDS,
                background=self.background,
            )
            try:
                await response(scope, receive, send)
            except SendTimeoutError:
                logger.info("A client takes nothing: its stream ends")


async def _after(
    first: ServerSentEvent, rest: AsyncGenerator[ServerSentEvent]
) -> AsyncGenerator[ServerSentEvent]:
    yield first
    async for event in rest:
        yield event
