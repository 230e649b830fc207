"""Replicas of the service with streams, and clients that listen to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from operator import itemgetter
from threading import Event, Thread
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from fastapi import FastAPI, Request
from httpx_sse import ServerSentEvent, connect_sse
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State

from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.events import send_checkpoint_saved, send_deleted
from prefect_executions.service.problems import install
from prefect_executions.service.streams.follower import Follower
from prefect_executions.service.streams.hub import EventHub, Subscription
from prefect_executions.service.streams.stream import LIFETIME_SECONDS, EventStream
from world import eventually

PATIENCE = 60.0
Told = tuple[str, str]  # an event in short: its kind, and the state's name or the checkpoint's id


def by_kind(told: list[Told]) -> list[Told]:
    """Sort by kind: a status and a checkpoint may overtake each other in a live stream.

    Prefect's server sends the events of states, and the saving process those of checkpoints.
    """
    return sorted(told, key=itemgetter(0))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class Looking(EventHub):
    """A hub that counts the calls of `look`, and those that are still expected."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked = self.looked = 0

    @contextmanager
    def subscribed(self, run_id: UUID) -> Iterator[Subscription]:
        self.asked += 1
        with super().subscribed(run_id) as news:
            yield news

    async def look(self, follower: Follower) -> list[ServerSentEvent]:
        try:
            return await super().look(follower)
        finally:
            self.looked += 1

    def _begin(self) -> None:
        self.asked += sum(map(len, self._clients.values()))
        super()._begin()


class Replica:
    """A replica of the service with this one route."""

    def __init__(self, executions: Executions, **hub: Any) -> None:
        self.executions = executions
        self.hub = Looking(**hub)
        self.lifetime = LIFETIME_SECONDS
        app = FastAPI()
        install(app)

        @app.get("/{execution_id}/events")
        def events(execution_id: str, request: Request) -> EventStream:
            last = request.headers.get("last-event-id")
            return EventStream(
                self.hub, self.executions, execution_id, last, lifetime=self.lifetime
            )

        self.server = _Server(uvicorn.Config(app, port=0, log_config=None))

    def __enter__(self) -> "Replica":
        run = copy_context().run
        self._thread = Thread(target=run, args=(self.server.run,), daemon=True)
        self._thread.start()
        assert self.server.ready.wait(PATIENCE)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=PATIENCE,
            limits=httpx.Limits(max_connections=None),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.close()
        self.server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @contextmanager
    def listen(self, id_: str, last: str | None = None) -> Iterator["Listener"]:
        headers = {"Last-Event-ID": last} if last else {}
        with connect_sse(self._client, "GET", f"/{id_}/events", headers=headers) as source:
            yield Listener(source.response, source.iter_sse())

    def listen_live(self) -> None:
        """Wait until the hub listens, and all earlier events have been sent."""
        hub = self.hub
        settled = lambda: hub.listens and hub.looked >= hub.asked  # noqa: E731
        eventually(settled, "the hub listens", PATIENCE)


@dataclass
class Listener:
    """A client of a stream."""

    response: httpx.Response
    events: Iterator[ServerSentEvent]
    last: str | None = None

    def next(self) -> Told:
        # A bare `retry` is no event in browsers, but it is one in httpx-sse.
        event = next(event for event in self.events if event.data)
        self.last = event.id
        data = event.json()
        self.data = data
        if event.event == "checkpoint":
            return "checkpoint", data["checkpoint_id"]
        return event.event, data.get("state_name", "")

    def take(self, count: int) -> list[Told]:
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Told]:
        told = []
        while True:
            try:
                told.append(self.next())
            except StopIteration:
                return told


@dataclass
class Followed:
    """An execution that a test changes."""

    prefect: SyncPrefectClient
    executions: Executions
    id: str

    @property
    def run_id(self) -> UUID:
        return flow_run_id(self.id)

    def set(self, state: State[Any]) -> Told:
        self.prefect.set_flow_run_state(self.run_id, state, force=True)
        return "status", str(state.name)

    def save(self, n: int, *, tell: bool = True) -> Told:
        self.executions.checkpoint(self.id, state={"n": n}, label=f"n = {n}")
        entry = self.executions.log(self.id).head().entry
        if tell:
            send_checkpoint_saved(self.run_id, "a run", entry)
        return "checkpoint", f"ckpt_{entry.seq:06d}"

    def delete(self, *, tell: bool = True) -> Told:
        self.executions.delete(self.id)
        if tell:
            send_deleted(self.run_id, "a run")
        return "deleted", ""
