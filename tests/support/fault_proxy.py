"""A proxy for an S3 or Prefect server, which lets requests fail as they fail with S3, or hang."""

import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Condition, Event, Thread
from time import sleep
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Fault(StrEnum):
    """A fault that a request may meet."""

    UNANSWERED = "unanswered"  # done, but the client gets no answer until it gives up
    LATE = "late"  # done only a while after the client has given up
    ERROR = "error"  # 500, and nothing was done
    ERROR_AFTER = "error after"  # 500, and yet it was done
    SLOW_DOWN = "slow down"  # 503, and nothing was done
    CONFLICT = "conflict"  # 409, and nothing was done
    RESET = "reset"  # the connection is reset, and nothing was done
    RESET_AFTER = "reset after"  # the connection is reset, and yet it was done
    SLOW = "slow"  # the answer's body comes in pieces, with pauses
    CUT = "cut"  # the connection ends in the middle of the answer's body
    STALLED = "stalled"  # nothing comes after the middle of the answer's body


_ERRORS = {
    Fault.ERROR: (500, "InternalError"),
    Fault.ERROR_AFTER: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
}
_OF_READS = frozenset({Fault.SLOW, Fault.CUT, Fault.STALLED})
_OF_CONDITIONAL_WRITES = frozenset({Fault.CONFLICT})
_EVERYWHERE = frozenset(Fault) - _OF_READS - _OF_CONDITIONAL_WRITES
_NOT_FORWARDED = frozenset({"connection", "content-length", "expect", "transfer-encoding"})
_PIECES, _PAUSE_SECONDS = 4, 0.01
_LATE_SECONDS = 0.1  # so that the client's next try mostly comes first
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Stands between a client and a server, as a context manager.

    What happens to a request depends on the seed, on its method and path, and on how often they
    came before: not on how the threads of the client take turns.

    Args:
        server: The server's URL.
        rate: The share of requests that meet a fault.
        seed: The seed of the faults.
    """

    def __init__(self, server: str, *, rate: float = 0.0, seed: int = 0) -> None:
        self.server = urlsplit(server)
        self.requests = 0
        self.faults: Counter[Fault] = Counter()
        self.errors: list[BaseException | None] = []  # in the proxy itself
        self._rate = rate
        self._seed = seed
        self._forced: list[Fault | None] = []
        self._seen: Counter[str] = Counter()
        self._under_way = 0
        self._answers = Event()
        self._answers.set()
        self._changed = Condition()
        self._http = _Server(self)

    @property
    def endpoint(self) -> str:
        """The URL for the client."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._answers.set()
        with self._changed:  # what comes late comes before the end
            self._changed.wait_for(lambda: self._under_way == 0, timeout=60)
        self._http.shutdown()
        self._http.server_close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Accept all requests and answer none until the end; then they are forwarded."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    @property
    def waiting(self) -> int:
        """How many requests are under way."""
        return self._under_way

    def force(self, faults: Iterable[Fault | None]) -> None:
        """Let the next requests meet exactly these faults, in this order; None is no fault."""
        with self._changed:
            self._forced.extend(faults)

    @contextmanager
    def meet(self, method: str, path: str, *, conditional: bool) -> Iterator[Fault | None]:
        """Count a request while it is under way, and choose its fault."""
        with self._changed:
            self.requests += 1
            fault = self._forced.pop(0) if self._forced else self._draw(method, path, conditional)
            if fault is not None:
                self.faults[fault] += 1
            self._under_way += 1
        try:
            self._answers.wait()
            yield fault
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _draw(self, method: str, path: str, conditional: bool) -> Fault | None:
        request = f"{method} {path}"
        self._seen[request] += 1
        random = Random(f"{self._seed} {request} {self._seen[request]}")
        if random.random() >= self._rate:
            return None
        possible = _EVERYWHERE
        if method == "GET":
            possible |= _OF_READS
        if conditional:
            possible |= _OF_CONDITIONAL_WRITES
        return random.choice(sorted(possible))


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, *_: object) -> None:
        """Keep the error, unless a client did not wait for its response."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self.proxy.errors.append(error)


@dataclass(frozen=True)
class _Answer:
    """The response of the server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    def setup(self) -> None:
        super().setup()
        server = self.server.proxy.server
        self._upstream = HTTPConnection(server.hostname or "", server.port)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        conditional = "If-None-Match" in self.headers
        with self.server.proxy.meet(self.command, self.path, conditional=conditional) as fault:
            self._serve(body, fault)

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  # http.server's names

    def _serve(self, body: bytes, fault: Fault | None) -> None:
        match fault:
            case None | Fault.SLOW | Fault.CUT | Fault.STALLED:
                self._answer(self._forward(body), fault)
            case Fault.UNANSWERED:
                self._forward(body)
                self._wait_until_given_up()
            case Fault.LATE:
                self._wait_until_given_up()
                sleep(_LATE_SECONDS)
                self._forward(body)
            case Fault.ERROR | Fault.SLOW_DOWN | Fault.CONFLICT:
                self._fail(fault)
            case Fault.ERROR_AFTER:
                self._forward(body)
                self._fail(fault)
            case Fault.RESET:
                self._reset()
            case Fault.RESET_AFTER:
                self._forward(body)
                self._reset()

    def _forward(self, body: bytes) -> _Answer:
        """Forward a request to the server, with the client's `Host`, which is signed."""
        upstream = self._upstream
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in _end_to_end(self.headers.items()):
            upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body or None)
        with upstream.getresponse() as response:
            return _Answer(response.status, response.getheaders(), response.read())

    def _answer(self, answer: _Answer, fault: Fault | None = None) -> None:
        self.send_response_only(answer.status)
        for name, value in _end_to_end(answer.headers):
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self._send(answer.body, fault)

    def _send(self, body: bytes, fault: Fault | None) -> None:
        if fault in (Fault.CUT, Fault.STALLED):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            if fault is Fault.STALLED:
                self._wait_until_given_up()
        elif fault is Fault.SLOW:
            size = len(body) // _PIECES + 1
            for start in range(0, len(body), size):
                sleep(_PAUSE_SECONDS)
                self.wfile.write(body[start : start + size])
        else:
            self.wfile.write(body)

    def _fail(self, fault: Fault) -> None:
        status, code = _ERRORS[fault]
        body = f"<Error><Code>{code}</Code><Message>Injected.</Message></Error>"
        self._answer(_Answer(status, [("Content-Type", "application/xml")], body.encode()))

    def _wait_until_given_up(self) -> None:
        """Wait until the client closes the connection; it sends nothing while it waits."""
        self.close_connection = True
        self.connection.recv(1)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        os.close(self.connection.detach())  # at once, although `rfile` refers to it


def _end_to_end(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED]
