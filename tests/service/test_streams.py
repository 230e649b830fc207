"""The stream of an execution's events, over HTTP: nothing is lost, and nothing told twice."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from httpx_sse import ServerSentEvent, connect_sse
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry, Completed, Crashed, Failed, Running, Suspended

from prefect_executions.errors import ExecutionNotFound, StoreUnavailable
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from prefect_executions.prefect.events import send_checkpoint_saved, send_deleted
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service.problems import install
from prefect_executions.service.streams import follower, hub
from prefect_executions.service.streams import stream as streams
from prefect_executions.service.streams.follower import Follower, Position
from prefect_executions.service.streams.hub import EventHub, Subscription
from prefect_executions.service.streams.stream import LIFETIME_SECONDS, EventStream, follow
from prefect_executions.storage.objects import MemoryObjects
from world import eventually

PATIENCE = 60.0

Told = tuple[str, str]  # an event in short: its kind, and the state's name or the checkpoint's id


def by_kind(told: list[Told]) -> list[Told]:
    """Statuses keep their order, and checkpoints theirs; live, the one may overtake the other.

    Prefect's server tells of states, and the process that saved it of a checkpoint.
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
    """A hub that counts the looks that its clients take, and those that they are asked for."""

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
    """A replica of the service, that has no route but this one."""

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
        """Wait until what happens is heard as it happens, and all that came before is told."""
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
        # Browsers take a bare `retry` for no event; httpx-sse hands it on.
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
class World:
    """An execution, and what is done to it."""

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


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def executions(prefect: SyncPrefectClient) -> Executions:
    flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
    return Executions(MemoryObjects(), flow_runs, tell=lambda *_: None)  # the test tells


@pytest.fixture
def new(prefect: SyncPrefectClient, executions: Executions) -> Callable[[], World]:
    def make() -> World:
        made, _ = Creation(executions).create(name="a run")
        return World(prefect, executions, made.id)

    return make


@pytest.fixture
def world(new: Callable[[], World]) -> World:
    return new()


@pytest.fixture
def replica(executions: Executions) -> Iterator[Replica]:
    with Replica(executions) as running:
        yield running


# ------------------------------------------------------------------ what is told


def test_the_first_event_is_the_present_status(replica: Replica, world: World) -> None:
    world.save(1)
    world.set(Suspended(message="to look"))

    with replica.listen(world.id) as client:
        first = client.next()

    assert client.response.headers["content-type"].startswith("text/event-stream")
    assert client.response.headers["cache-control"] == "no-store"
    assert first == ("status", "Suspended")
    state = world.prefect.read_flow_run(world.run_id).state
    assert state is not None
    assert client.data == {
        "execution_id": world.id,
        "status": "paused",
        "state_name": "Suspended",
        "at": state.timestamp.isoformat().replace("+00:00", "Z"),
        "message": "to look",
    }


def test_what_happens_is_told_as_it_happens(replica: Replica, world: World) -> None:
    with replica.listen(world.id) as client:
        assert client.next() == ("status", "Running")
        replica.listen_live()

        saved = world.save(1)
        assert client.next() == saved
        (newest,) = world.executions.get(world.id, checkpoints=1).checkpoints
        assert datetime.fromisoformat(client.data.pop("at")) == newest.timestamp
        assert client.data == {
            "execution_id": world.id,
            "checkpoint_id": newest.id,
            "label": "n = 1",
            "attempt": 1,
            "size": newest.size,
        }
        for state in (Suspended(), AwaitingRetry(), Running(), Failed(message="no"), Running()):
            done = world.set(state)
            assert client.next() == done


def test_a_stream_outlives_the_end_and_ends_with_the_deletion(
    replica: Replica, world: World
) -> None:
    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()

        done = [world.set(Completed()), world.delete()]

        assert client.rest() == done
        assert client.data["execution_id"] == world.id


def test_a_client_hears_of_its_execution_alone(replica: Replica, new: Callable[[], World]) -> None:
    mine, other = new(), new()
    with replica.listen(mine.id) as client:
        client.next()
        replica.listen_live()

        other.save(1)
        other.set(Suspended())
        other.delete()
        done = [mine.save(1), mine.set(Suspended())]

        assert by_kind(client.take(2)) == by_kind(done)


def test_a_process_that_was_killed_has_told_of_its_last_checkpoint_all_the_same(
    replica: Replica, world: World
) -> None:
    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()

        done = [world.save(1), world.save(2, tell=False), world.set(Crashed())]

        assert by_kind(client.take(3)) == by_kind(done)


def test_an_older_checkpoint_is_no_news(replica: Replica, world: World) -> None:
    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()
        _, older = world.save(1, tell=False)
        entry = world.executions.log(world.id).head().entry

        newer = world.save(2)
        send_checkpoint_saved(world.run_id, "a run", entry)
        end = world.save(3)

        assert client.take(2) == [newer, end]
        assert older not in (newer[1], end[1])


def test_what_does_not_exist_or_is_not_seen_is_a_404(replica: Replica, world: World) -> None:
    for id_ in ("exec_none", f"exec_{uuid4().hex}"):
        with pytest.raises(AssertionError), replica.listen(id_) as client:
            assert client.response.status_code == 200
    replica.executions = replica.executions.seen_by(frozenset({"another"}))

    answer = replica._client.get(f"/{world.id}/events")

    assert answer.status_code == 404
    assert answer.json()["code"] == "execution_not_found"


def test_a_store_that_is_away_is_a_503_and_ends_a_stream(
    replica: Replica, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> Any:
        raise StoreUnavailable("list", "it is away")

    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()
        monkeypatch.setattr(MemoryObjects, "scan", away)
        crashed = world.set(Crashed())  # which needs a look

        assert client.rest() == [crashed]
    answer = replica._client.get(f"/{world.id}/events")

    assert answer.status_code == 503


def test_a_comment_keeps_a_silent_stream_alive(
    replica: Replica, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING_SECONDS", 0.05)

    with replica.listen(world.id) as client:
        lines = client.response.iter_lines()
        head = [next(lines) for _ in range(7)]

    assert head[0] == "retry: 2000"
    assert head[2].startswith("id: ")
    assert head[-1] == ": alive"


# ------------------------------------------------------------------ coming back


def test_whoever_comes_back_anywhere_with_any_id_is_told_the_rest(
    replica: Replica, executions: Executions, world: World
) -> None:
    done = [("status", "Running")]
    ids = []
    with replica.listen(world.id) as client:
        client.next()
        ids.append(client.last)
        replica.listen_live()
        acts: list[Callable[[], Told]] = [
            partial(world.save, 1),
            partial(world.set, Suspended()),
            partial(world.set, AwaitingRetry()),
            partial(world.set, Running()),
            partial(world.save, 2),
            partial(world.save, 3),
            partial(world.set, Failed()),
        ]
        for act in acts:  # live, a status may overtake a checkpoint by milliseconds
            done.append(act())
            assert client.next() == done[-1]
            ids.append(client.last)

    with Replica(executions) as other:
        for place in (replica, other):
            for n, last in enumerate(ids):
                with place.listen(world.id, last) as again:
                    assert again.take(len(done) - n - 1) == done[n + 1 :]
        with replica.listen(world.id, ids[-1]) as one, other.listen(world.id, ids[-1]) as two:
            more = [world.set(AwaitingRetry()), world.save(4)]
            assert by_kind(one.take(2)) == by_kind(two.take(2)) == by_kind(more)


def test_what_happened_while_nobody_listened_is_told(executions: Executions, world: World) -> None:
    with Replica(executions) as one, one.listen(world.id) as client:
        client.next()

    done = [world.save(1), world.set(Suspended()), world.set(AwaitingRetry())]
    done += [world.set(Running()), world.save(2)]

    # Another replica, so soon that Prefect has kept none of these events yet.
    with Replica(executions) as two, two.listen(world.id, client.last) as again:
        assert again.take(5) == done
        assert again.last != client.last


def test_of_many_missed_checkpoints_the_newest_are_told(
    replica: Replica, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "MISSED_CHECKPOINTS", 3)
    with replica.listen(world.id) as client:
        client.next()

    done = [world.save(n, tell=False) for n in range(6)]

    with replica.listen(world.id, client.last) as again:
        assert again.take(3) == done[-3:]


def test_a_foreign_id_begins_anew(replica: Replica, world: World) -> None:
    for last in ("7", "1-2-3", f"{'9' * 30}-{uuid4().hex}-1"):
        with replica.listen(world.id, last) as client:
            assert client.next() == ("status", "Running")


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)),
    st.uuids(),
    st.integers(0, 999_999_999),
)
def test_a_position_is_read_as_it_was_written(at: datetime, state_id: UUID, seq: int) -> None:
    position = Position(at.replace(tzinfo=UTC), state_id, seq)

    if (position.at - datetime(1970, 1, 1, tzinfo=UTC)) < timedelta(days=1_000_000):
        assert Position.of(f"{position}") == position


def test_a_stream_lasts_no_longer_than_it_may(replica: Replica, world: World) -> None:
    replica.lifetime = 0.0

    with replica.listen(world.id) as client:
        assert client.rest() == [("status", "Running")]
    done = world.save(1)
    with replica.listen(world.id, client.last) as again:
        assert again.rest() == [done]


def test_a_client_that_is_too_slow_is_sent_away_and_gets_all_when_it_comes_back(
    stack: Stack, world: World
) -> None:
    async def listen() -> tuple[list[Any], list[Any], list[Told]]:
        hub = EventHub(backlog=8)
        slow = follow(hub, world.executions, world.id)
        quick = follow(hub, world.executions, world.id)
        got = [await anext(slow), await anext(slow)]
        heard = [await anext(quick), await anext(quick)]
        while not hub.listens:
            await asyncio.sleep(0.01)
        done = []
        for n in range(12):
            done.append(await asyncio.to_thread(world.save, n))
            heard.append(await anext(quick))
        got += [event async for event in slow]
        last = got[-1].id
        again = follow(hub, world.executions, world.id, last)
        back = [await anext(again) for _ in range(1 + len(done))]
        for stream in (quick, again):
            await stream.aclose()
        hub.close()
        return got, back, done

    got, back, done = asyncio.run(listen())

    assert len(got) == 2  # `retry`, and the present status
    assert [json.loads(event.data)["checkpoint_id"] for event in back[1:]] == [
        id_ for _, id_ in done
    ]


# ------------------------------------------------------------------ the subscription


class Wire:
    """Stands between a replica and Prefect, and can be cut.

    Attributes:
        subscriptions: How often somebody has subscribed to events.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._target = parts.hostname, parts.port or 80
        self.subscriptions = 0
        self.is_cut = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for pair in self._pairs:
            for end in pair:
                shut(end)
        self._pairs.clear()

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        shut(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._pairs.append((client, server))
            for source, sink in ((client, server), (server, client)):
                Thread(target=self._pump, args=(source, sink, sink is server), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_request and b"/events/out HTTP" in data:
                    self.subscriptions += 1
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            shut(end)


def shut(end: socket.socket) -> None:
    """Close a socket that another thread may be waiting for."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@pytest.fixture
def wire(stack: Stack) -> Iterator[Wire]:
    wire = Wire(str(PREFECT_API_URL.value()))
    yield wire
    wire.close()


@pytest.fixture
def wired(wire: Wire, executions: Executions) -> Iterator[Replica]:
    """A replica whose events come by the wire; what it asks does not."""
    with (
        temporary_settings({PREFECT_API_URL: wire.url}),
        Replica(executions, linger=0.0) as replica,
    ):
        yield replica


def test_fifty_clients_need_one_subscription(
    wire: Wire, wired: Replica, new: Callable[[], World]
) -> None:
    worlds = [new() for _ in range(5)]
    with ExitStack() as stack:
        clients = [
            (world, stack.enter_context(wired.listen(world.id)))
            for world in worlds
            for _ in range(10)
        ]
        for _, client in clients:
            client.next()
        wired.listen_live()

        done = {world.id: [world.save(1), world.set(Suspended())] for world in worlds}

        for world, client in clients:
            assert by_kind(client.take(2)) == by_kind(done[world.id])
        assert wire.subscriptions == 1


def test_nothing_is_lost_while_the_subscription_is(
    wire: Wire, wired: Replica, world: World
) -> None:
    with wired.listen(world.id) as client:
        client.next()
        wired.listen_live()

        wire.cut()
        done = [world.save(1), world.set(Suspended()), world.set(Running()), world.save(2)]
        wire.mend()

        assert client.take(4) == done
        wired.listen_live()
        last = world.set(Suspended())
        assert client.next() == last
        assert wire.subscriptions == 2


def test_a_deletion_while_the_subscription_is_lost_is_the_last_event_all_the_same(
    wire: Wire, wired: Replica, world: World
) -> None:
    with wired.listen(world.id) as client:
        client.next()
        wired.listen_live()

        wire.cut()
        world.delete()
        wire.mend()

        assert client.rest() == [("deleted", "")]


def test_a_client_is_told_the_present_while_prefects_events_are_away(
    wire: Wire, wired: Replica, world: World
) -> None:
    wire.cut()
    with wired.listen(world.id) as client:
        assert client.next() == ("status", "Running")
        done = [world.save(1), world.set(Suspended())]
        wire.mend()
        assert client.take(2) == done


def test_the_subscription_ends_after_the_last_client(
    wire: Wire, wired: Replica, world: World
) -> None:
    for n in (1, 2):
        with wired.listen(world.id) as client:
            client.next()
            wired.listen_live()
            assert wire.subscriptions == n
        eventually(lambda: not wired.hub.listens, "the hub rests", PATIENCE)


def test_a_server_that_closes_its_hub_does_not_wait_for_its_clients(
    executions: Executions, world: World
) -> None:
    with ExitStack() as stack:
        with Replica(executions) as replica:
            client = stack.enter_context(replica.listen(world.id))
            client.next()
        assert client.rest() == []


def test_a_failure_that_was_not_foreseen_lets_clients_come_back(
    replica: Replica, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise Exception("Unable to authenticate")

    with monkeypatch.context() as patched:
        patched.setattr(hub, "get_events_subscriber", broken)
        with replica.listen(world.id) as client:
            assert client.rest() in ([("status", "Running")], [])
    with replica.listen(world.id, client.last) as client:
        replica.listen_live()


def test_the_deleted_can_not_be_followed(stack: Stack, world: World) -> None:
    async def listen() -> None:
        hub = EventHub()
        try:
            await anext(follow(hub, world.executions, world.id))
        finally:
            hub.close()

    world.delete()

    with pytest.raises(ExecutionNotFound):
        asyncio.run(listen())
