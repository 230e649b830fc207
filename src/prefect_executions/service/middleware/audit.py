"""The audit log: a line for every request that may change something."""

import logging
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.service.dependencies import caller_of, is_audited_inside, notes_of

audit = logging.getLogger("prefect_executions.audit")

_PATH = 1000  # characters of a path that are logged
_SECRET = re.compile(r"pxk_[\w-]{43}")
_READS = {"GET", "HEAD", "OPTIONS"}


class Audit:
    """Log every request that may change something: the caller, the path and the status.

    A request that concerns other executions than the one in its path has noted which.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in _READS:
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
            if not is_audited_inside(scope):
                self._log(scope, status, perf_counter() - start)

    @staticmethod
    def _log(scope: Scope, status: int, seconds: float) -> None:
        audit.info(
            "%s %s %s %d in %.0f ms%s",
            caller_of(scope).name,
            scope["method"],
            # Still percent-encoded, so that nothing in it can begin another line of the log.
            _SECRET.sub("pxk_…", scope.get("raw_path", b"").decode("ascii", "replace"))[:_PATH],
            status,
            seconds * 1000,
            "".join(f"; {note}" for note in notes_of(scope)),
        )
