"""Counts the requests to the service, and gives each a span."""

from http import HTTPStatus
from time import perf_counter

from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.service.metrics import Metrics
from prefect_executions.telemetry import tracer

_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


class RequestTelemetry:
    """Count requests, and give each a span, by route: paths with ids would make endless series.

    Args:
        app: The application.
        metrics: The counters.
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
    """The route of a request; known only after routing."""
    return getattr(scope.get("route"), "path", "none")
