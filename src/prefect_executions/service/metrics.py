"""The counters of the service, for Prometheus at `/metrics`."""

from collections.abc import Iterable, Iterator

from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions.storage.objects import Objects
from prefect_executions.telemetry import tracer

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BYTES = tuple(4**n for n in range(3, 14))  # 64 bytes to 64 MiB


class Metrics:
    """The counters of one replica of the service."""

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
        """Count an action of the supervisor."""
        self.supervisor_actions.labels(action).inc()

    def exposition(self, request: Request) -> Response:
        """All counters, in the format that the caller asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), media_type=content_type)


_A_PAGE = 1000  # keys of one LIST or DELETE


class MeteredObjects:
    """A store whose requests are counted as S3 would charge them.

    Args:
        inner: The store.
        metrics: The counters.
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

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """See `Objects.get`."""
        wanted = list(keys)
        self._count("GET", len(wanted))
        with tracer.start_as_current_span("store GET", kind=SpanKind.CLIENT):
            found = self._inner.get(wanted, first=first, skip=skip)
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
