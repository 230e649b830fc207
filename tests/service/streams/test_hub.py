"""The subscription that all streams share."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running, Suspended

from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack
from prefect_executions.service.streams import hub
from prefect_executions.service.streams.hub import EventHub
from prefect_executions.service.streams.stream import follow
from streaming import PATIENCE, Followed, Replica, Told, by_kind
from world import eventually


def test_a_client_that_is_too_slow_is_sent_away_and_gets_all_when_it_comes_back(
    stack: Stack, world: Followed
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


class Wire:
    """A connection between a replica and Prefect that can be cut.

    Attributes:
        subscriptions: How often the replica has subscribed to events.
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
    """A replica that receives events by the wire, but sends requests directly."""
    with (
        temporary_settings({PREFECT_API_URL: wire.url}),
        Replica(executions, linger=0.0) as replica,
    ):
        yield replica


def test_fifty_clients_need_one_subscription(
    wire: Wire, wired: Replica, new: Callable[[], Followed]
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
    wire: Wire, wired: Replica, world: Followed
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
    wire: Wire, wired: Replica, world: Followed
) -> None:
    with wired.listen(world.id) as client:
        client.next()
        wired.listen_live()

        wire.cut()
        world.delete()
        wire.mend()

        assert client.rest() == [("deleted", "")]


def test_a_client_is_told_the_present_while_prefects_events_are_away(
    wire: Wire, wired: Replica, world: Followed
) -> None:
    wire.cut()
    with wired.listen(world.id) as client:
        assert client.next() == ("status", "Running")
        done = [world.save(1), world.set(Suspended())]
        wire.mend()
        assert client.take(2) == done


def test_the_subscription_ends_after_the_last_client(
    wire: Wire, wired: Replica, world: Followed
) -> None:
    for n in (1, 2):
        with wired.listen(world.id) as client:
            client.next()
            wired.listen_live()
            assert wire.subscriptions == n
        eventually(lambda: not wired.hub.listens, "the hub rests", PATIENCE)


def test_a_server_that_closes_its_hub_does_not_wait_for_its_clients(
    executions: Executions, world: Followed
) -> None:
    with ExitStack() as stack:
        with Replica(executions) as replica:
            client = stack.enter_context(replica.listen(world.id))
            client.next()
        assert client.rest() == []


def test_a_failure_that_was_not_foreseen_lets_clients_come_back(
    replica: Replica, world: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise Exception("Unable to authenticate")

    with monkeypatch.context() as patched:
        patched.setattr(hub, "get_events_subscriber", broken)
        with replica.listen(world.id) as client:
            assert client.rest() in ([("status", "Running")], [])
    with replica.listen(world.id, client.last) as client:
        replica.listen_live()
