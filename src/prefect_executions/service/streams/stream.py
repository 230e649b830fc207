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

LIFETIME_SECONDS = 3600.0  # how long a stream lasts: then its client comes back, with its key
PING_SECONDS = 15
SEND_SECONDS = 30.0  # how long a client may take nothing
RETRY_MILLISECONDS = 2000  # what clients are told to wait before they come back


async def follow(
    hub: EventHub,
    executions: Executions,
    execution_id: str,
    last_event_id: str | None = None,
    *,
    lifetime: float = LIFETIME_SECONDS,
) -> AsyncGenerator[ServerSentEvent]:
    """Tell a client of an execution's changes: something at once, which may be no event.

    It ends after a deletion, and when the client is to come back with its `Last-Event-ID`.

    Raises:
        ExecutionNotFound: there is no such execution; nothing was told.
        StoreUnavailable, PrefectUnavailable: they do not answer; nothing was told.
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
                told = follower.hear(change)
                if told is not None:
                    yield told
                if isinstance(change, Deleted):
                    return
                # A process that was killed has not told of its last checkpoint.
                if told is None or not _is_crash(change):
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
    """The events of an execution, as the answer to a request.

    Args:
        hub: Hears of them.
        executions: The executions.
        execution_id: The one that is followed; its caller may see it.
        last_event_id: What the client has sent.
        lifetime: How long it lasts, in seconds.

    Serving it raises what `follow` raises, before anything is sent.
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
