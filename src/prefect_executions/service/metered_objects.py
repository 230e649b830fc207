"""The store, its requests counted, each with a span."""

from collections.abc import Iterable, Iterator

from opentelemetry.trace import SpanKind

from prefect_executions.service.metrics import Metrics
from prefect_executions.storage.objects import Objects
from prefect_executions.telemetry import tracer

_A_PAGE = 1000  # keys of one LIST or DELETE


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
