"""Logs browsers in: a form asks for the key, and a cookie keeps it."""

from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_executions.service.inspector.rendering import PATH, page

COOKIE = "executions_key"
LOGIN = f"{PATH}/login"
LOGOUT = f"{PATH}/logout"
_FORM_BYTES = 4_096


class Session:
    """Send the key in a browser's cookie as a header, and ask for a key when there is none.

    It runs before `Authentication`, which checks the key. The cookie is for these pages only, no
    script can read it, and no other site can send it. A request that changes something must come
    from a page of this service.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{PATH}/"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_post = scope["method"] == "POST"
        if is_post and not _is_own(headers):
            answer: Response = page(
                "error.html", HTTPStatus.FORBIDDEN, detail="Another site has sent you here."
            )
            await answer(scope, receive, send)
            return
        if is_post and scope["path"] in (LOGIN, LOGOUT):
            answer = await _log_in(scope, receive) if scope["path"] == LOGIN else _log_out()
            await answer(scope, receive, send)
            return
        known = _cookie(headers)
        if known is not None and "authorization" not in headers:
            bearer = (b"authorization", b"Bearer " + known.encode("utf-8", "surrogateescape"))
            scope["headers"] = [*scope["headers"], bearer]
        await self._app(scope, receive, _asking(scope, receive, send, had_key=known is not None))


def _asking(scope: Scope, receive: Receive, send: Send, *, had_key: bool) -> Send:
    """Replace an answer that requires a key by the form."""
    is_refused = False

    async def asking_send(message: Message) -> None:
        nonlocal is_refused
        if message["type"] == "http.response.start":
            is_refused = message["status"] == HTTPStatus.UNAUTHORIZED
            if is_refused:
                query = scope.get("query_string", b"").decode("latin-1")
                there = f"{scope['path']}?{query}" if query else scope["path"]
                there = there if scope["method"] == "GET" else PATH
                form = page(
                    "login.html", HTTPStatus.UNAUTHORIZED, next=there, refused=had_key, login=LOGIN
                )
                await form(scope, receive, send)
        if not is_refused:
            await send(message)

    return asking_send


async def _log_in(scope: Scope, receive: Receive) -> Response:
    """Keep a key in the cookie; `Authentication` checks it at the next request."""
    body = b""
    async for chunk in Request(scope, receive).stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            return page("error.html", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail="Too long.")
    form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    there = form.get("next", PATH)
    if _host_of(there) or not there.startswith(f"{PATH}/"):
        there = PATH
    answer = RedirectResponse(there, HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE,
        quote(form.get("key", "").strip(), safe=""),
        path=PATH,
        secure=scope.get("scheme") == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


def _log_out() -> Response:
    answer = RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, path=PATH)
    return answer


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return unquote(found.value) if found is not None and found.value else None


def _is_own(headers: Headers) -> bool:
    """Whether a page of this service has sent a request; a program need not send an origin."""
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or _host_of(origin) == headers.get("host")


def _host_of(url: str) -> str:
    """The host of a URL, with its port; `?` when the URL is not valid."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return "?"
