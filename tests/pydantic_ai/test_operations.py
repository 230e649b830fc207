"""The operations of an agent as steps: what they come to, how they are named, what is refused."""

import socket
from typing import Any

import pytest
from prefect import flow
from pydantic_ai import ModelRetry, ToolReturn
from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    EventStreamHandlerId,
    ModelRequestId,
    ToolsetCallToolId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.tools import RunContext

from agent_flows import durable, run_twice
from prefect_executions import execution
from prefect_executions.errors import StateError
from prefect_executions.log.journal import Outcome
from prefect_executions.pydantic_ai.agent_runs import AgentRun, RunBegun
from prefect_executions.pydantic_ai.operations import step_name
from prefect_executions.testkit import TestKit
from scripted_models import calls, says, scripted
from trials import act, acts, journal


def test_what_a_tool_tells_the_model_by_raising_is_its_result(kit: TestKit) -> None:
    """A record like any other: what has asked for another try or has failed is not called again."""
    turns = [calls("search", text="x")], [calls("search", text="y")], [calls("search", text="z")]
    agent = durable(scripted(*turns, says))

    @agent.tool_plain
    def search(text: str) -> Any:
        act(f"search {text}")
        if text == "x":
            raise ModelRetry("Not x.")
        if text == "y":
            raise ToolFailed("No y.")
        return ToolReturn("found", content="more", metadata={"n": 1})

    async def body() -> list[Any]:
        messages = (await agent.run("hi")).all_messages()
        return [getattr(part, "content", None) for message in messages for part in message.parts]

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert "Not x." in str(first)
    assert "No y." in first
    assert "found" in first
    assert set(acts.values()) == {1}


def test_arguments_that_do_not_fit_are_told_to_the_model_once(kit: TestKit) -> None:
    agent = durable(scripted([calls("double", n="many")], [calls("double", n=4)], says))

    @agent.tool_plain
    def double(n: int) -> int:
        act(f"double {n}")
        return 2 * n

    async def body() -> str:
        return str((await agent.run("hi")).output)

    assert run_twice(kit, body)[:2] == ("8", "8")
    assert acts == {"model 0": 1, "model 1": 1, "model 2": 1, "double 4": 1}


def test_an_error_of_a_tool_is_no_record_and_it_is_called_again(kit: TestKit) -> None:
    agent = durable(scripted([calls("search")], says))

    @agent.tool_plain
    def search() -> str:
        act("search")
        if acts["search"] == 1:
            raise ConnectionError("no luck")
        return "found"

    @flow
    @execution(max_retries=1)
    async def runs() -> str:
        return str((await agent.run("hi")).output)

    assert kit.start(runs).result == "found"
    assert acts == {"model 0": 1, "model 1": 1, "search": 2}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (socket.SocketType, "can't be kept as JSON"),
        (2**70, "is an integer beyond 64 bits"),
    ],
)
def test_a_result_that_can_not_be_kept_is_refused_with_the_tool_and_not_paid_for_again(
    kit: TestKit, value: Any, problem: str
) -> None:
    agent = durable(scripted([calls("search", text="x")], says))

    @agent.tool_plain
    def search(text: str) -> Any:
        act("search")
        return object() if value is socket.SocketType else value

    @flow
    @execution(max_retries=1)
    async def runs() -> str:
        return str((await agent.run("hi")).output)

    trial = kit.start(runs)

    assert isinstance(trial.error, StateError)
    assert trial.error.path.startswith("the result of guide: tool search")
    assert problem in trial.error.problem
    assert acts == {"model 0": 1, "search": 1}
    [record] = [one for one in journal(kit, trial) if one.outcome is Outcome.UNKEPT]
    assert (record.step, record.called_with) == ("guide: tool search", "text='x'")


NAMES = {
    "guide: model": ModelRequestId(model_name="m"),
    "guide: model fast": ModelRequestId("fast", model_name="m", streaming=True),
    "guide: tool search": ToolsetCallToolId("function", toolset_id="t"),
    "guide: arguments of search": ToolsetValidateToolArgumentsId("function", toolset_id="t"),
    "the framework's": EventStreamHandlerId(),
    "the framework's ": ToolsetGetToolsId("mcp", toolset_id="t"),
    "the framework's  ": CapabilityOperationId("c", operation="o"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_steps_are_kept(name: str) -> None:
    """They are in the logs of executions that go on with the next version."""
    ctx: Any = RunContext(deps=None, model=None, usage=None, tool_name="search")  # type: ignore[arg-type]

    assert step_name("guide", NAMES[name], name, ctx) == name


def test_the_keys_of_calls_are_kept() -> None:
    run = AgentRun(RunBegun("begun", "run"), None)

    keys = [run.key("guide__model.request"), run.key("guide__model.request")]
    keys += [run.key("guide__t.call_tool:search", "call_1") for _ in range(2)]

    assert keys == [
        "begun guide__model.request  1",
        "begun guide__model.request  2",
        "begun guide__t.call_tool:search call_1 1",
        "begun guide__t.call_tool:search call_1 2",
    ]
