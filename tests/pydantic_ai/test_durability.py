"""Each call of a model or a tool is made once, wherever the process dies."""

import sys
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastmcp.client.transports import StdioTransport
from prefect import flow
from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai.exceptions import UserError
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import AgentStreamEvent

import weather_server
from agent_flows import durable, run_twice
from prefect_executions import execution, step
from prefect_executions.errors import NotAnExecution
from prefect_executions.pydantic_ai import ExecutionsDurability
from prefect_executions.testkit import TestKit, Trial
from scripted_models import calls, says, scripted
from trials import act, acts, done, ended

two_in_turn = durable(scripted([calls("search", text="a")], [calls("search", text="b")], says))
two_at_once = durable(scripted([calls("search", text="a"), calls("search", text="b")], says))


@two_in_turn.tool_plain
async def search(text: str) -> str:
    return act(f"search {text}")


@two_at_once.tool_plain(name="search")
def search_in_thread(text: str) -> str:
    return act(f"search {text}")


@flow
@execution
async def in_turn(prompt: str) -> str:
    return (await two_in_turn.run(prompt)).output


@flow
@execution
async def at_once(prompt: str) -> str:
    return (await two_at_once.run(prompt)).output


def test_nothing_that_is_recorded_is_done_again(kit: TestKit) -> None:
    """Killed right after any write: of the run's beginning, of each request and of each tool."""
    survived = kit.crash_everywhere(
        in_turn,
        {"prompt": "hi"},
        before=acts.clear,
        check=lambda _: _require_each_once(),
        lose_writes=False,
    )

    assert survived.undisturbed.result == "SEARCH B"
    assert len(survived.points) == 8  # the attempt, the run, 3 requests, 2 tools, the result


def _require_each_once() -> None:
    assert acts == {"model 0": 1, "model 1": 1, "model 2": 1, "search a": 1, "search b": 1}


@pytest.mark.long
def test_what_is_not_recorded_is_done_once_more_and_never_lost(kit: TestKit) -> None:
    def check(_: Trial) -> None:
        assert set(acts) == {"model 0", "model 1", "model 2", "search a", "search b"}
        assert acts.total() <= 6

    kit.crash_everywhere(in_turn, {"prompt": "hi"}, before=acts.clear, check=check)


@pytest.mark.long
def test_tools_that_run_at_once_keep_their_order_and_their_results(kit: TestKit) -> None:
    def check(_: Trial) -> None:
        assert set(acts) == {"model 0", "model 1", "search a", "search b"}
        assert acts.total() <= 6  # the two tools at most

    survived = kit.crash_everywhere(at_once, {"prompt": "hi"}, before=acts.clear, check=check)

    assert survived.undisturbed.result == "SEARCH A SEARCH B"


def test_the_steps_are_named_after_what_people_know(kit: TestKit) -> None:
    trial = ended(kit.start(at_once, prompt="hi"))

    names = [record.step for record in done(kit, trial)]
    assert names[:2] == ["guide: run", "guide: model"]
    assert sorted(names[2:]) == ["guide: model", "guide: tool search", "guide: tool search"]


def test_a_sync_flow_runs_it_with_run_sync(kit: TestKit) -> None:
    seen = []

    @flow
    @execution(max_retries=1)
    def waits() -> None:
        seen.append(two_at_once.run_sync("hi").output)
        if execution.current().attempt == 1:
            raise RuntimeError("again")

    ended(kit.start(waits))

    assert seen == ["SEARCH A SEARCH B"] * 2
    assert set(acts.values()) == {1}


def test_outside_an_execution_the_agent_is_as_it_was() -> None:
    assert two_at_once.run_sync("hi").output == "SEARCH A SEARCH B"
    assert two_at_once.run_sync("hi").output == "SEARCH A SEARCH B"

    assert set(acts.values()) == {2}


def test_a_request_that_is_streamed_is_made_once(kit: TestKit) -> None:
    events: list[str] = []

    async def handle(_: RunContext[Any], stream: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in stream:
            events.append(event.event_kind)

    agent = durable(
        scripted([calls("search", text="a")], says),
        capabilities=[ExecutionsDurability(event_stream_handler=handle)],
    )
    agent.tool_plain(search)

    async def body() -> list[str]:
        async with agent.run_stream("hi") as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    first, second, _ = run_twice(kit, body)

    assert "".join(first).strip() == "".join(second).strip() == "SEARCH A"
    assert acts == {"model 0": 1, "model 1": 1, "search a": 1}
    assert events.count("function_tool_call") == events.count("function_tool_result") == 1


def test_tools_of_an_mcp_server_are_called_once(kit: TestKit, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    command = StdioTransport(sys.executable, [weather_server.__file__, str(log)])
    agent = durable(
        scripted([calls("weather", city="Oslo"), calls("weather", city="Rome")], says),
        toolsets=[MCPToolset(command, id="weather", init_timeout=60, read_timeout=60)],
    )

    async def body() -> str:
        return str((await agent.run("hi")).output)

    first, second, trial = run_twice(kit, body)

    assert first == second == "sun in Oslo sun in Rome"
    assert sorted(log.read_text().split()) == ["Oslo", "Rome"]
    names = {record.step for record in done(kit, trial)}
    assert {"guide: tool weather", "guide__mcp_server__weather.get_tools"} < names


def test_an_agent_in_a_tool_of_another_is_inside_its_step(kit: TestKit) -> None:
    inner = durable(scripted([calls("search", text="in")], says, name="inner"), name="helper")
    inner.tool_plain(search)
    outer = durable(scripted([calls("delegate")], says))

    @outer.tool_plain
    async def delegate() -> str:
        result = await inner.run("help")
        if acts["fails"] == 0:
            act("fails")
            raise RuntimeError("after the other agent has answered")
        return str(result.output)

    @flow
    @execution(max_retries=1)
    async def delegates() -> str:
        return str((await outer.run("hi")).output)

    trial = ended(kit.start(delegates))

    assert trial.result == "SEARCH IN"
    assert set(acts.values()) == {1}
    by_name = {record.step: record for record in done(kit, trial)}
    tool = by_name["guide: tool delegate"]
    assert by_name["helper: model"].parent == by_name["helper: tool search"].parent == tool.order


def test_steps_that_a_tool_calls_are_inside_it(kit: TestKit) -> None:
    @step
    def read(text: str) -> str:
        return act(f"read {text}")

    agent = durable(scripted([calls("look", text="a"), calls("look", text="b")], says))

    @agent.tool_plain
    def look(text: str) -> str:
        found = read(text) + read(text)
        if acts[f"fails {text}"] == 0:
            act(f"fails {text}")
            raise RuntimeError("after its steps")
        return found

    @flow
    @execution(max_retries=4)
    async def looks() -> str:
        return str((await agent.run("hi")).output)

    trial = ended(kit.start(looks))

    assert trial.result == "READ AREAD A READ BREAD B"
    assert acts["read a"] == acts["read b"] == 2
    assert acts["model 0"] == acts["model 1"] == 1


def test_a_plain_thread_beside_an_execution_is_refused(kit: TestKit) -> None:
    @flow
    @execution
    def threads() -> None:
        with ThreadPoolExecutor() as pool:
            pool.submit(two_at_once.run_sync, "hi").result()

    trial = kit.start(threads)

    assert isinstance(trial.error, NotAnExecution)
    assert not acts


def test_a_toolset_that_only_one_run_has_is_refused(kit: TestKit) -> None:
    @flow
    @execution
    async def adds() -> None:
        await two_at_once.run("hi", toolsets=[FunctionToolset([search], id="more")])

    trial = kit.start(adds)

    assert "prefect-executions" in str(trial.error)
    assert not acts


def test_an_agent_needs_a_name() -> None:
    with pytest.raises(UserError, match="needs to have a unique `name`"):
        Agent("test", capabilities=[ExecutionsDurability()])
