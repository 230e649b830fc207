"""Requests pass only with a known key."""

import asyncio
from collections.abc import Generator
from concurrent.futures import Future

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from guarded import NOWHERE, READER, SETTINGS_KEY, Known, client_of, guarded
from prefect_executions.blocks.key import ANYBODY, Caller
from prefect_executions.service.middleware.audit import Audit
from prefect_executions.service.middleware.authentication import Authentication
from prefect_executions.service.middleware.body_limit import BodyLimit
from prefect_executions.service.middleware.headers import SecurityHeaders
from prefect_executions.service.middleware.rate_limit import Rates
from rest import assert_problem


def test_a_route_learns_who_calls(keyring: Known) -> None:
    assert client_of(guarded(keyring), "reader").get("/who").json() == ["reader", "read", "a"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "bearer reader"},
        {"Authorization": "BEARER  reader "},
        {"x-api-key": "reader"},
        {"Authorization": "Basic abc", "x-api-key": "reader"},
        {"x-api-key": SETTINGS_KEY.encode()},
    ],
    ids=str,
)
def test_a_key_goes_in_one_of_two_headers(keyring: Known, headers: dict[str, str]) -> None:
    assert client_of(guarded(keyring)).get("/who", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "reader"},
        {"Authorization": "Basic reader"},
        {"Authorization": "Bearer wrong", "x-api-key": "reader"},
        {"x-api-key": "read"},
        {"x-api-key": b"\xff\xfe"},
        {"Cookie": "x-api-key=reader"},
    ],
    ids=str,
)
def test_without_a_key_it_is_401(keyring: Known, headers: dict[str, str]) -> None:
    answer = client_of(guarded(keyring)).get("/who", headers=headers)

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "reader" not in answer.text


def test_a_wrong_key_is_called_wrong(keyring: Known) -> None:
    sent = client_of(guarded(keyring), "wrong").get("/who").json()["detail"]
    none = client_of(guarded(keyring)).get("/who").json()["detail"]

    assert sent == "The service does not know the key that was sent: it is wrong, or was revoked."
    assert none.startswith("Send a key")


def test_a_key_in_the_query_does_not_count(keyring: Known) -> None:
    """A key in the query would be in the logs of every proxy."""
    assert_problem(client_of(guarded(keyring)).get("/who?x-api-key=reader"), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/health", "/health?a=b"])
def test_health_needs_no_key(keyring: Known, path: str) -> None:
    keyring.away = True

    assert client_of(guarded(keyring)).get(path).json() == "ok"
    assert client_of(guarded(keyring)).head(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/health/", "/healthy", "//health", "/Health", "/health/../who", "/who#/health", "/%00health"],
)
def test_what_looks_like_an_open_path_is_none(keyring: Known, path: str) -> None:
    assert_problem(client_of(guarded(keyring)).get(path), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
def test_documents_and_metrics_want_a_key_unless_they_are_open(keyring: Known, path: str) -> None:
    assert_problem(client_of(guarded(keyring)).get(path), 401, "unauthorized")
    assert client_of(guarded(keyring), "reader").get(path).status_code == 200
    assert client_of(guarded(keyring, open_paths=["/health", path])).get(path).status_code == 200


def test_an_unknown_route_is_not_told_without_a_key(keyring: Known) -> None:
    assert_problem(client_of(guarded(keyring)).get("/nothing"), 401, "unauthorized")
    assert_problem(client_of(guarded(keyring), "reader").get("/nothing"), 404, "not_found")


def test_no_web_socket_gets_past(keyring: Known) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    rates = Rates("9/hour")
    guarded = Authentication(echo, keyring=keyring, rates=rates, open_paths=["/health"])

    with (
        pytest.raises(WebSocketDisconnect) as refused,
        TestClient(guarded).websocket_connect("/who"),
    ):
        pass
    assert refused.value.code == 1008


def test_a_missing_permission_is_403_and_named(keyring: Known) -> None:
    app = guarded(keyring)

    problem = assert_problem(client_of(app, "reader").post("/change/1"), 403, "forbidden")

    assert "write" in problem["detail"]
    assert client_of(app, "writer").post("/change/1").status_code == 200


def test_where_there_is_no_guard_nothing_is_permitted(keyring: Known) -> None:
    """Without `Authentication`, or on an open path, a route has no permissions."""
    app = guarded(keyring, unguarded=True)

    assert_problem(client_of(app, "writer").post("/change/1"), 403, "forbidden")
    opened = guarded(keyring, open_paths=["/change/1"])
    assert_problem(client_of(opened, "writer").post("/change/1"), 403, "forbidden")


def test_without_prefect_it_is_503_and_says_nothing_of_it(keyring: Known) -> None:
    keyring.away = True

    answer = client_of(guarded(keyring), "reader").get("/who")

    assert_problem(answer, 503, "prefect_unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "internal:4200" not in answer.text


def test_while_keys_are_being_read_other_requests_are_answered(keyring: Known) -> None:
    """The event loop does not wait for Prefect while keys are read."""
    reading: Future[None] = Future()
    reading.set_running_or_notify_cancel()

    class Reading(Known):
        def identify(self, _: str | None) -> Generator[Future[None], None, Caller | None]:
            yield reading
            return READER

    async def play() -> tuple[bool, int]:
        transport = httpx.ASGITransport(guarded(Reading(NOWHERE, api_key=None)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            waiting = asyncio.create_task(client.get("/who"))
            assert (await client.get("/health")).status_code == 200
            was_waiting = not waiting.done()
            reading.set_result(None)
            return was_waiting, (await waiting).status_code

    assert asyncio.run(play()) == (True, 200)


def test_who_leaves_does_not_cancel_the_reading_for_others(keyring: Known) -> None:
    reading: Future[None] = Future()
    reading.set_running_or_notify_cancel()

    class Reading(Known):
        def identify(self, _: str | None) -> Generator[Future[None], None, Caller | None]:
            yield reading
            return READER

    async def play() -> int:
        transport = httpx.ASGITransport(guarded(Reading(NOWHERE, api_key=None)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            leaving, staying = (asyncio.create_task(client.get("/who")) for _ in range(2))
            assert (await client.get("/health")).status_code == 200
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            reading.set_result(None)
            return (await staying).status_code

    assert asyncio.run(play()) == 200


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("localhost:4300", True),
        ("127.0.0.1:4300", True),
        ("[::1]:4300", True),
        ("evil.example:4300", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("//[", False),
        ("", False),
    ],
)
def test_without_keys_only_who_names_this_machine_is_answered(
    keyring: Known, host: str, is_answered: bool
) -> None:
    """A page of the web may resolve a name of its own to 127.0.0.1."""

    class Open(Known):
        def identify(self, _: str | None) -> Generator[Future[None], None, Caller | None]:
            yield from ()
            return ANYBODY

    answer = client_of(guarded(Open(NOWHERE, api_key=None))).get("/who", headers={"Host": host})

    if is_answered:
        assert answer.json()[0] == "anybody"
    else:
        assert_problem(answer, 403, "forbidden")
    assert client_of(guarded(keyring), "reader").get("/who", headers={"Host": host}).is_success


def test_a_stream_passes_piece_by_piece(keyring: Known) -> None:
    """The client has each piece before the next one is made."""
    received: list[bytes] = []

    async def play() -> None:
        arrived = asyncio.Event()

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for n in range(3):
                arrived.clear()
                body = f"data: {n}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.wait_for(arrived.wait(), 20)
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            if body := message.get("body"):
                received.append(body)
                arrived.set()

        app: ASGIApp = BodyLimit(stream, max_bytes=10)
        app = Authentication(app, keyring=keyring, rates=Rates("9/hour"), open_paths=[])
        app = SecurityHeaders(Audit(app))
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/events",
            "raw_path": b"/events",
            "headers": [(b"x-api-key", b"reader")],
            "client": ("192.0.2.1", 1),
        }
        await app(scope, receive, send)

    asyncio.run(play())

    assert received == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
