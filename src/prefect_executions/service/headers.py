"""What every answer says to browsers, and what the log says of every change."""

import logging
import re
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.service.guards import caller_of
from prefect_executions.service.problems import SAFE

audit = logging.getLogger("prefect_executions.audit")

_PATH = 1000  # characters of a path that are logged
_SECRET = re.compile(r"pxk_[\w-]{43}")
_READING = {"GET", "HEAD", "OPTIONS"}


class SecurityHeaders:
    """Let nothing that is answered be framed, sniffed, cached or run, unless its route says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def safe_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, safe_send if scope["type"] == "http" else send)


class Audit:
    """Log every request that may have changed something: who, what, and how it ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in _READING:
            await self._app(scope, receive, send)
            return
        start, status = perf_counter(), 500

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            audit.info(
                "%s %s %s %d in %.0f ms",
                caller_of(scope).name,
                scope["method"],
                # As it came, percent-encoded: nothing in it can begin another line of the log.
                _SECRET.sub("pxk_…", scope.get("raw_path", b"").decode("ascii", "replace"))[:_PATH],
                status,
                (perf_counter() - start) * 1000,
            )
