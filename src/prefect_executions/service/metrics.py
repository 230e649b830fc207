"""What the service counts, for Prometheus at `/metrics`; and a span for each request."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from time import perf_counter

from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.objects import Objects
from prefect_executions.telemetry import tracer

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BYTES = tuple(4**n for n in range(3, 14))  # 64 bytes to 64 MiB
_A_PAGE = 1000  # keys of one LIST or DELETE
_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


class Metrics:
    """Counters of one service; each replica has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "executions_requests",
            "REST requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "executions_request_seconds",
            "How long a REST request took; of a stream of events, until it began.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.streams = Gauge(
            "executions_streams", "Streams of events that are open.", registry=self.registry
        )
        self.checkpoint_seconds = Histogram(
            "executions_checkpoint_seconds",
            "How long saving a checkpoint over REST took.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.checkpoint_bytes = Histogram(
            "executions_checkpoint_bytes",
            "Bytes of the states saved over REST, as JSON.",
            buckets=_BYTES,
            registry=self.registry,
        )
        self.store_requests = Counter(
            "executions_store_requests",
            "Requests to the store.",
            ("verb",),
            registry=self.registry,
        )
        self.store_bytes = Counter(
            "executions_store_bytes",
            "Bytes sent to the store, and received from it.",
            ("direction",),
            registry=self.registry,
        )
        self.supervisor_actions = Counter(
            "executions_supervisor_actions",
            "What the supervisor beside this service has done.",
            ("action",),
            registry=self.registry,
        )

    def acted(self, action: str) -> None:
        """The supervisor has done something."""
        self.supervisor_actions.labels(action).inc()

    def exposition(self, request: Request) -> Response:
        """All of them, in the format that the caller asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), media_type=content_type)


class MeteredObjects:
    """A store whose requests are counted as S3 would charge them.

    Args:
        inner: The store.
        metrics: Where they are counted.
    """

    def __init__(self, inner: Objects, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    def create(self, key: str, data: bytes) -> None:
        """See `Objects.create`."""
        self._count("PUT")
        self._metrics.store_bytes.labels("sent").inc(len(data))
        with tracer.start_as_current_span("store PUT", kind=SpanKind.CLIENT):
            self._inner.create(key, data)

    def get(self, keys: Iterable[str], *, first: int | None = None) -> dict[str, bytes]:
        """See `Objects.get`."""
        wanted = list(keys)
        self._count("GET", len(wanted))
        with tracer.start_as_current_span("store GET", kind=SpanKind.CLIENT):
            found = self._inner.get(wanted, first=first)
        self._metrics.store_bytes.labels("received").inc(sum(map(len, found.values())))
        return found

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        """See `Objects.scan`."""
        self._count("LIST")
        for count, key in enumerate(self._inner.scan(prefix, limit=limit)):
            if count and count % _A_PAGE == 0:
                self._count("LIST")
            yield key

    def measure(self, prefix: str) -> tuple[int, int]:
        """See `Objects.measure`."""
        count, size = self._inner.measure(prefix)
        self._count("LIST", 1 + count // _A_PAGE)
        return count, size

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        gone = list(keys)
        self._count("DELETE", -(-len(gone) // _A_PAGE))
        with tracer.start_as_current_span("store DELETE", kind=SpanKind.CLIENT):
            self._inner.delete(gone)

    def _count(self, verb: str, times: int = 1) -> None:
        self._metrics.store_requests.labels(verb).inc(times)


class Measured:
    """Counts requests, and gives each a span. By route: an id in a path would make endless series.

    Args:
        app: What answers.
        metrics: Where they are counted.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        parent = propagate.extract(Headers(scope=scope))
        with tracer.start_as_current_span(method, parent, kind=SpanKind.SERVER) as span:

            async def watched_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    self._metrics.request_seconds.labels(method, _route(scope)).observe(
                        perf_counter() - start
                    )
                await send(message)

            try:
                await self._app(scope, receive, watched_send)
            finally:
                route = _route(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))
                self._metrics.requests.labels(method, route, status).inc()


def _route(scope: Scope) -> str:
    """The route of a request, known once it was found."""
    return getattr(scope.get("route"), "path", "none")
