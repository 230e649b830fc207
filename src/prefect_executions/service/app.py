"""The REST service as an ASGI application: its routes and its middleware."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID

from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

import prefect_executions
from prefect_executions.blocks.key import Permission
from prefect_executions.circuit import Circuit
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.service import problems
from prefect_executions.service.dependencies import (
    SECURITY,
    RequireAll,
    notify_change,
    require_known_query,
)
from prefect_executions.service.docs import documents
from prefect_executions.service.inspector import OPEN_PATHS, PATH, Session, inspector
from prefect_executions.service.keyring import Keyring
from prefect_executions.service.mcp import PATH as MCP_PATH
from prefect_executions.service.mcp import Mcp
from prefect_executions.service.metrics import Metrics
from prefect_executions.service.middleware.audit import Audit
from prefect_executions.service.middleware.authentication import Authentication
from prefect_executions.service.middleware.body_limit import BodyLimit
from prefect_executions.service.middleware.headers import HeadRequests, SecurityHeaders
from prefect_executions.service.middleware.rate_limit import Rates
from prefect_executions.service.middleware.streams import Streams
from prefect_executions.service.middleware.telemetry import RequestTelemetry
from prefect_executions.service.responses import Health
from prefect_executions.service.routes import router
from prefect_executions.service.streams.hub import EventHub

# Requests that run at once. In the first seconds of an outage many of them wait for what is away;
# the others need a thread, too.
THREADS = 250

_ALLOWED_HEADERS = [
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
]
_EXPOSED_HEADERS = [
    "Location",
    "ETag",
    "Preference-Applied",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
]


@dataclass(frozen=True)
class Limits:
    """The limits for callers.

    Args:
        body_bytes: The size of one request's body.
        rate: The requests of one key, as in `6000/minute`.
        failures: The wrong keys from one address.
        rate_storage: Where requests are counted: `memory://`, or a Redis that replicas share.
        streams: The streams of events that one key has open in one process.
    """

    body_bytes: int = 16 << 20
    rate: str = "6000/minute"
    failures: str = "300/minute"
    rate_storage: str = "memory://"
    streams: int = 100


@dataclass(frozen=True)
class Openness:
    """The parts that need no key, besides `/health`.

    Args:
        docs: `/docs` and `/openapi.json`.
        metrics: `/metrics`.
        origins: Origins of other web pages that may call the service from a browser.
    """

    docs: bool = False
    metrics: bool = False
    origins: list[str] = field(default_factory=list)


def create_app(
    executions: Executions,
    keyring: Keyring,
    *,
    limits: Limits | None = None,
    openness: Openness | None = None,
    deployments: dict[str, str] | None = None,
    allowed_deployments: Collection[str] | None = None,
    hub: EventHub | None = None,
    metrics: Metrics | None = None,
    changed: Callable[[UUID], None] = lambda _: None,
    circuits: Mapping[str, Circuit] = MappingProxyType({}),
) -> FastAPI:
    """The ASGI application.

    Args:
        executions: The executions that it serves.
        keyring: The keys that it accepts.
        limits: The limits for callers.
        openness: The parts that need no key.
        deployments: The deployment for each task type, when an execution is created without one.
        allowed_deployments: The only deployments that executions may be created of, as
            `flow/deployment`; None for all.
        hub: The subscription to events in Prefect.
        metrics: The counters of the service.
        changed: Called with the flow run of each execution that a request has changed; must not
            block.
        circuits: What the service needs, by the names that `/health` uses.
    """
    openness, limits = openness or Openness(), limits or Limits()
    hub, metrics = hub or EventHub(), metrics or Metrics()
    metrics.streams.set_function(lambda: hub.clients)
    app = FastAPI(
        title=documents.TITLE,
        version=prefect_executions.__version__,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
    )
    problems.install(app)
    app.state.executions, app.state.deployments = executions, deployments or {}
    app.state.allowed_deployments = (
        None if allowed_deployments is None else frozenset(allowed_deployments)
    )
    app.state.hub, app.state.metrics, app.state.changed = hub, metrics, changed
    app.state.circuits = circuits
    checks = [*SECURITY, Depends(require_known_query), Depends(notify_change)]
    app.include_router(router, dependencies=checks)
    reader = [] if openness.metrics else [Depends(RequireAll(Permission.READ))]
    app.get("/", include_in_schema=False)(home)
    app.get("/health", tags=["service"])(health)
    app.get("/metrics", tags=["service"], response_class=PlainTextResponse, dependencies=reader)(
        get_metrics
    )
    documents.install(app)
    allowed: frozenset[str] | None = app.state.allowed_deployments
    app.mount(PATH, inspector(executions, lambda id_: changed(flow_run_id(id_)), allowed))
    app.router.routes.append(Route(MCP_PATH, Mcp(limits.body_bytes), include_in_schema=False))
    _add_middleware(app, keyring, limits, openness)
    return app


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def _add_middleware(app: FastAPI, keyring: Keyring, limits: Limits, openness: Openness) -> None:
    """Add the middleware, the innermost first."""
    app.add_middleware(BodyLimit, max_bytes=limits.body_bytes)
    open_paths = ["/", "/health", *OPEN_PATHS]
    open_paths += ["/docs", "/openapi.json"] if openness.docs else []
    open_paths += ["/metrics"] if openness.metrics else []
    app.add_middleware(Streams, keyring=keyring, per_caller=limits.streams)
    app.add_middleware(
        Authentication,
        keyring=keyring,
        rates=Rates(limits.rate, limits.rate_storage),
        open_paths=open_paths,
        failures=limits.failures,
    )
    app.add_middleware(Session)
    app.add_middleware(Audit)
    if openness.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=openness.origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(HeadRequests)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestTelemetry, metrics=app.state.metrics)


def home() -> Response:
    """Lead a browser to the inspector."""
    return RedirectResponse(PATH)


async def health(request: Request) -> Health:
    """Answer at once when the service is up, with what it last knew of Prefect and the store.

    It wants no key, and waits for nothing: what was not heard for ten seconds is asked afterwards.
    """
    circuits: Mapping[str, Circuit] = request.app.state.circuits
    for circuit in circuits.values():
        circuit.refresh()
    return Health(away=[name for name, circuit in circuits.items() if circuit.is_away])


def get_metrics(request: Request) -> Response:
    """What this replica has counted, for Prometheus."""
    metrics: Metrics = request.app.state.metrics
    return metrics.exposition(request)
