"""Flows that run an agent of Google ADK."""

from collections.abc import Callable
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.agents.run_config import RunConfig
from google.adk.apps import App
from google.adk.events.event import Event
from google.adk.runners import Runner
from google.genai.types import Content, Part
from prefect import flow

from prefect_executions import execution
from prefect_executions.adk import ExecutionsPlugin, StateSessions
from prefect_executions.testkit import TestKit, Trial
from trials import ended


def runner_of(agent: BaseAgent, sessions: dict[str, Any], *plugins: Any) -> Runner:
    app = App(name="shop", root_agent=agent, plugins=[*plugins, ExecutionsPlugin()])
    service = StateSessions(sessions)
    return Runner(app=app, session_service=service, auto_create_session=True)


async def ask(
    runner: Runner, prompt: str = "hi", *, session: str = "s", config: RunConfig | None = None
) -> list[Event]:
    """The events of a run."""
    message = Content(role="user", parts=[Part(text=prompt)])
    run = runner.run_async(
        user_id="ann", session_id=session, new_message=message, run_config=config
    )
    return [event async for event in run]


def last_text(events: list[Event]) -> str:
    """What was said last."""
    texts = [
        part.text
        for event in events
        if event.content
        for part in event.content.parts or []
        if part.text
    ]
    return texts[-1]


def flow_of(make: Callable[[], BaseAgent], **options: Any) -> Any:
    """A flow that runs an agent, which is made anew in each attempt, as in each process."""

    @flow
    @execution(**options)
    async def runs() -> Any:
        sessions = execution.current().state.setdefault("adk", {})
        return last_text(await ask(runner_of(make(), sessions)))

    return runs


def run_twice(kit: TestKit, body: Callable[[dict[str, Any]], Any]) -> tuple[Any, Any, Trial]:
    """What an async body returns in a first attempt that fails, and in a second one.

    Args:
        kit: The test kit.
        body: Is given the dict of the sessions.
    """
    seen = []

    @flow
    @execution(max_retries=1)
    async def repeats() -> None:
        sessions = execution.current().state.setdefault("adk", {})
        seen.append(await body(sessions))
        if execution.current().attempt == 1:
            raise RuntimeError("again")

    trial = ended(kit.start(repeats))
    first, second = seen
    return first, second, trial


def said(events: list[Event]) -> list[Any]:
    """What was said by whom, and called, without ids and times, which differ each time."""
    lines: list[Any] = []
    for event in events:
        for part in (event.content and event.content.parts) or []:
            what: Any = part.text
            if part.function_call:
                what = [part.function_call.name, part.function_call.args]
            if part.function_response:
                what = [part.function_response.name, part.function_response.response]
            lines.append([event.author, what])
    return lines


def conversation(trial: Trial, session: str = "s") -> list[Any]:
    """What was said in a session that is in the state."""
    kept = trial.state["adk"]["shop"]["users"]["ann"]["sessions"][session]
    assert "open" not in kept
    return said([Event.model_validate(event) for event in kept["events"]])


def same(trial: Trial) -> dict[str, Any]:
    """What has to be the same after a crash."""
    return {"the result": trial.result, "the conversation": conversation(trial)}
