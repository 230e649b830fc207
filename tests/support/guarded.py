"""A small app behind the middleware, in the order of the service."""

from collections.abc import Collection, Generator
from concurrent.futures import Future
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient
from starlette.types import ASGIApp

from prefect_executions.blocks.key import Caller, Permission
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.service import problems
from prefect_executions.service.dependencies import Require
from prefect_executions.service.keyring import Keyring
from prefect_executions.service.middleware.audit import Audit
from prefect_executions.service.middleware.authentication import Authentication
from prefect_executions.service.middleware.body_limit import BodyLimit
from prefect_executions.service.middleware.headers import SecurityHeaders
from prefect_executions.service.middleware.rate_limit import Rates

SETTINGS_KEY = "the key of the settings, é"
READER = Caller("reader", frozenset({Permission.READ}), frozenset({"a"}))
WRITER = Caller("writer", frozenset({Permission.READ, Permission.WRITE}))
SLOW = Caller("slow", frozenset({Permission.READ}), rate_limit="2/hour")
CALLERS = {caller.name: caller for caller in (READER, WRITER, SLOW)}
NOWHERE = cast("SyncPrefectClient", None)  # these keyrings never ask


class Known(Keyring):
    """A keyring with keys that are the names of their callers, and the key in the settings.

    It replaces the part that reads from Prefect, which has its own tests.
    """

    away = False

    def identify(self, secret: str | None) -> Generator[Future[None], None, Caller | None]:
        if self.away:
            raise PrefectUnavailable("no route to prefect.internal:4200")
        if secret in CALLERS:
            return CALLERS[secret]
        return (yield from super().identify(secret))


def guarded(
    keyring: Keyring,
    *,
    rate: str = "1000/hour",
    open_paths: Collection[str] = ("/health",),
    failures: str | None = None,
    unguarded: bool = False,
) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    problems.install(app)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.get("/metrics")
    def metrics() -> str:
        return "metrics"

    @app.get("/who")
    def who(request: Request) -> list[str]:
        caller: Caller = request.state.caller
        return [caller.name, *sorted(caller.permissions), *sorted(caller.agents or ())]

    @app.post("/change/{path:path}")
    def change(_: Annotated[Caller, Depends(Require(Permission.WRITE))]) -> None: ...

    @app.get("/own")
    def own(response: Response) -> None:
        response.headers["Cache-Control"] = "private, no-cache"
        response.headers["Content-Security-Policy"] = "default-src 'self'"

    @app.post("/fail")
    def fail() -> None:
        raise RuntimeError("a secret")

    app.add_middleware(BodyLimit, max_bytes=1000)
    if not unguarded:
        rates = Rates(rate)
        app.add_middleware(
            Authentication, keyring=keyring, rates=rates, open_paths=open_paths, failures=failures
        )
    app.add_middleware(Audit)
    app.add_middleware(SecurityHeaders)
    return app


def client_of(app: ASGIApp, key: str | None = None, address: str = "192.0.2.1") -> TestClient:
    headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
    client = TestClient(app, raise_server_exceptions=False, client=(address, 50000))
    client.headers.update(cast("dict[str, str]", headers))
    return client
