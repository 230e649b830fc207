"""What a request has to pass before anything of it is looked at: its key, and its size."""

import hmac
from http import HTTPStatus

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.service.problems import problem

# What the OpenAPI document says of the key; the check itself comes before the body is read.
SECURITY = [
    Depends(HTTPBearer(auto_error=False, description="The key of the service.")),
    Depends(APIKeyHeader(name="x-api-key", auto_error=False, description="The same key.")),
]


class KeyGuard:
    """Let only those through who know the key, but for `/health`; everybody when there is none."""

    def __init__(self, app: ASGIApp, *, api_key: str | None) -> None:
        self._app = app
        self._api_key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] == "/health" or self._knows_it(scope):
            await self._app(scope, receive, send)
            return
        refusal = problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "Send the service's key as `Authorization: Bearer …` or `x-api-key: …`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await refusal(scope, receive, send)

    def _knows_it(self, scope: Scope) -> bool:
        if self._api_key is None:
            return True
        headers = dict(scope["headers"])
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer":
            given = headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._api_key)


class BodyLimit:
    """Refuse requests with a body over the limit, by its announced length or while it arrives."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0
        started = False

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise _BodyTooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, limited_receive, watched_send)
        except _BodyTooLarge:
            if started:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body_too_large",
            f"The body is over the limit of {self._max_bytes} bytes. Keep large things elsewhere, "
            "and their address in the state.",
        )
        await response(scope, receive, send)


class _BodyTooLarge(BaseException):
    """Passes through FastAPI, which answers any `Exception` from reading a body with a 400."""
