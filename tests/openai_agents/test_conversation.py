"""A session of the SDK whose items are in the state."""

import asyncio
from typing import Any

from agents import SQLiteSession
from agents.memory import Session, SessionSettings
from prefect import flow

from prefect_executions import execution
from prefect_executions.openai_agents import Conversation, run
from prefect_executions.testkit import TestKit
from scripted_agents import agent, says
from trials import acts


def item(number: int) -> Any:
    return {"role": "user", "content": f"{number}"}


def test_it_is_a_session_over_a_list() -> None:
    async def body() -> None:
        items: list[dict[str, Any]] = [item(0)]
        session = Conversation(items)
        assert isinstance(session, Session)
        await session.add_items([item(1), item(2)])
        assert items == await session.get_items() == [item(0), item(1), item(2)]
        assert await session.get_items(2) == [item(1), item(2)]
        assert await session.get_items(0) == []
        session.session_settings = SessionSettings(limit=1)
        assert await session.get_items() == [item(2)]
        assert await session.pop_item() == item(2)
        assert items == [item(0), item(1)]
        await session.clear_session()
        assert items == []
        assert await session.pop_item() is None

    asyncio.run(body())


def test_another_session_is_refused_by_name(kit: TestKit) -> None:
    @flow
    @execution
    async def runs() -> Any:
        return await run(agent(says), "hi", session=SQLiteSession("mine"))

    trial = kit.start(runs)

    assert isinstance(trial.error, TypeError)
    assert str(trial.error).startswith("session: is a SQLiteSession, to which a run that is made")
    assert not acts
