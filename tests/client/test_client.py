"""The clients, sync and async: what they send again, and executions over real HTTP."""

import asyncio
import runpy
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client

from prefect_executions import ExecutionError, Status
from prefect_executions.client import (
    AsyncClient,
    AttemptSuperseded,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    ServiceError,
    Unauthorized,
    Unavailable,
    aio,
    sending,
    sync,
)
from prefect_executions.client.profiles import LOCAL, find
from prefect_executions.errors import StateError
from prefect_executions.local import Stack, free_ports
from prefect_executions.models import Execution
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY
from serving import served

ID = "exec_0192f0c1a6b87c3d9e4f5a6b7c8d9e0f"
STANDING = {"status": "running", "attempt": 1}

Act = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the profiles and the environment of the user who runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("URL", "API_KEY", "PROFILE"):
        monkeypatch.delenv(f"PREFECT_EXECUTIONS_{name}", raising=False)


# ---------------------------------------------------------------------- what is sent again


class Script:
    """A service that gives prepared answers, and keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def away(status: int = 503, **headers: str) -> httpx.Response:
    body = {"status": status, "code": "store_unavailable", "detail": "It is away."}
    return httpx.Response(status, json=body, headers=headers)


def refused(status: int, code: str, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "code": code, "detail": "No.", **more})


def answered(status: str, **more: Any) -> httpx.Response:
    """An execution."""
    run = {"flow_run_id": ID[5:], "state_name": "Any", "message": None, "deployment": None}
    execution = dict.fromkeys(Execution.model_fields) | {
        "id": ID,
        "name": "a",
        "status": status,
        "continues_from": "ckpt_000000",
        "checkpoints": [],
        "config": {},
        "elapsed_seconds": 0,
        "created_at": "2026-11-24T10:00:00Z",
        "updated_at": "2026-11-24T10:00:00Z",
        "prefect": {**run, "attempt": 1, "runs_on": None, "url": None},
    }
    return httpx.Response(200, json={**execution, **more})


def first_of_stream(client: Any) -> Any:
    stream = client.stream(ID)
    return next(stream) if isinstance(client, Client) else anext(stream)


def alive() -> httpx.Response:
    return httpx.Response(200, json=STANDING)


def in_sync(script: Script, act: Act, patience: float = 60) -> Any:
    transport = httpx.MockTransport(script)
    with Client("http://x", "key", transport=transport, patience=patience) as client:
        return act(client)


def in_a_loop(script: Script, act: Act, patience: float = 60) -> Any:
    async def run() -> Any:
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://x", "key", transport=transport, patience=patience) as client:
            return await act(client)

    return asyncio.run(run())


both = pytest.mark.parametrize("run", [in_sync, in_a_loop], ids=["sync", "async"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.001)


def beat(client: Any) -> Any:
    return client.heartbeat(ID, 1)


@both
@pytest.mark.parametrize(
    "first",
    [away(), away(502), away(504), refused(429, "rate_limited"), httpx.ReadError("cut"),
     httpx.ConnectError("refused")],
    ids=str,
)  # fmt: skip
def test_what_may_be_repeated_is(run: Any, first: httpx.Response | Exception) -> None:
    script = Script(first, first, alive())

    assert run(script, beat).attempt == 1

    assert len(script.asked) == 3
    assert {request.headers["Authorization"] for request in script.asked} == {"Bearer key"}


@both
@pytest.mark.parametrize("first", [away(), httpx.ReadError("cut")], ids=str)
@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.resume(ID),
        lambda c: c.fail(ID, "no"),
        lambda c: c.checkpoint(ID, {}),  # by hand
        lambda c: c.bulk("resume", ids=[ID]),
    ],
)
def test_what_would_do_harm_twice_is_sent_once(
    run: Any, act: Act, first: httpx.Response | Exception
) -> None:
    script = Script(first, alive())

    with pytest.raises(Unavailable):
        run(script, act)

    assert len(script.asked) == 1


@both
@pytest.mark.parametrize("first", [refused(429, "rate_limited"), httpx.ConnectError("refused")])
def test_what_never_was_carried_out_is_sent_again_in_any_case(
    run: Any, first: httpx.Response | Exception
) -> None:
    script = Script(first, refused(409, "status_conflict", execution_status="running"))

    with pytest.raises(Conflict) as conflict:
        run(script, lambda c: c.resume(ID))

    assert conflict.value.execution_status == "running"
    assert len(script.asked) == 2


@both
def test_a_creation_is_repeated_with_its_key(run: Any) -> None:
    made = refused(422, "state_invalid", errors=[{"field": "state.a", "problem": "is NaN"}])
    script = Script(httpx.ReadError("cut"), made)

    with pytest.raises(Invalid) as wrong:
        run(script, lambda c: c.create("a"))

    assert wrong.value.errors == ({"field": "state.a", "problem": "is NaN"},)
    keys = {request.headers["Idempotency-Key"] for request in script.asked}
    assert len(script.asked) == 2
    assert len(keys) == 1


@both
def test_it_waits_as_long_as_the_service_asks(run: Any) -> None:
    script = Script(away(**{"Retry-After": "30"}), alive())

    with pytest.raises(Unavailable):  # 30 s is longer than its patience
        run(script, beat, patience=10)

    assert len(script.asked) == 1


@both
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthorized", Unauthorized),
        (403, "forbidden", Forbidden),
        (404, "execution_not_found", NotFound),
        (409, "status_conflict", Conflict),
        (409, "superseded", AttemptSuperseded),
        (413, "body_too_large", Invalid),
        (422, "request_invalid", Invalid),
        (500, "internal", ServiceError),
    ],
)
def test_a_refusal_is_an_exception_of_its_kind(
    run: Any, status: int, code: str, kind: type[ServiceError]
) -> None:
    with pytest.raises(kind) as refusal:
        run(Script(refused(status, code)), beat)

    assert type(refusal.value) is kind
    assert (refusal.value.status, refusal.value.code) == (status, code)
    assert isinstance(refusal.value, ExecutionError)


@both
def test_an_error_that_is_not_the_service_s_is_shown(run: Any) -> None:
    with pytest.raises(ServiceError, match="502: Bad gateway") as error:
        run(Script(httpx.Response(502, text="Bad gateway")), beat, patience=0)

    assert error.value.code == "unknown"
    assert type(error.value) is Unavailable


@both
def test_patience_ends(run: Any) -> None:
    script = Script(*[refused(429, "rate_limited") for _ in range(9999)])

    with pytest.raises(RateLimited):
        run(script, beat, patience=1)

    assert len(script.asked) > 2


@both
def test_a_date_is_waited_for_too(run: Any) -> None:
    script = Script(away(**{"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}), alive())

    with pytest.raises(Unavailable):
        run(script, beat)

    assert len(script.asked) == 1


@both
@pytest.mark.parametrize("asked", ["nan", "inf", "-1", "soon", "Fri, 01 Jan 2100 00:00:00"])
def test_what_is_no_time_is_not_waited_for(run: Any, asked: str) -> None:
    assert run(Script(away(**{"Retry-After": asked}), alive()), beat).attempt == 1


@both
@pytest.mark.parametrize(
    "wrong", [httpx.LocalProtocolError("a header"), httpx.UnsupportedProtocol("x")]
)
def test_what_can_never_help_is_tried_once(run: Any, wrong: Exception) -> None:
    script = Script(wrong, alive())

    with pytest.raises(Unavailable):
        run(script, beat)

    assert len(script.asked) == 1


@both
def test_a_deletion_whose_answer_was_lost_has_happened(run: Any) -> None:
    gone = refused(404, "execution_not_found")

    assert run(Script(httpx.ReadError("cut"), gone), lambda c: c.delete(ID)) is True
    for never_sent in (httpx.ConnectError("refused"), refused(429, "rate_limited")):
        with pytest.raises(NotFound):
            run(Script(never_sent, gone), lambda c: c.delete(ID))


@both
@pytest.mark.parametrize(
    ("state", "path"),
    [
        ({"a": [float("nan")]}, r"state\.a\[0\]: is nan"),
        ({"a": {1: 2}}, r"state\.a: has the key 1"),
        ({"a": (1, 2)}, r"state\.a: is of type tuple"),
        ("\ud800", "state: holds a lone surrogate"),
    ],
    ids=str,
)
def test_what_would_come_as_something_else_is_not_sent(run: Any, state: Any, path: str) -> None:
    script = Script()
    for act in (
        lambda c: c.checkpoint(ID, state),
        lambda c: c.create("a", state=state),
        lambda c: c.complete(ID, state=state),
    ):
        with pytest.raises(StateError, match=path):
            run(script, act)

    assert script.asked == []


@both
@pytest.mark.parametrize("id_", ["../../health", "a/b", "a?b", "a#b", "%2e"])
def test_what_is_no_id_stays_one_part_of_the_path(run: Any, id_: str) -> None:
    script = Script(*[refused(404, "execution_not_found") for _ in range(3)])
    for act in (
        lambda c: c.get(id_),
        lambda c: c.delete(id_),
        lambda c: c.get_checkpoint(ID, id_),
    ):
        with pytest.raises(NotFound):
            run(script, act)

    paths = [request.url.raw_path.split(b"?")[0] for request in script.asked]
    assert [path.count(b"/") for path in paths] == [3, 3, 5]
    assert all(path.startswith(b"/v1/execution/") for path in paths)


@both
def test_one_status_is_one(run: Any) -> None:
    script = Script(httpx.Response(200, json={"items": [], "next_cursor": None}))

    run(script, lambda c: c.page(status="running"))

    assert script.asked[0].url.params.get_list("status") == ["running"]


@both
def test_a_wait_for_another_status_ends_with_the_execution(run: Any) -> None:
    script = Script(answered("running"), answered("failed"))

    assert run(script, lambda c: c.wait(ID, until="paused", timeout=60)).status is Status.FAILED


@both
def test_a_newer_service_may_answer_more(run: Any) -> None:
    more = answered("running", news=1, config={"max_retries": 1, "news": 2})

    assert run(Script(more), lambda c: c.get(ID)).config.max_retries == 1


@both
def test_what_is_not_the_service_is_named(run: Any) -> None:
    def page() -> httpx.Response:
        return httpx.Response(200, html="<h1>Welcome</h1>")

    for act in (lambda c: c.get(ID), first_of_stream):
        with pytest.raises(ServiceError, match="answers something else, of the type text/html"):
            run(Script(page()), act)


class Quiet(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream with one event, that is quiet for longer than the client's patience, and breaks."""

    def __init__(self, n: int) -> None:
        data = f'id: {n}\nevent: status\ndata: {{"n": {n}}}\n\n'
        self._sent = [data.encode(), b": alive\n\n"]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._sent
        threading.Event().wait(0.3)
        raise httpx.ReadError("it was restarted")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for sent in self._sent:
            yield sent
        await asyncio.sleep(0.3)
        raise httpx.ReadError("it was restarted")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_that_comes_back_after_the_deletion_ends_with_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "Last-Event-ID" in request.headers:
            return httpx.Response(404, json={"code": "execution_not_found", "detail": "gone"})
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Quiet(1))

    for module in (sync, aio):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    transport = httpx.MockTransport(answer)

    async def follow() -> list[Any]:
        async with AsyncClient("http://x", transport=transport) as client:
            return [event async for event in client.stream(ID)]

    if kind == "async":
        events = asyncio.run(follow())
    else:
        with Client("http://x", transport=transport) as client:
            events = list(client.stream(ID))
    assert [event.kind for event in events] == ["status", "deleted"]
    assert events[-1].data["execution_id"] == ID


def test_a_deletion_that_is_not_waited_for_says_so() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Prefer"])
        return httpx.Response(202)

    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        assert not client.delete(ID, wait=0)
        assert not client.delete(ID, wait=0.5)

    assert asked == ["wait=0", "wait=1"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_that_was_quiet_for_long_goes_on_when_it_breaks(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        kinds = {"Content-Type": "text/event-stream"}
        return httpx.Response(200, headers=kinds, stream=Quiet(len(asked)))

    for module in (sync, aio):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    transport = httpx.MockTransport(answer)

    async def follow() -> list[Any]:
        async with AsyncClient("http://x", transport=transport, patience=0.1) as client:
            stream = client.stream(ID)
            return [(await anext(stream)).data["n"] for _ in range(3)]

    if kind == "async":
        assert asyncio.run(follow()) == [1, 2, 3]
    else:
        with Client("http://x", transport=transport, patience=0.1) as client:
            stream = client.stream(ID)
            assert [next(stream).data["n"] for _ in range(3)] == [1, 2, 3]
    assert asked == [None, "1", "2"]


# ---------------------------------------------------------------------- where it is


def test_what_is_given_comes_before_the_environment_and_that_before_profiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert (find().url, find().api_key) == (LOCAL, None)
    file = tmp_path / "prefect-executions" / "config.toml"
    file.parent.mkdir()
    file.write_text(
        '[profiles.default]\nurl = "http://a"\napi_key = "ka"\n[profiles.b]\nurl = "http://b"\n'
    )
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert (find().url, find().api_key) == ("http://a", "ka")
    monkeypatch.setenv("PREFECT_EXECUTIONS_URL", "http://env")
    assert (find().url, find().api_key) == ("http://env", None)  # the key is for http://a
    assert find("http://given").api_key is None
    assert find("http://a/").api_key == "ka"
    assert find("http://c", profile="default").api_key is None
    assert find(profile="b").url == "http://b"
    assert find("http://given", "kg").url == "http://given"
    monkeypatch.setenv("PREFECT_EXECUTIONS_PROFILE", "c")
    with pytest.raises(ValueError, match=r"there is no 'c' in .*; there are: b, default"):
        find()


@pytest.mark.parametrize(
    ("url", "key", "problem"),
    [
        ("localhost:4300", None, "url: 'localhost:4300' does not begin with"),
        ("http://a", "pxk_\n", "api_key: holds characters"),
        ("http://a", "schlüssel", "api_key: holds characters"),
    ],
)
def test_what_can_be_no_url_and_no_key_is_said_at_once(
    url: str, key: str | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        Client(url, key)

    assert key is None or key not in str(error.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prefect-executions" / "config.toml"
    file.parent.mkdir()
    file.write_text("profiles = [")

    with pytest.raises(ValueError, match=r"config.toml: is no TOML"):
        find()


# ---------------------------------------------------------------------- a life


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    with (
        get_client(sync_client=True) as prefect,
        served(prefect, MemoryObjects(), store=uuid4().hex) as url,
    ):
        yield url


def test_a_life_in_sync(url: str) -> None:
    with Client(url, KEY) as client:
        execution = client.create("a", agent_id="me", state={"n": 0}, config={"max_retries": 1})
        for n in range(1, 4):
            saved = client.checkpoint(execution.id, {"n": n}, label=f"{n}", attempt=1)
            assert saved.status is Status.RUNNING
        paused = client.pause(
            execution.id, reason="look", until=datetime.now(UTC) + timedelta(days=1)
        )
        assert paused.prefect.message == "look"
        points = list(client.checkpoints(execution.id))
        assert [point.label for point in points] == ["3", "2", "1"]
        assert client.get_checkpoint(execution.id, points[2].id).state == {"n": 1}
        diff = client.diff(execution.id, points[2].id, points[0].id)
        assert diff.patch == [{"op": "replace", "path": "/n", "value": 3}]
        client.resume(execution.id, checkpoint_id=points[2].id)
        client.resume(execution.id, checkpoint_id=points[2].id, force=True)
        assert client.cancel(execution.id).status is Status.TERMINATED
        client.resume(execution.id)
        with pytest.raises(AttemptSuperseded):
            client.checkpoint(execution.id, {"n": 9}, attempt=1)
        begun = client.begin_attempt(execution.id)
        assert begun.state == {"n": 1}
        assert client.heartbeat(execution.id, begun.prefect.attempt).attempt == 2
        assert client.fail(execution.id, "no", attempt=2).prefect.state_name == "AwaitingRetry"
        client.begin_attempt(execution.id)
        fork = client.fork(execution.id, name="b")
        assert [item.name for item in client.list(agent_id="me")] == ["b", "a"]
        assert [item.id for item in client.list(name="b", status=["running"])] == [fork.id]
        done = client.complete(execution.id, result=7, attempt=3, state={"n": 8})
        assert (done.status, done.state, done.result) == (Status.COMPLETED, {"n": 8}, 7)
        assert client.cost(execution.id).puts > 5
        assert client.bulk("pause", filter={"agent_id": "me"}).items[0].ok
        assert client.delete(execution.id)
        with pytest.raises(NotFound):
            client.get(execution.id)
        with pytest.raises(TypeError, match="stat"):
            client.complete(fork.id, stat=1)


def test_a_life_in_a_loop(url: str) -> None:
    async def live() -> None:
        async with AsyncClient(url, KEY) as client:
            made = [(await client.create(f"{n}")).id for n in range(3)]
            assert [item.id async for item in client.list()] == made[::-1]
            await client.checkpoint(made[0], 1, attempt=1)
            assert [p.size async for p in client.checkpoints(made[0], states=True)] == [1]
            waiting = asyncio.create_task(client.wait(made[0], timeout=30))
            await client.complete(made[0], result=[1])
            assert (await waiting).result == [1]
            assert await client.delete(made[1])

    asyncio.run(live())


def test_it_waits_until_it_has_come_or_the_time_is_over(url: str) -> None:
    with Client(url, KEY) as client:
        execution = client.create("a")
        with pytest.raises(TimeoutError, match="It is running; waited in vain for: completed"):
            client.wait(execution.id, timeout=0.3)
        assert client.wait(execution.id, until=["running"]).id == execution.id


def test_a_stream_has_what_happens_until_the_deletion(url: str) -> None:
    with Client(url, KEY) as client:
        execution = client.create("a")
        stream = client.stream(execution.id)
        first = next(stream)
        assert (first.kind, first.data["status"]) == ("status", "running")
        client.checkpoint(execution.id, {"n": 1}, label="one", attempt=1)
        client.pause(execution.id)
        while next(stream).data.get("status") != "paused":
            pass
        client.delete(execution.id)

        assert [*stream][-1].kind == "deleted"
        with pytest.raises(NotFound):
            next(client.stream(execution.id))


def test_a_stream_goes_on_after_an_event(url: str) -> None:
    async def follow() -> list[Any]:
        async with AsyncClient(url, KEY) as client:
            execution = await client.create("a")
            first = await anext(client.stream(execution.id))
            await client.checkpoint(execution.id, 1, label="one", attempt=1)
            await client.pause(execution.id)
            more = client.stream(execution.id, last_event_id=first.id)
            return [(await anext(more)).data for _ in range(2)]

    saved, paused = asyncio.run(follow())

    assert saved["label"] == "one"
    assert paused["status"] == "paused"


def said(kind: type[ServiceError], client: Client) -> str:
    """What a client says that can't read an execution."""
    with client, pytest.raises(kind) as error:
        client.get(ID)
    return f"{error.value}"


def profiled(tmp_path: Path, **profile: str) -> Path:
    """The file of a profile `there`."""
    file = tmp_path / "prefect-executions" / "config.toml"
    file.parent.mkdir(exist_ok=True)
    fields = "".join(f'{name} = "{value}"\n' for name, value in profile.items())
    file.write_text(f"[profiles.there]\n{fields}")
    return file


def test_a_service_that_is_away_is_named_and_the_setting_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_ports(1)}"
    file = profiled(tmp_path, url=url)

    given = said(Unavailable, Client(url, patience=0))
    there = said(Unavailable, Client(profile="there", patience=0))
    monkeypatch.setenv("PREFECT_EXECUTIONS_URL", url)
    around = said(Unavailable, Client(patience=0))

    assert all(text.startswith(f"{url}/ does not answer: ") for text in (given, there, around))
    assert given.endswith(" The URL is in the argument `url`.")
    assert there.endswith(f" The URL is in `url` of the profile 'there' in {file}.")
    assert around.endswith(" The URL is in PREFECT_EXECUTIONS_URL.")


def test_without_a_url_it_says_that_none_was_given() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    text = said(Unavailable, Client(patience=0, transport=httpx.MockTransport(refuse)))

    assert text == (
        "http://127.0.0.1:4300/ does not answer: ConnectError Connection refused. "
        "No URL was given; this is the default."
    )


def test_a_wrong_key_is_called_wrong_and_the_setting_that_holds_it_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = profiled(tmp_path, url=url, api_key="wrong")

    given = said(Unauthorized, Client(url, "wrong"))
    there = said(Unauthorized, Client(profile="there"))
    monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", "wrong")
    around = said(Unauthorized, Client(url))

    for text, setting in (
        (given, "the argument `api_key`"),
        (there, f"`api_key` of the profile 'there' in {file}"),
        (around, "PREFECT_EXECUTIONS_API_KEY"),
    ):
        assert text == (
            f"{url} does not know the key in {setting}: "
            "it is wrong, was revoked, or belongs to another service."
        )


def test_a_missing_key_is_called_missing_and_the_settings_are_named(
    url: str, tmp_path: Path
) -> None:
    text = said(Unauthorized, Client(url))

    file = tmp_path / "prefect-executions" / "config.toml"
    assert text == (
        f"{url} wants a key, and there is none. Set PREFECT_EXECUTIONS_API_KEY, or `api_key` "
        f"beside that URL in a profile in {file}."
    )


def test_the_sync_client_is_generated_from_the_async_one() -> None:
    tool = runpy.run_path(f"{Path(__file__).parents[2] / 'tools/sync_client.py'}")
    source, made = (tool["CLIENT"] / name for name in ("aio.py", "sync.py"))

    assert tool["sync_of"](source.read_text()) == made.read_text(), "run `make client`"
