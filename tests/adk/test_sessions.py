"""A session service whose sessions are in the state."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai.types import Content, Part

from prefect_executions.adk import StateSessions
from prefect_executions.errors import StateError

ANN: dict[str, str] = {"app_name": "shop", "user_id": "ann"}
BOB: dict[str, str] = {"app_name": "shop", "user_id": "bob"}


def event(at: float, /, said: str = "hi", **state: Any) -> Event:
    return Event(
        author="user",
        invocation_id="i",
        timestamp=at,
        content=Content(role="user", parts=[Part(text=said)]),
        actions=EventActions(state_delta={key.replace("__", ":"): v for key, v in state.items()}),
    )


async def session_of(service: BaseSessionService, who: dict[str, str], id_: str) -> Session:
    session = await service.get_session(**who, session_id=id_)
    assert session is not None
    return session


async def states(service: BaseSessionService) -> list[Any]:
    first = await service.create_session(
        **ANN, session_id=" a ", state={"n": 1, "app:x": 1, "user:y": 1, "temp:z": 1}
    )
    seen: list[Any] = [first.id, first.state]
    await service.append_event(first, event(1, n=2, app__x=2, user__y=[2], temp__z=2))
    seen.append(first.state)
    for who, id_ in (ANN, "a"), (ANN, "b"), (BOB, "c"):
        if id_ != "a":
            await service.create_session(**who, session_id=id_)
        seen.append((await session_of(service, who, id_)).state)
    stored = (await session_of(service, ANN, "a")).events[0]
    return [*seen, stored.actions.state_delta, await service.get_user_state(**ANN)]


async def events(service: BaseSessionService) -> list[Any]:
    session = await service.create_session(**ANN, session_id="a")
    for at in range(5):
        appended = await service.append_event(session, event(float(at), said=f"{at}"))
        assert appended.timestamp == at
    await service.append_event(session, event(9.0).model_copy(update={"partial": True}))
    configs = [
        *(None, GetSessionConfig(num_recent_events=2), GetSessionConfig(num_recent_events=0)),
        *(GetSessionConfig(after_timestamp=2.0), GetSessionConfig(num_recent_events=9)),
    ]
    seen: list[Any] = []
    for config in configs:
        found = await service.get_session(**ANN, session_id="a", config=config)
        assert found is not None
        seen.append([one.timestamp for one in found.events])
    return [*seen, found.last_update_time]


async def lists(service: BaseSessionService) -> list[Any]:
    for who, id_, at in (ANN, "a", 3.0), (ANN, "b", 1.0), (BOB, "c", 2.0):
        session = await service.create_session(**who, session_id=id_)
        await service.append_event(session, event(at, n=1, user__y=1))
    one = await service.list_sessions(**ANN)
    all_ = await service.list_sessions(app_name="shop")
    none = await service.list_sessions(app_name="other")
    await service.delete_session(**ANN, session_id="a")
    await service.delete_session(**ANN, session_id="a")
    gone = await service.get_session(**ANN, session_id="a")
    left = await service.list_sessions(**ANN)
    return [
        [(s.id, s.state, s.events) for s in found.sessions] for found in (one, all_, none, left)
    ] + [gone]


@pytest.mark.parametrize("does", [states, events, lists])
def test_it_does_what_the_sessions_of_adk_do(
    does: Callable[[BaseSessionService], Awaitable[list[Any]]],
) -> None:
    async def body() -> tuple[list[Any], list[Any]]:
        return await does(StateSessions({})), await does(InMemorySessionService())

    ours, theirs = asyncio.run(body())

    assert ours == theirs


def test_another_service_over_the_same_dict_finds_everything_and_shares_nothing() -> None:
    async def body() -> None:
        data: dict[str, Any] = {}
        session = await StateSessions(data).create_session(**ANN, state={"list": [1]})
        signed = Part(text="so", thought_signature=b"\xff\x00")
        content = Content(role="model", parts=[signed])
        await StateSessions(data).append_event(
            session, Event(author="guide", invocation_id="i", content=content)
        )
        found = await session_of(StateSessions(data), ANN, "session-1")
        assert found.events[0].content == content
        found.state["list"].append(2)
        assert (await session_of(StateSessions(data), ANN, "session-1")).state == {"list": [1]}

    asyncio.run(body())


def test_ids_are_the_same_in_each_attempt_and_taken_once() -> None:
    async def body() -> None:
        service = StateSessions({})
        ids = [(await service.create_session(**ANN)).id for _ in range(2)]
        assert ids == ["session-1", "session-2"]
        await service.delete_session(**ANN, session_id="session-1")
        assert (await service.create_session(**ANN)).id == "session-3"
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**ANN, session_id="session-3")

    asyncio.run(body())


def test_only_one_writer_has_a_session_at_a_time() -> None:
    async def body() -> None:
        service = StateSessions({})
        session = await service.create_session(**ANN, session_id="a")
        other = await session_of(service, ANN, "a")
        await service.append_event(session, event(1.0))
        with pytest.raises(StaleSessionError, match="get it again"):
            await service.append_event(other, event(2.0))
        await service.delete_session(**ANN, session_id="a")
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session, event(2.0))

    asyncio.run(body())


def test_a_value_that_can_not_be_kept_is_refused_by_name() -> None:
    async def body() -> None:
        data: dict[str, Any] = {}
        service = StateSessions(data)
        with pytest.raises(StateError, match=r"the state of a session\.user:x: is of type object"):
            await service.create_session(**ANN, state={"user:x": object()})
        session = await service.create_session(**ANN, session_id="a")
        with pytest.raises(StateError, match=r"an event of user: state_delta\.when\[0\]: is"):
            await service.append_event(session, event(1.0, when=[object()]))
        assert (await session_of(service, ANN, "a")).events == []

    asyncio.run(body())
