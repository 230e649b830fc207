"""What tools return, raise and refuse, and who is told of it: the model, the log or the flow."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agents import function_tool
from agents.mcp import MCPServerStdio
from agents.testing import assistant_message
from agents.tool import default_tool_error_function
from pydantic import BaseModel

import weather_server
from prefect_executions import execution, step
from prefect_executions.errors import StateError
from prefect_executions.log.journal import Outcome
from prefect_executions.openai_agents import run
from prefect_executions.testkit import TestKit
from recorded_runs import flow_of, run_twice
from scripted_agents import agent, calls, says
from trials import act, acts, ended, journal


class Found(BaseModel):
    text: str


def final(*tools: Any) -> Any:
    """A body that has each tool called once, and returns the model's last word."""

    async def body() -> Any:
        guide = agent([calls(tool.name) for tool in tools], says, tools=[*tools])
        return (await run(guide, "hi")).final_output

    return body


def test_what_a_function_returns_by_its_annotation_is_kept(kit: TestKit) -> None:
    @function_tool
    def search() -> Found:
        act("search")
        return Found(text="x")

    first, second, _ = run_twice(kit, final(search))

    assert first == second
    assert "x" in second
    assert acts["search"] == 1


def test_what_the_model_is_told_of_a_failure_is_recorded(kit: TestKit) -> None:
    @function_tool
    def fails() -> int:
        act("fails")
        raise ConnectionError("no luck")

    @function_tool(failure_error_function=lambda _, error: f"my own: {error}")
    def fails_too() -> int:
        act("fails too")
        raise ConnectionError("no luck")

    @function_tool(timeout=0.05)
    async def slow() -> int:
        act("slow")
        await asyncio.Event().wait()
        return 1

    first, second, _ = run_twice(kit, final(fails, fails_too, slow))

    assert first == second
    assert "my own: no luck" in second
    assert "timed out" in second
    assert set(acts.values()) == {1}


@step
def unkept() -> Any:
    return object()


@pytest.mark.parametrize(
    "told", [default_tool_error_function, None, lambda _, error: f"my own: {error}"]
)
def test_an_error_of_this_package_in_a_tool_is_nothing_for_the_model(
    kit: TestKit, told: Any
) -> None:
    options = {} if told is default_tool_error_function else {"failure_error_function": told}

    @function_tool(**options)
    def asks() -> str:
        return f"{unkept()}"

    trial = kit.start(flow_of(lambda: agent([calls("asks")], says, tools=[asks])))

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of unkept"
    assert acts == {"guide 0": 1}


@dataclass
class Opaque:
    at: Any


def test_a_result_that_can_not_be_kept_is_refused_with_the_tool_and_not_paid_for_again(
    kit: TestKit,
) -> None:
    @function_tool
    def search(text: str) -> Any:
        act("search")
        return Opaque(object())

    trial = kit.start(
        flow_of(lambda: agent([calls("search", text="x")], says, tools=[search]), max_retries=1)
    )

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of guide: tool search"
    assert acts == {"guide 0": 1, "search": 1}
    trial.resume()
    assert acts == {"guide 0": 1, "search": 1}
    [record] = [one for one in journal(kit, trial) if one.outcome is Outcome.UNKEPT]
    assert (record.step, record.called_with) == ("guide: tool search", "text='x'")


class Answer(BaseModel):
    colour: str


def test_a_tool_may_ask_which_ends_the_process_until_it_is_answered(kit: TestKit) -> None:
    @function_tool
    def ask() -> str:
        act("ask")
        return execution.current().ask(Answer, prompt="Which colour?").colour

    @function_tool
    def look() -> str:
        return act("look")

    turns = [calls("ask")], [calls("look")], says
    trial = kit.start(flow_of(lambda: agent(*turns, tools=[ask, look])))

    assert trial.status == "paused", repr(trial.error)
    trial.resume(input={"colour": "Blue."})
    assert ended(trial).result == "Blue. LOOK"
    assert acts == {"guide 0": 1, "guide 1": 1, "guide 2": 1, "ask": 2, "look": 1}


def test_steps_in_a_tool_are_recorded_inside_it(kit: TestKit) -> None:
    @step
    def charge(cents: int) -> str:
        return act(f"charge {cents}")

    @function_tool
    def buy() -> str:
        return charge(5)

    with kit.crash_after(4):  # the attempt, the run, the response, the charge
        trial = kit.start(flow_of(lambda: agent([calls("buy")], says, tools=[buy])))
    trial.resume()

    assert ended(trial).result == "CHARGE 5"
    assert set(acts.values()) == {1}


def test_tools_of_an_mcp_server_are_called_once(kit: TestKit, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    command: Any = {"command": sys.executable, "args": [weather_server.__file__, str(log)]}
    both = [calls("weather", "c1", city="Oslo"), calls("weather", "c2", city="Rome")]

    async def body() -> Any:
        async with MCPServerStdio(command, client_session_timeout_seconds=60) as server:
            guide = agent(both, says, mcp_servers=[server])
            return (await run(guide, "hi")).final_output

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert "sun in Oslo" in second
    assert sorted(log.read_text().splitlines()) == ["Oslo", "Rome"]


def test_a_response_that_can_not_be_kept_is_refused_with_the_model_and_not_paid_for_again(
    kit: TestKit,
) -> None:
    def opaque(_: list[Any]) -> Any:
        return [assistant_message("hi").model_copy(update={"more": object()})]

    trial = kit.start(flow_of(lambda: agent(opaque)))
    trial.resume()

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of guide: model"
    assert "can't be kept as JSON" in trial.error.problem
    assert acts == {"guide 0": 1}
