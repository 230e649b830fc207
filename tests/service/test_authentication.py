"""What a request passes before a route sees it: over a small app, in the order of the service."""

import asyncio
import logging
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import Future
from typing import Annotated, Any, cast

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from prefect_executions.blocks.key import ANYBODY, Caller, Permission
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

_NOWHERE = cast("SyncPrefectClient", None)  # these keyrings never ask


class Known(Keyring):
    """A keyring that knows some keys, which are the names of their callers, and those of settings.

    It stands for the part that reads from Prefect, which has its own tests.
    """

    away = False

    def identify(self, secret: str | None) -> Generator[Future[None], None, Caller | None]:
        if self.away:
            raise PrefectUnavailable("no route to prefect.internal:4200")
        if secret in CALLERS:
            return CALLERS[secret]
        return (yield from super().identify(secret))


@pytest.fixture
def keyring() -> Known:
    return Known(_NOWHERE, api_key=SETTINGS_KEY)


def _app(
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


def _client(app: ASGIApp, key: str | None = None, address: str = "192.0.2.1") -> TestClient:
    headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
    client = TestClient(app, raise_server_exceptions=False, client=(address, 50000))
    client.headers.update(cast("dict[str, str]", headers))
    return client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = dict(answer.json())
    assert problem["code"] == code
    return problem


def test_a_route_learns_who_calls(keyring: Known) -> None:
    assert _client(_app(keyring), "reader").get("/who").json() == ["reader", "read", "a"]


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
    assert _client(_app(keyring)).get("/who", headers=headers).status_code == 200


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
    answer = _client(_app(keyring)).get("/who", headers=headers)

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "reader" not in answer.text


def test_a_key_in_the_query_does_not_count(keyring: Known) -> None:
    """There it would stand in the logs of every proxy."""
    assert_problem(_client(_app(keyring)).get("/who?x-api-key=reader"), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/health", "/health?a=b"])
def test_health_needs_no_key(keyring: Known, path: str) -> None:
    keyring.away = True

    assert _client(_app(keyring)).get(path).json() == "ok"
    assert _client(_app(keyring)).head(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/health/", "/healthy", "//health", "/Health", "/health/../who", "/who#/health", "/%00health"],
)
def test_what_looks_like_an_open_path_is_none(keyring: Known, path: str) -> None:
    assert_problem(_client(_app(keyring)).get(path), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
def test_documents_and_metrics_want_a_key_unless_they_are_open(keyring: Known, path: str) -> None:
    assert_problem(_client(_app(keyring)).get(path), 401, "unauthorized")
    assert _client(_app(keyring), "reader").get(path).status_code == 200
    assert _client(_app(keyring, open_paths=["/health", path])).get(path).status_code == 200


def test_an_unknown_route_is_not_told_without_a_key(keyring: Known) -> None:
    assert_problem(_client(_app(keyring)).get("/nothing"), 401, "unauthorized")
    assert_problem(_client(_app(keyring), "reader").get("/nothing"), 404, "not_found")


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
    app = _app(keyring)

    problem = assert_problem(_client(app, "reader").post("/change/1"), 403, "forbidden")

    assert "write" in problem["detail"]
    assert _client(app, "writer").post("/change/1").status_code == 200


def test_where_there_is_no_guard_nothing_is_permitted(keyring: Known) -> None:
    """A guard that somebody forgot, or a route on an open path, lets nobody do anything."""
    app = _app(keyring, unguarded=True)

    assert_problem(_client(app, "writer").post("/change/1"), 403, "forbidden")
    opened = _app(keyring, open_paths=["/change/1"])
    assert_problem(_client(opened, "writer").post("/change/1"), 403, "forbidden")


def test_without_prefect_it_is_503_and_says_nothing_of_it(keyring: Known) -> None:
    keyring.away = True

    answer = _client(_app(keyring), "reader").get("/who")

    assert_problem(answer, 503, "prefect_unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "internal:4200" not in answer.text


def test_while_keys_are_being_read_other_requests_are_answered(keyring: Known) -> None:
    """Reading the keys takes as long as Prefect likes; the event loop does not wait for it."""
    reading: Future[None] = Future()
    reading.set_running_or_notify_cancel()

    class Reading(Known):
        def identify(self, _: str | None) -> Generator[Future[None], None, Caller | None]:
            yield reading
            return READER

    async def play() -> tuple[bool, int]:
        transport = httpx.ASGITransport(_app(Reading(_NOWHERE, api_key=None)))
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
        transport = httpx.ASGITransport(_app(Reading(_NOWHERE, api_key=None)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            leaving, staying = (asyncio.create_task(client.get("/who")) for _ in range(2))
            assert (await client.get("/health")).status_code == 200
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            reading.set_result(None)
            return (await staying).status_code

    assert asyncio.run(play()) == 200


def test_too_many_requests_are_429_and_say_when_to_come_back(keyring: Known) -> None:
    client = _client(_app(keyring, rate="3/hour"), "reader")

    answers = [client.get("/who") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"3"}
    assert all(0 < int(answer.headers["RateLimit-Reset"]) <= 3600 for answer in answers)
    assert_problem(answers[-1], 429, "rate_limited")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600


def test_each_key_has_its_own_requests(keyring: Known) -> None:
    app = _app(keyring, rate="1/hour")

    assert _client(app, "reader").get("/who").status_code == 200
    assert _client(app, "reader", "192.0.2.9").get("/who").status_code == 429
    assert _client(app, "writer").get("/who").status_code == 200


def test_a_limit_of_its_own_stands_over_the_common_one(keyring: Known) -> None:
    client = _client(_app(keyring, rate="1/hour"), "slow")

    assert [client.get("/who").status_code for _ in range(3)] == [200, 200, 429]


def test_without_keys_addresses_are_counted(keyring: Known) -> None:
    class Open(Known):
        def identify(self, _: str | None) -> Generator[Future[None], None, Caller | None]:
            yield from ()
            return ANYBODY

    app = _app(Open(_NOWHERE, api_key=None), rate="1/hour")

    def status(address: str) -> int:
        return _client(app, address=address).get("http://localhost/who").status_code

    assert [status("192.0.2.1"), status("192.0.2.1"), status("::ffff:192.0.2.1")] == [200, 429, 429]
    assert status("192.0.2.2") == 200
    assert [status("2001:db8::1"), status("2001:db8::2")] == [200, 429]
    assert status("2001:db8:0:1::1") == 200


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

    answer = _client(_app(Open(_NOWHERE, api_key=None))).get("/who", headers={"Host": host})

    if is_answered:
        assert answer.json()[0] == "anybody"
    else:
        assert_problem(answer, 403, "forbidden")
    assert _client(_app(keyring), "reader").get("/who", headers={"Host": host}).is_success


def test_health_is_not_limited(keyring: Known) -> None:
    client = _client(_app(keyring, rate="1/hour"))

    assert {client.get("/health").status_code for _ in range(5)} == {200}


def test_wrong_keys_are_limited_by_address(keyring: Known) -> None:
    app = _app(keyring, failures="3/hour")
    client = _client(app, "wrong")

    answers = [client.get("/who") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert answers[0].headers["RateLimit-Remaining"] == "2"
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert_problem(answers[-1], 429, "rate_limited")
    assert_problem(_client(app, "wrong", "192.0.2.9").get("/who"), 401, "unauthorized")


def test_who_guesses_too_often_is_not_told_that_a_guess_is_right(keyring: Known) -> None:
    """But keys that nobody can guess still work: others may come from the same address."""
    app = _app(keyring, failures="3/hour")
    for n in range(4):
        _client(app, f"guess {n}").get("/who")

    wrong, right = (_client(app, key).get("/who") for key in ("guess 5", SETTINGS_KEY))

    assert_problem(right, 429, "rate_limited")
    assert right.json() == wrong.json()
    assert set(right.headers) == set(wrong.headers)
    assert _client(app, "reader").get("/who").status_code == 200
    assert _client(app, SETTINGS_KEY, "192.0.2.9").get("/who").status_code == 200


def test_a_right_key_uses_up_no_guesses(keyring: Known) -> None:
    app = _app(keyring, failures="1/hour")
    client = _client(app, SETTINGS_KEY)

    assert {client.get("/who").status_code for _ in range(5)} == {200}
    assert _client(app, "wrong").get("/who").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/who", "reader", 200),
        ("GET", "/who", "wrong", 401),
        ("GET", "/health", None, 200),
        ("GET", "/nothing", "reader", 404),
        ("POST", "/change/1", "reader", 403),
        ("PATCH", "/who", "reader", 405),
    ],
)
def test_every_answer_says_what_browsers_must_not_do(
    keyring: Known, method: str, path: str, key: str | None, status: int
) -> None:
    answer = _client(_app(keyring), key).request(method, path)

    assert answer.status_code == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = answer.headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_a_route_may_set_its_own(keyring: Known) -> None:
    headers = _client(_app(keyring), "reader").get("/own").headers

    assert headers.get_list("Cache-Control") == ["private, no-cache"]
    assert headers.get_list("Content-Security-Policy") == ["default-src 'self'"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "prefect_executions.audit"):
        yield caplog


def _audit(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.name.endswith("executions.audit")
    ]


def test_each_change_is_logged_and_no_reading(
    keyring: Known, audited: pytest.LogCaptureFixture
) -> None:
    app = _app(keyring)
    for method in ("GET", "HEAD", "OPTIONS"):
        _client(app, "writer").request(method, "/who")

    _client(app, "writer").post("/change/1?token=abc")
    _client(app, "reader").post("/change/2")
    _client(app, "secret").post("/change/3")
    _client(app, SETTINGS_KEY).post("/fail")

    lines = _audit(audited)
    assert [line.split()[:4] for line in lines] == [
        ["writer", "POST", "/change/1", "200"],
        ["reader", "POST", "/change/2", "403"],
        ["nobody", "POST", "/change/3", "401"],
        ["settings", "POST", "/fail", "500"],
    ]
    assert all(line.endswith(" ms") for line in lines)
    for secret in ("abc", "secret", SETTINGS_KEY, "Bearer"):
        assert secret not in "".join(lines)
    assert {record.levelno for record in audited.records if "audit" in record.name} == {
        logging.INFO
    }


@pytest.mark.parametrize(
    "path",
    ["/change/a%0Ab", "/change/a%0D%0Awriter POST /b 200", "/change/%1b[31m", "/change/%E2%80%A8"],
)
def test_a_path_can_not_begin_another_line_of_the_log(
    keyring: Known, audited: pytest.LogCaptureFixture, path: str
) -> None:
    _client(_app(keyring), "writer").post(path)

    [line] = _audit(audited)
    assert line.isascii()
    assert line.isprintable()


def test_a_stream_passes_piece_by_piece(keyring: Known) -> None:
    """Each piece is with the client before the next one is made."""
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
