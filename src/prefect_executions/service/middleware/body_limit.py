"""A limit for the size of request bodies."""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.service.problems import problem


class BodyLimit:
    """Refuse requests with a body over the limit, by their `Content-Length` or while it arrives.

    Args:
        app: The application.
        max_bytes: The limit.
    """

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
