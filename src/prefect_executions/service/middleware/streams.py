"""Ends streams of events whose key is revoked, and limits how many a caller has open."""

import asyncio
from collections import Counter
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.blocks.key import Caller
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.service.keyring import Keyring
from prefect_executions.service.middleware.authentication import identified, secret_of
from prefect_executions.service.problems import problem

CHECK_SECONDS = 1.0  # between two looks at the key of a stream
RETRY_AFTER_SECONDS = 5


class Streams:
    """Stands below `Authentication`, which has found the caller of a request.

    Args:
        app: The application.
        keyring: The keys.
        per_caller: How many streams a caller may have open in this process.
    """

    def __init__(self, app: ASGIApp, *, keyring: Keyring, per_caller: int) -> None:
        self._app = app
        self._keyring = keyring
        self._per_caller = per_caller
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        caller = scope.get("state", {}).get("caller")
        if caller is None or not scope["path"].endswith("/events"):
            await self._app(scope, receive, send)
            return
        if self._open[caller.name] >= self._per_caller:
            refusal = problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate_limited",
                f"This key has {self._per_caller} streams open, which is the limit; close one.",
                headers={"Retry-After": f"{RETRY_AFTER_SECONDS}"},
            )
            await refusal(scope, receive, send)
            return
        self._open[caller.name] += 1
        try:
            await self._serve(scope, receive, send, caller)
        finally:
            self._open[caller.name] -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        """Serve a stream until it ends, or its key does not stand for the same caller any more."""
        has_started = False

        async def noting(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        secret = secret_of(scope)
        serving = asyncio.ensure_future(self._app(scope, receive, noting))
        try:
            while not (await asyncio.wait([serving], timeout=CHECK_SECONDS))[0]:
                if not await self._is_still(secret, caller):
                    break
            else:
                serving.result()
                return
        finally:
            serving.cancel()
            await asyncio.wait([serving])
        if has_started:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _is_still(self, secret: str | None, caller: Caller) -> bool:
        try:
            return await identified(self._keyring, secret) == caller
        except PrefectUnavailable:  # the stream itself ends then, as all that needs Prefect
            return True
