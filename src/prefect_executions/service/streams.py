"""The events of an execution as server-sent events, with one subscription to Prefect's for all.

What has happened is what Prefect and the log say when asked; their events only tell when. So a
client is told what it has missed by a look at both, at its beginning and whenever the subscription
was lost, and else by the events as they come. Prefect's record of events is never read: it is five
seconds late, and forgets.
"""

import asyncio
import logging
import re
from calendar import timegm
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from itertools import accumulate
from operator import itemgetter
from typing import Any, Literal
from uuid import UUID, uuid4

from anyio import CapacityLimiter, to_thread
from prefect.client.schemas.objects import State, StateType
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from websockets.exceptions import WebSocketException

from prefect_executions.errors import ExecutionError, ExecutionNotFound
from prefect_executions.events import (
    CHECKPOINT_SAVED,
    DELETED,
    FLOW_RUN,
    STREAM,
    STREAM_OPENED,
    Change,
    CheckpointSaved,
    Deleted,
    StatusChanged,
    change_of,
    stream_opened,
)
from prefect_executions.executions import Executions
from prefect_executions.models import flow_run_id
from prefect_executions.run_states import state_of

logger = logging.getLogger(__name__)

BACKLOG = 100  # how many events may wait for a client
LINGER_SECONDS = 60.0  # how long the subscription outlives its last client
LIFETIME_SECONDS = 3600.0  # how long a stream lasts: then its client comes back, with its key
PING_SECONDS = 15
SEND_SECONDS = 30.0  # how long a client may take nothing
RETRY_MILLISECONDS = 2000  # what clients are told to wait before they come back
LOOKS_AT_ONCE = 8
MISSED_CHECKPOINTS = 100  # how many checkpoints a client is told of that it has missed, at most

# Prefect tells of a state before it can be read, for a few milliseconds: a look does not find it,
# and a client that came in between has not heard of it.
RECENT_SECONDS = 5.0
RECENT = 10_000

_PAUSES = (0.5, 30.0)  # between two tries to subscribe: the first, and the longest
_LOST = (OSError, WebSocketException)  # the subscription, or never had
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION = re.compile(r"(\d{1,17})-([0-9a-f]{32})-(\d{1,9})")


# ------------------------------------------------------------------ what a client has been told


@dataclass(frozen=True)
class Position:
    """Up to where a client has been told: the `id` of each of its events.

    Args:
        at: Since when there is the newest state that it knows.
        state_id: The state that it was told last.
        seq: The number of the log's entry up to which it knows the checkpoints.
    """

    at: datetime
    state_id: UUID
    seq: int

    def __str__(self) -> str:
        """Write it as an id."""
        # Prefect's times may be pendulum's, whose differences a timedelta does not divide.
        at = timegm(self.at.utctimetuple()) * 1_000_000 + self.at.microsecond
        return f"{at}-{self.state_id.hex}-{self.seq}"

    @classmethod
    def of(cls, last_event_id: str | None) -> "Position | None":
        """Read it from a `Last-Event-ID`; None: there is none, or another's."""
        match = _POSITION.fullmatch(last_event_id or "")
        if match is None:
            return None
        at = _EPOCH + timedelta(microseconds=int(match[1]))
        return cls(at, UUID(match[2]), int(match[3]))


class Follower:
    """What one client has been told of an execution, and is to be told next.

    Args:
        executions: The executions.
        execution_id: The one that is followed.
        position: What was told before; None: nothing, it begins with the present status.
    """

    def __init__(
        self, executions: Executions, execution_id: str, position: Position | None = None
    ) -> None:
        self.execution_id = execution_id
        self._executions = executions
        self._position = position
        self._known: set[UUID] = set()  # states

    def look(self) -> list[ServerSentEvent]:
        """Ask Prefect and the log what has happened; it blocks.

        Raises:
            ExecutionNotFound: the execution has been deleted, or is not seen.
            StoreUnavailable, PrefectUnavailable: one of them did not answer.
        """
        states = self._states()
        # The log after the states: who hears of an end has heard of the last checkpoint.
        log = self._executions.log(self.execution_id)
        newest = log.newest()
        if newest is None:
            raise ExecutionNotFound(self.execution_id)
        since = self._position
        checkpoints: list[CheckpointSaved] = []
        if since is None:
            self._position = Position(states[-1].timestamp, states[-1].id, newest)
            told = states[-1:]
        else:
            told = [
                state
                for state in states
                if state.id not in self._known
                and (state.timestamp > since.at or state is states[-1])
                and state.id != since.state_id
            ]
            if newest > since.seq:
                missed = min(newest - since.seq, MISSED_CHECKPOINTS)
                found = log.read(checkpoints=missed).checkpoints()
                checkpoints = [
                    CheckpointSaved.of(self.execution_id, entry)
                    for entry in reversed(found)
                    if entry.seq > since.seq
                ]
        changes = [StatusChanged.of(self.execution_id, state) for state in told]
        events = [self._tell(change) for change in _in_order(changes, checkpoints)]
        self._known.update(state.id for state in states)
        assert self._position is not None
        self._position = replace(self._position, seq=max(self._position.seq, newest))
        return events

    def _states(self) -> list[State[Any]]:
        """The states that the run has had, the present one last."""
        run = self._executions.run(self.execution_id)
        while True:
            states = self._executions.flow_runs.states(run)
            run = self._executions.run(self.execution_id)
            present = [state for state in states if state.id == state_of(run).id]
            if present:  # else it has changed in between
                return [state for state in states if state.id != present[0].id] + present

    def hear(self, change: Change) -> ServerSentEvent | None:
        """What a change means for the client; None: it knows."""
        match change:
            case StatusChanged(state_id) if state_id in self._known:
                return None
            case CheckpointSaved(seq) if self._position and seq <= self._position.seq:
                return None  # or a newer one was told, which is all that counts
        return self._tell(change)

    def _tell(self, change: Change) -> ServerSentEvent:
        position = self._position
        assert position is not None, "there was no look"
        match change:
            case StatusChanged(state_id, _, data):
                self._known.add(state_id)
                position = replace(position, at=max(position.at, data.at), state_id=state_id)
                kind = "status"
            case CheckpointSaved(seq, data):
                position = replace(position, seq=max(position.seq, seq))
                kind = "checkpoint"
            case Deleted(data):
                kind = "deleted"
        self._position = position
        return _event(kind, data, position)

    def end(self) -> ServerSentEvent:
        """The last event, of an execution that has been deleted."""
        return self._tell(Deleted.of(self.execution_id))


def _event(kind: str, data: BaseModel, position: Position) -> ServerSentEvent:
    return ServerSentEvent(data.model_dump_json(), event=kind, id=f"{position}", sep="\n")


def _in_order(
    statuses: Sequence[StatusChanged], checkpoints: Sequence[CheckpointSaved]
) -> list[Change]:
    """Put checkpoints between statuses by their times; both keep their own order."""
    timed: list[tuple[datetime, Change]] = [
        *zip(accumulate((status.data.at for status in statuses), max), statuses, strict=True),
        *zip(accumulate((saved.data.at for saved in checkpoints), max), checkpoints, strict=True),
    ]
    return [change for _, change in sorted(timed, key=itemgetter(0))]


# ------------------------------------------------------------------ hearing of changes


class Gap(Enum):
    """Something may have been missed: look."""

    GAP = "gap"


class Subscription:
    """What has come for one client, and what it has not taken yet.

    Args:
        backlog: How much may wait, before it ends.
    """

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._waiting: deque[Change | Gap] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, change: Change | Gap) -> None:
        """Something has happened."""
        if len(self._waiting) >= self._backlog:
            logger.info("A client is too slow: its stream ends")
            self.end()
        self._waiting.append(change)
        self._changed.set()

    def end(self) -> None:
        """Let there be nothing more, not even what waits: the client comes back for it."""
        self._ended = True
        self._changed.set()

    async def next(self, until: float) -> Change | Gap | None:
        """What comes next; None: nothing more, or nothing until that time of the loop's clock."""
        while not self._ended:
            if self._waiting:
                return self._waiting.popleft()
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                break
        return None


class EventHub:
    """One subscription to Prefect's events, for all clients of a service replica.

    It begins with the first client, and ends a while after the last one has gone. All of it but
    `close` is for one event loop.

    Args:
        backlog: How many events may wait for a client, before its stream ends.
        linger: How long the subscription outlives its last client, in seconds.
    """

    def __init__(self, *, backlog: int = BACKLOG, linger: float = LINGER_SECONDS) -> None:
        self.opened = 0  # how many subscriptions there have been
        self._backlog = backlog
        self._linger = linger
        self._clients: dict[UUID, set[Subscription]] = {}
        self._recent: deque[tuple[float, UUID, StatusChanged]] = deque(maxlen=RECENT)
        self.listens = False  # whether there is one, that hears everything
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None  # since the last client has gone
        self._limiter: CapacityLimiter | None = None
        self._closed = False

    @contextmanager
    def subscribed(self, run_id: UUID) -> Iterator[Subscription]:
        """Hear of a flow run's changes, from now on; what came just before may come, too."""
        client = Subscription(self._backlog)
        self._clients.setdefault(run_id, set()).add(client)
        try:
            self._start()
            if self._closed:
                client.end()
            if self.listens:
                self._repeat(run_id, client)
            yield client
        finally:
            self._clients[run_id].discard(client)
            if not self._clients[run_id]:
                del self._clients[run_id]
            if not self._clients and self._loop is not None:
                self._timer = self._loop.call_later(self._linger, self._stop)

    async def look(self, follower: Follower) -> list[ServerSentEvent]:
        """`Follower.look` in a thread; of many only some at once."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(LOOKS_AT_ONCE)
        return await to_thread.run_sync(follower.look, limiter=self._limiter)

    def close(self) -> None:
        """End all streams; any thread may call it.

        A server that waits for its requests to end has to call it first.
        """
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    # ------------------------------------------------------------------ the subscription

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None and not self._closed:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._listen_on())
            self._task.add_done_callback(self._stopped)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        """Let clients come back, who begin another subscription."""
        self._task = None
        self.listens = False
        self._recent.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Listening to Prefect's events has failed", exc_info=error)
        for clients in self._clients.values():
            for client in clients:
                client.end()

    async def _listen_on(self) -> None:
        """Listen, and whenever the subscription is lost, get another."""
        first, longest = _PAUSES
        pause = first
        while True:
            try:
                await self._listen()
            except _LOST as lost:
                logger.warning("Prefect's events can't be heard: %r", lost)
            pause = first if self.listens else min(2 * pause, longest)
            self.listens = False
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        stream_id = uuid4()
        async with get_events_subscriber(_filter(), reconnection_attempts=0) as events:
            self.opened += 1
            # Prefect does not say from when on it tells of events.
            announcing = asyncio.create_task(_announce(stream_id))
            try:
                async for event in events:
                    if event.event != STREAM_OPENED:
                        if (found := change_of(event)) is not None:
                            self._publish(*found)
                    elif event.resource.id == f"{STREAM}{stream_id}" and not self.listens:
                        announcing.cancel()
                        self._begin()
            finally:
                announcing.cancel()

    def _begin(self) -> None:
        """From now on all is heard: let everybody look for what was not."""
        self.listens = True
        for run_id, clients in self._clients.items():
            for client in clients:
                client.put(Gap.GAP)
                self._repeat(run_id, client)

    def _publish(self, run_id: UUID, change: Change) -> None:
        if isinstance(change, StatusChanged):
            now = asyncio.get_running_loop().time()
            while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
                self._recent.popleft()
            self._recent.append((now, run_id, change))
        if self.listens:
            for client in self._clients.get(run_id, ()):
                client.put(change)

    def _repeat(self, run_id: UUID, client: Subscription) -> None:
        for _, about, change in self._recent:
            if about == run_id:
                client.put(change)


async def _announce(stream_id: UUID) -> None:
    pause = 0.1
    while True:
        stream_opened(stream_id)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 10)


def _filter() -> EventFilter:
    return EventFilter(
        event=EventNameFilter(
            prefix=[FLOW_RUN, CHECKPOINT_SAVED, DELETED, STREAM_OPENED],
            exclude_name=["prefect.flow-run.heartbeat"],
        ),
        resource=EventResourceFilter(id_prefix=[FLOW_RUN, STREAM]),
    )


# ------------------------------------------------------------------ telling a client


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
