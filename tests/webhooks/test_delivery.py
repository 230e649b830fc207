"""Webhooks: the block, what may be reached, and deliveries from a real Prefect server."""

import json
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, Pending, Running, Scheduled, Suspended
from prefect.utilities.dispatch import lookup_type
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from block_suite import BlockSuite
from prefect_executions.blocks.documents import documents_of, write
from prefect_executions.blocks.webhook import ExecutionWebhook, new_secret
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack, free_ports
from prefect_executions.prefect.states import CREATING
from prefect_executions.prefect.tags import tags_of
from prefect_executions.webhooks.delivery import Timing
from prefect_executions.webhooks.dispatcher import Dispatcher, deliver
from prefect_executions.webhooks.lease import Lease
from prefect_executions.webhooks.post import Undelivered, is_public, post
from world import eventually

PATIENCE = 30.0
PACE = Timing(
    look=0.1,
    look_back_every=0.5,
    first_retry=0.05,
    longest_retry=0.2,
    timeout=5,
    save=0,
    term=6,
)


# ---------------------------------------------------------------------- a receiver


@dataclass
class Got:
    """A request that a receiver has got."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def state(self) -> str:
        return str(self.json["data"]["state_name"])


@dataclass
class Receiver:
    """A real HTTP server that answers as it is told, and 204 otherwise."""

    url: str
    answers: deque[int] = field(default_factory=deque)
    got: Queue[Got] = field(default_factory=Queue)
    open: Event = field(default_factory=Event)  # whether it answers at all

    def next(self, count: int = 1) -> list[Got]:
        return [self.got.get(timeout=PATIENCE) for _ in range(count)]

    def rest(self) -> list[Got]:
        found = []
        while True:
            try:
                found.append(self.got.get_nowait())
            except Empty:
                return found


@contextmanager
def receiving(address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.got.put(Got(headers, body))
            made.open.wait(PATIENCE)
            status = made.answers.popleft() if made.answers else 204
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("location", f"{made.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    port = server.server_address[1]
    made = Receiver(f"{'https' if tls else 'http'}://{address}:{port}/hook?a=b")
    made.open.set()
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        made.open.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


# ---------------------------------------------------------------------- the block


class TestExecutionWebhook(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return ExecutionWebhook


def test_the_block_type_is_known_by_its_slug() -> None:
    assert lookup_type(Block, "execution-webhook") is ExecutionWebhook


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "example.com/hook"}, "url"),
        ({"url": "http:///hook"}, "url"),
        ({"url": "http://0177.0.0.1/hook"}, "url"),
        ({"url": "http://１２７.0.0.1/hook"}, "url"),  # noqa: RUF001
        ({"url": "https://me:secret@example.com"}, "leave them out"),
        ({"secret": "whsec_c2hvcnQ="}, "secret"),
        ({"secret": "whsec_not base64, is it"}, "secret"),
        ({"secret": new_secret().removeprefix("whsec_")}, "secret"),
        ({"events": []}, "events"),
        ({"events": ["heartbeat"]}, "events"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ExecutionWebhook.model_validate({"url": "https://example.com", **wrong})


def test_a_secret_is_made_and_not_shown() -> None:
    one, other = (ExecutionWebhook(url="https://example.com") for _ in range(2))

    secret = one.secret.get_secret_value()
    assert secret != other.secret.get_secret_value()
    assert Webhook(secret).sign("id", datetime.now(UTC), "{}").startswith("v1,")
    assert secret not in repr(one) + one.model_dump_json()


def test_saving_a_block_again_leaves_what_the_service_has_written(stack: Stack) -> None:
    name = f"hook-{uuid4().hex}"
    secret = new_secret()
    old = ExecutionWebhook.model_validate({"url": "https://a.example", "secret": secret})
    id_ = old.save(name)
    assert isinstance(id_, UUID)
    until, done = datetime(2026, 11, 24, tzinfo=UTC), uuid4()
    with get_client(sync_client=True) as client:
        write(client, id_, delivered_until=until.isoformat(), delivered=[done.hex])
    loaded = ExecutionWebhook.load(name)
    assert isinstance(loaded, ExecutionWebhook)
    assert loaded.delivered_until == until

    new = ExecutionWebhook.model_validate({"url": "https://b.example", "secret": secret})
    new.save(name, overwrite=True)

    loaded = ExecutionWebhook.load(name)
    assert isinstance(loaded, ExecutionWebhook)
    assert loaded.url == "https://b.example"
    assert loaded.secret.get_secret_value() == secret
    assert (loaded.delivered_until, loaded.delivered) == (until, [done])
    ExecutionWebhook.delete(name)


# ---------------------------------------------------------------------- what may be reached


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",  # metadata of clouds
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:c0a8:101::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "100::1",
        "5f00::1",
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_public(address)


def send(url: str, **how: Any) -> int:
    secret = new_secret()
    return post(url, **{"message_id": "m", "body": "{}", "secret": secret, "timeout": 5, **how})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ],
)
def test_nobody_reaches_loopback_by_another_spelling(host: str, receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", host)

    with pytest.raises(Undelivered, match="not a public address"):
        send(url)

    assert receiver.rest() == []


def test_one_private_address_among_public_ones_is_refused(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "hooks.example")

    with pytest.raises(Undelivered, match=r"10\.0\.0\.1 is not a public address"):
        send(url, resolve=lambda _host, _port: ["93.184.216.34", "10.0.0.1"])


def test_what_was_checked_is_what_is_connected_to(receiver: Receiver) -> None:
    """A name that resolves to something else the second time gains nothing."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    checked = []

    def may_reach(address: str) -> bool:
        checked.append(address)
        return True

    url = receiver.url.replace("127.0.0.1", "hooks.example")
    status = send(url, resolve=lambda _host, _port: next(answers), may_reach=may_reach)

    assert status == 204
    assert checked == ["127.0.0.1"]
    assert next(answers) == ["127.0.0.2"]  # nobody has asked again
    [got] = receiver.next()
    assert got.headers["host"].startswith("hooks.example:")


def test_the_next_address_is_tried(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "hooks.example")

    status = send(
        url, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"], may_reach=lambda _: True
    )

    assert status == 204


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers.append(307)

    assert send(receiver.url, may_reach=lambda _: True) == 307

    assert len(receiver.rest()) == 1


def test_proxies_of_the_environment_are_not_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, receiver.url)

    with pytest.raises(Undelivered, match="Connect"):
        send(f"http://127.0.0.1:{free_ports(1)}", may_reach=lambda _: True)

    assert receiver.rest() == []


@pytest.mark.parametrize("url", ["http://nowhere.invalid", f"http://{'a' * 70}.example"])
def test_a_name_that_is_not_known_is_an_ordinary_failure(url: str) -> None:
    with pytest.raises(Undelivered, match="the name can't be resolved"):
        send(url)


def test_a_receiver_that_drips_ends_with_the_timeout() -> None:
    done = Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the other side goes first
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not done.wait(0.05):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = monotonic()
        with pytest.raises(Undelivered, match="Timeout"):
            send(url, may_reach=lambda _: True, timeout=0.5)
        assert monotonic() - began < 5
        done.set()
        thread.join()


def certificate(host: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS of a server of this name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    server, client = certificate("hooks.example", tmp_path)
    how: dict[str, Any] = {
        "resolve": lambda _host, _port: ["127.0.0.1"],
        "may_reach": lambda _: True,
        "tls": client,
    }
    with receiving(tls=server) as receiver:
        url = receiver.url.replace("127.0.0.1", "hooks.example")
        assert send(url, **how) == 204

        with pytest.raises(Undelivered, match="certificate verify failed"):
            send(url.replace("hooks", "other"), **how)
        with pytest.raises(Undelivered, match="certificate verify failed"):
            send(url, **how | {"tls": None})


# ---------------------------------------------------------------------- one at a time


class Hands:
    """A clock that goes on when it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def claims(prefect: SyncPrefectClient) -> Callable[[Hands], Lease]:
    name = f"claim-{uuid4().hex}"
    return lambda hands: Lease(prefect, name, term=30, clock=hands)


def test_one_of_many_holds_the_lease(claims: Callable[[Hands], Lease]) -> None:
    leases = [claims(Hands()) for _ in range(4)]

    assert [lease.hold() for lease in leases] == [True, False, False, False]
    assert [lease.held for lease in leases] == [True, False, False, False]


def test_a_lease_that_is_released_is_free_at_once(claims: Callable[[Hands], Lease]) -> None:
    one, other = claims(Hands()), claims(Hands())
    one.hold()
    assert not other.hold()

    one.release()

    assert other.hold()
    assert not one.hold()


def test_a_lease_that_is_renewed_stays(claims: Callable[[Hands], Lease]) -> None:
    hands = Hands()
    one, other = claims(hands), claims(hands)
    for _ in range(20):
        hands.now += 10
        assert one.hold()
        assert not other.hold()


def test_a_holder_that_has_died_blocks_the_others_for_one_term(
    claims: Callable[[Hands], Lease],
) -> None:
    hands = Hands()
    dead, *others = (claims(hands) for _ in range(4))
    dead.hold()
    assert not any(lease.hold() for lease in others)
    hands.now += 29
    assert not any(lease.hold() for lease in others)
    assert not dead.held  # by then it has stopped, if it lives

    hands.now += 2

    assert [lease.hold() for lease in others] == [True, False, False]
    assert not dead.hold()
    assert others[0].hold()


def test_a_holder_whose_lease_was_deleted_takes_another(
    claims: Callable[[Hands], Lease], prefect: SyncPrefectClient
) -> None:
    """In the UI anybody may."""
    hands = Hands()
    lease = claims(hands)
    lease.hold()
    prefect.delete_global_concurrency_limit_by_name(lease._name)
    hands.now += 10

    assert not lease.hold()
    assert lease.hold()


# ---------------------------------------------------------------------- deliveries


class World:
    """Flow runs that are executions in a store of their own, webhooks for it, and deliverers."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.store = uuid4().hex
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = prefect.create_deployment(flow_id, "idle")
        self.running: list[tuple[Event, Thread]] = []
        self.names: list[str] = []

    def webhook(self, receiver: Receiver, **fields: Any) -> ExecutionWebhook:
        webhook = ExecutionWebhook.model_validate(
            {
                "url": receiver.url,
                "allow_private_addresses": True,
                "store": self.store,
                **fields,
            }
        )
        self.names.append(f"hook-{uuid4().hex}")
        webhook.save(self.names[-1])
        return webhook

    def seen(self) -> ExecutionWebhook:
        """The newest webhook, as it is saved."""
        loaded = ExecutionWebhook.load(self.names[-1])
        assert isinstance(loaded, ExecutionWebhook)
        return loaded

    def create(self, *tags: str, first: State[Any] | None = None) -> FlowRun:
        return self.prefect.create_flow_run_from_deployment(
            self.deployment,
            state=first or Pending(name=CREATING),
            tags=[*tags_of(self.store), *tags],
        )

    def set(self, run: FlowRun, *states: State[Any]) -> None:
        for state in states:
            self.prefect.set_flow_run_state(run.id, state, force=True)

    def deliverer(self, **pace: Any) -> Dispatcher:
        return Dispatcher(self.prefect, store=self.store, pace=replace(PACE, **pace))

    def start(self, **pace: Any) -> tuple[Event, Thread]:
        stop = Event()
        run = self.deliverer(**pace).run
        thread = Thread(target=copy_context().run, args=(run, stop))
        thread.start()
        self.running.append((stop, thread))
        return stop, thread

    def stop(self) -> None:
        for stop, _ in self.running:
            stop.set()
        for _, thread in self.running:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.running.clear()


@pytest.fixture
def here(prefect: SyncPrefectClient) -> Iterator[World]:
    world = World(prefect)
    yield world
    world.stop()
    for name in world.names:
        ExecutionWebhook.delete(name)


def save_checkpoint(run: FlowRun, **fields: Any) -> None:
    """What a process says that has saved one."""
    emit_event(
        "prefect-executions.checkpoint.saved",
        resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        payload={
            "execution_id": execution_id(run.id),
            "checkpoint_id": "ckpt_000007",
            "label": "seven",
            "attempt": 2,
            "size": 70,
        },
        **fields,
    )


def states(got: list[Got]) -> list[str]:
    return [each.state for each in got]


def test_status_changes_are_delivered_in_order_and_signed(here: World, receiver: Receiver) -> None:
    webhook = here.webhook(receiver)
    here.start()
    run = here.create()

    here.set(run, Scheduled(), Pending(), Running(), Suspended(message="look here"), Completed())

    got = receiver.next(5)
    assert states(got) == ["Scheduled", "Pending", "Running", "Suspended", "Completed"]
    assert [each.json["data"]["status"] for each in got] == [
        *["running", "running", "running"],
        *["paused", "completed"],
    ]
    assert got[3].json["type"] == "execution.status"
    assert got[3].json["data"] == {
        "execution_id": execution_id(run.id),
        "status": "paused",
        "previous_status": "running",
        "state_name": "Suspended",
        "message": "look here",
    }
    assert datetime.fromisoformat(got[3].json["timestamp"]).tzinfo is not None
    assert len({each.id for each in got}) == 5
    for each in got:
        Webhook(webhook.secret.get_secret_value()).verify(each.body, each.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(new_secret()).verify(each.body, each.headers)


def test_only_what_is_asked_for_is_delivered(here: World, receiver: Receiver) -> None:
    here.webhook(receiver, events=["checkpoint"], agents=["one", "two"])
    here.start()
    ours, other = here.create("agent:one"), here.create("agent:three")
    foreign = here.prefect.create_flow_run_from_deployment(
        here.deployment, tags=["execution", "agent:one", "execution-store:another"]
    )
    here.set(ours, Running())

    for run in (other, foreign, ours):
        save_checkpoint(run)

    [got] = receiver.next()
    assert got.json["type"] == "execution.checkpoint"
    assert got.json["data"] == {
        "execution_id": execution_id(ours.id),
        "checkpoint_id": "ckpt_000007",
        "label": "seven",
        "attempt": 2,
        "size": 70,
    }
    here.stop()
    assert receiver.rest() == []


def test_what_comes_late_into_prefect_is_delivered_late(here: World, receiver: Receiver) -> None:
    here.webhook(receiver, events=["status", "checkpoint"])
    run = here.create()
    before = datetime.now(UTC)
    here.start(glance_back=0)
    here.set(run, Running())
    receiver.next()

    save_checkpoint(run, occurred=before)

    [got] = receiver.next()
    assert got.json["type"] == "execution.checkpoint"
    assert datetime.fromisoformat(got.json["timestamp"]) == before


def test_what_was_before_the_webhook_is_not_delivered(here: World, receiver: Receiver) -> None:
    run = here.create()
    here.set(run, Running())
    here.webhook(receiver)
    here.start()

    here.set(run, Completed())

    assert states(receiver.next()) == ["Completed"]


def test_a_run_that_the_service_did_not_create_is_told_about_as_it_begins(
    here: World, receiver: Receiver
) -> None:
    """Prefect's events go on without the tags that the run has got meanwhile."""
    here.webhook(receiver)
    here.start()
    run = here.prefect.create_flow_run_from_deployment(here.deployment, state=Scheduled())
    here.set(run, Running())
    events = EventFilter(resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]))
    eventually(
        lambda: here.prefect.read_events(events, limit=1).total == 2, "Prefect keeps both events"
    )

    here.prefect.update_flow_run(run.id, tags=tags_of(here.store))
    here.set(run, Completed())

    seen: set[str] = set()
    while not seen >= {"Running", "Completed"}:
        seen |= set(states(receiver.next()))


def test_what_is_refused_is_tried_again_before_anything_else(
    here: World, receiver: Receiver
) -> None:
    here.webhook(receiver)
    here.start()
    receiver.answers.extend([500, 302, 404, 200])

    here.set(here.create(), Running(), Completed())

    got = receiver.next(5)
    assert states(got) == ["Running"] * 4 + ["Completed"]
    assert len({each.id for each in got}) == 2
    assert len({each.body for each in got}) == 2


def test_a_receiver_that_is_down_is_not_in_the_others_way(here: World, receiver: Receiver) -> None:
    here.webhook(receiver)
    down = f"http://127.0.0.1:{free_ports(1)}"
    here.webhook(replace(receiver, url=down))
    here.start()

    here.set(here.create(), Running(), Completed())

    assert states(receiver.next(2)) == ["Running", "Completed"]
    here.stop()
    assert here.seen().delivered == []


def test_a_receiver_that_is_repaired_is_tried_at_once(here: World, receiver: Receiver) -> None:
    down = f"http://127.0.0.1:{free_ports(1)}"
    here.webhook(replace(receiver, url=down))
    with receiving() as other:
        here.webhook(other)
        here.start(first_retry=3_600, longest_retry=3_600)
        here.set(here.create(), Running())
        other.next()  # and so the first one was tried, or is about to be
    broken = ExecutionWebhook.load(here.names[0])
    assert isinstance(broken, ExecutionWebhook)

    broken.url = receiver.url
    broken.save(overwrite=True)

    assert states(receiver.next()) == ["Running"]


def test_what_was_missed_is_delivered_by_the_next_deliverer(
    here: World, receiver: Receiver
) -> None:
    here.webhook(receiver)
    run = here.create()
    here.set(run, Running())
    here.start()
    receiver.next()
    here.stop()
    here.set(run, Suspended(), Completed())

    here.start()

    assert states(receiver.next(2)) == ["Suspended", "Completed"]
    here.stop()
    assert receiver.rest() == []


def test_a_deliverer_that_is_stopped_in_mid_way_repeats_nothing_but_what_failed(
    here: World, receiver: Receiver
) -> None:
    here.webhook(receiver)
    receiver.answers.extend([200, *[500] * 1_000])
    here.start()
    here.set(here.create(), Running(), Suspended(), Completed())
    first, failed = receiver.next(2)
    here.stop()
    repeated = {each.id for each in receiver.rest()}
    receiver.answers.clear()

    here.start()

    again, last = receiver.next(2)
    assert (first.state, failed.state, last.state) == ("Running", "Suspended", "Completed")
    assert {again.id} | repeated == {failed.id}
    assert again.body == failed.body


def test_a_deliverer_that_is_killed_repeats_itself_with_the_same_ids(
    here: World, receiver: Receiver, prefect: SyncPrefectClient
) -> None:
    here.webhook(receiver)
    killed = here.deliverer(save=3_600, save_idle=3_600, term=60)
    killed.look()
    here.set(here.create(), Running(), Completed())
    first = receiver.next(2)
    for courier in killed._couriers.values():  # as if the process was gone: no last save
        courier._save = lambda **_: None  # type: ignore[method-assign]
        courier.end()
        courier.join(PATIENCE)

    here.start()

    again = receiver.next(2)
    assert [(each.id, each.body) for each in again] == [(each.id, each.body) for each in first]


def test_of_two_deliverers_one_delivers(here: World, receiver: Receiver) -> None:
    here.webhook(receiver)
    for _ in range(3):
        here.start()
    run = here.create()

    here.set(run, Running(), Suspended(), Running(), Completed())

    got = receiver.next(4)
    assert states(got) == ["Running", "Suspended", "Running", "Completed"]
    stop, thread = here.running.pop(0)  # whichever of them that is
    stop.set()
    thread.join(PATIENCE)
    here.set(run, Running())
    assert states(receiver.next()) == ["Running"]
    here.stop()
    assert receiver.rest() == []


def test_a_receiver_that_is_gone_turns_the_webhook_off(here: World, receiver: Receiver) -> None:
    here.webhook(receiver)
    here.start()
    receiver.answers.append(410)

    here.set(here.create(), Running(), Completed())

    eventually(lambda: not here.seen().enabled, "it is turned off")
    here.stop()
    assert states(receiver.rest()) == ["Running"]
    assert here.seen().url == receiver.url


def test_a_webhook_that_was_turned_off_as_it_was_read_gets_no_other_courier(
    here: World, receiver: Receiver
) -> None:
    here.webhook(receiver)
    deliverer = here.deliverer()
    deliverer.look()
    read = documents_of(here.prefect, "execution-webhook", include_secrets=True)
    receiver.answers.append(410)
    here.set(here.create(), Running())
    [courier] = deliverer._couriers.values()
    eventually(lambda: not courier.is_alive, "it is turned off")

    with patch("prefect_executions.webhooks.dispatcher.documents_of", return_value=read):
        deliverer.look()

    assert not deliverer._couriers
    assert not here.seen().enabled


def test_what_is_too_old_is_dropped(
    here: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    here.webhook(receiver)
    receiver.answers.append(503)
    here.start(give_up=0)

    here.set(here.create(), Running(), Completed())

    got = receiver.next(2)
    assert states(got) == ["Running", "Completed"]
    assert f"dropped {got[0].id} after 1 tries: 503" in caplog.text


def test_loopback_is_not_reached_unless_the_block_allows_it(
    here: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    here.webhook(receiver, allow_private_addresses=False)
    here.start()

    here.set(here.create(), Running())

    eventually(lambda: "127.0.0.1 is not a public address" in caplog.text, "it is refused")
    here.stop()
    assert receiver.rest() == []


def test_a_block_that_was_saved_without_a_secret_gets_one(here: World, receiver: Receiver) -> None:
    """The form in the Prefect UI may leave it out."""
    here.webhook(receiver)
    id_ = here.seen()._block_document_id
    assert isinstance(id_, UUID)
    write(here.prefect, id_, secret=None)
    here.start()

    here.set(here.create(), Running())

    [got] = receiver.next()
    Webhook(here.seen().secret.get_secret_value()).verify(got.body, got.headers)


def test_a_webhook_that_is_not_valid_is_not_in_the_others_way(
    here: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    here.webhook(receiver)
    id_ = here.seen()._block_document_id
    assert isinstance(id_, UUID)
    wrong = {"delivered": ["odd"], "delivered_until": "2026-11-24T10:00:00"}
    write(here.prefect, id_, url="nonsense", secret="whsec_verysecret", **wrong)
    here.webhook(receiver)
    here.start()

    here.set(here.create(), Running())

    receiver.next()
    for field_ in ("url: ", "secret: ", "delivered.0: ", "delivered_until: "):
        assert field_ in caplog.text
    assert "verysecret" not in caplog.text


def test_prefect_gives_all_webhooks_at_once(here: World, receiver: Receiver) -> None:
    """Whatever page is asked for; were it otherwise, `documents_of` would have to ask for more."""
    here.webhook(receiver)
    here.webhook(receiver)

    first = here.prefect.read_block_documents_by_type("execution-webhook", limit=1)
    second = here.prefect.read_block_documents_by_type("execution-webhook", limit=1, offset=1)

    assert [document.id for document in first] == [document.id for document in second]
    assert {document.name for document in first} >= set(here.names)


def test_a_prefect_that_has_never_seen_a_webhook_is_no_trouble(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    block_type = here.prefect.read_block_type_by_slug("execution-webhook")
    here.prefect.delete_block_type(block_type.id)

    here.deliverer().look()

    assert [r for r in caplog.records if r.name.startswith("prefect_executions")] == []
    ExecutionWebhook.register_type_and_schema(_sync=True)  # type: ignore[call-arg]


def test_forged_events_do_no_harm(here: World, receiver: Receiver) -> None:
    here.webhook(receiver, events=["status", "checkpoint"])
    here.start()
    run = here.create()
    for name in ("prefect.flow-run.Odd", "prefect-executions.checkpoint.saved"):
        for payload in ({}, {"validated_state": 1, "checkpoint_id": []}):
            for id_ in (f"prefect.flow-run.{run.id}", "prefect.flow-run.odd", "odd"):
                emit_event(name, resource={"prefect.resource.id": id_}, payload=payload)

    here.set(run, Running())

    assert states(receiver.next()) == ["Running"]


def test_more_than_a_page_is_delivered_in_order(here: World, receiver: Receiver) -> None:
    here.webhook(receiver)
    run = here.create()
    names = [f"Round {n}" for n in range(120)]
    here.set(run, *(Running(name=name) for name in names))

    here.start(save=1)

    assert states(receiver.next(120)) == names


def test_it_waits_for_a_prefect_that_is_away(stack: Stack) -> None:
    stop = Event()
    url = f"http://127.0.0.1:{free_ports(1)}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        thread = Thread(target=copy_context().run, args=(deliver, stop))
        thread.start()
    thread.join(3)

    assert thread.is_alive()
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
