"""One subscription to Prefect's events, shared by all streams."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from uuid import UUID, uuid4

from anyio import CapacityLimiter, to_thread
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from sse_starlette import ServerSentEvent
from websockets.exceptions import WebSocketException

from prefect_executions.prefect.changes import Change, StatusChanged, change_of
from prefect_executions.prefect.events import (
    CHECKPOINT_SAVED,
    DELETED,
    FLOW_RUN,
    PREFECT_HEARTBEAT,
    STREAM,
    STREAM_OPENED,
    send_stream_opened,
)
from prefect_executions.service.streams.follower import Follower

logger = logging.getLogger(__name__)

BACKLOG = 100  # how many events may wait for a client
LINGER_SECONDS = 60.0  # how long the subscription outlives its last client
LOOKS_AT_ONCE = 8

# Prefect sends the event of a state a few milliseconds before the state can be read. A client that
# comes in between would miss both, so recent events are repeated to it.
RECENT_SECONDS = 5.0
RECENT = 10_000

_PAUSES = (0.5, 30.0)  # between two tries to subscribe: the first, and the longest
_LOST = (OSError, WebSocketException)  # errors of a subscription that was lost or refused


class Gap(Enum):
    """Events may have been missed: call `look`."""

    GAP = "gap"


class Subscription:
    """The changes that wait for one client.

    Args:
        backlog: How many may wait; with more, the subscription ends.
    """

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._waiting: deque[Change | Gap] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, change: Change | Gap) -> None:
        """Add a change, or end when the client is too slow."""
        if len(self._waiting) >= self._backlog:
            logger.info("A client is too slow: its stream ends")
            self.end()
        self._waiting.append(change)
        self._changed.set()

    def end(self) -> None:
        """End, and drop what waits: the client reconnects and reads it then."""
        self._ended = True
        self._changed.set()

    async def next(self, until: float) -> Change | Gap | None:
        """The next change; None at the end, or at `until` by the loop's clock."""
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

    It begins with the first client, and ends a while after the last one has left. Only `close` may
    be called from another thread than the event loop's.

    Args:
        backlog: How many events may wait for a client, before its stream ends.
        linger: How long the subscription outlives its last client, in seconds.

    Attributes:
        listens: Whether the subscription is open, and receives all events.
    """

    def __init__(self, *, backlog: int = BACKLOG, linger: float = LINGER_SECONDS) -> None:
        self._backlog = backlog
        self._linger = linger
        self._clients: dict[UUID, set[Subscription]] = {}
        self._recent: deque[tuple[float, UUID, StatusChanged]] = deque(maxlen=RECENT)
        self.listens = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None  # since the last client has left
        self._limiter: CapacityLimiter | None = None
        self._closed = False

    @property
    def clients(self) -> int:
        """The number of clients."""
        return sum(map(len, self._clients.values()))

    @contextmanager
    def subscribed(self, run_id: UUID) -> Iterator[Subscription]:
        """Subscribe to the changes of a flow run; recent ones may be repeated."""
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
        """Call `Follower.look` in a thread, only a few at once."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(LOOKS_AT_ONCE)
        return await to_thread.run_sync(follower.look, limiter=self._limiter)

    def close(self) -> None:
        """End all streams; any thread may call it.

        A server that waits for its open requests must call it first.
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
        """End all streams, so that clients reconnect and begin another subscription."""
        self._task = None
        self.listens = False
        self._recent.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Listening to Prefect's events has failed", exc_info=error)
        for clients in self._clients.values():
            for client in clients:
                client.end()

    async def _listen_on(self) -> None:
        """Listen, and subscribe again whenever the subscription is lost."""
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
            # Prefect does not say when a subscription begins, so events of our own mark it.
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
        """The subscription is open: let every client read what it may have missed."""
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
        send_stream_opened(stream_id)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 10)


def _filter() -> EventFilter:
    return EventFilter(
        event=EventNameFilter(
            prefix=[FLOW_RUN, CHECKPOINT_SAVED, DELETED, STREAM_OPENED],
            exclude_name=[PREFECT_HEARTBEAT],
        ),
        resource=EventResourceFilter(id_prefix=[FLOW_RUN, STREAM]),
    )
