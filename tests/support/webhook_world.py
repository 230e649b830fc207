"""A real receiver of webhooks, and flow runs that webhooks report."""

import json
import ssl
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.ids import execution_id
from prefect_executions.prefect.states import creating
from prefect_executions.prefect.tags import tags_of
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.webhooks.dead_letters import DeadLetter, DeadLetters
from prefect_executions.webhooks.dispatcher import Dispatcher
from prefect_executions.webhooks.timing import Timing

PATIENCE = 30.0
TIMING = Timing(
    poll=0.1,
    long_lookback_every=0.5,
    first_retry=0.05,
    longest_retry=0.2,
    timeout=5,
    save=0,
    term=6,
)


@dataclass
class Got:
    """A request that a receiver got."""

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
    """A real HTTP server that answers with the given statuses, and 204 after them.

    Args:
        url: Where it is.
        answers: The statuses, one for each request.
        refused: The names of states whose messages it answers with 400, whenever they come.
        got: What it has got.
        open: Whether it answers at all.
    """

    url: str
    answers: deque[int] = field(default_factory=deque)
    got: Queue[Got] = field(default_factory=Queue)
    refused: set[str] = field(default_factory=set)
    open: Event = field(default_factory=Event)

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
            got = Got(headers, body)
            made.got.put(got)
            made.open.wait(PATIENCE)
            status = made.answers.popleft() if made.answers else 204
            if made.refused and got.state in made.refused:
                status = 400
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


class WebhookWorld:
    """Flow runs that are executions in a store of their own, webhooks for it, and dispatchers."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.store = uuid4().hex
        self.objects: Objects = MemoryObjects()
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = prefect.create_deployment(flow_id, "idle", tags=["execution"])
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
            state=first or creating(),
            tags=[*tags_of(self.store), *tags],
        )

    def set(self, run: FlowRun, *states: State[Any]) -> None:
        for state in states:
            self.prefect.set_flow_run_state(run.id, state, force=True)

    def dispatcher(self, **timing: Any) -> Dispatcher:
        return Dispatcher(
            self.prefect,
            store=self.store,
            objects=lambda: self.objects,
            timing=replace(TIMING, **timing),
        )

    def dead(self) -> list[DeadLetter]:
        """The dead letters of the newest webhook."""
        id_ = self.seen()._block_document_id
        assert isinstance(id_, UUID)
        return list(DeadLetters(self.objects, id_).read())

    def start(self, **timing: Any) -> tuple[Event, Thread]:
        stop = Event()
        run = self.dispatcher(**timing).run
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


def save_checkpoint(run: FlowRun, **fields: Any) -> None:
    """Emit the event of a process that saved a checkpoint."""
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
