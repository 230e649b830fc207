"""What tools return, raise, change and refuse, and who is told of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models import LlmRequest, LlmResponse
from google.adk.plugins import ReflectAndRetryToolPlugin
from google.adk.tools import AgentTool, LongRunningFunctionTool, McpToolset, ToolContext
from google.adk.tools.mcp_tool import StdioConnectionParams
from google.adk.workflow import Workflow
from mcp import StdioServerParameters
from prefect import flow
from pydantic import BaseModel

import weather_server
from adk_runs import ask, conversation, flow_of, last_text, run_twice, runner_of, said
from prefect_executions import execution, step
from prefect_executions.errors import StateError
from prefect_executions.log.journal import Outcome
from prefect_executions.testkit import TestKit
from scripted_adk import agent, calls, says
from trials import act, acts, ended, journal


def results(*tools: Any, **options: Any) -> Callable[[dict[str, Any]], Any]:
    """Runs an agent that calls each of these tools at once; returns what was said."""

    async def body(sessions: dict[str, Any]) -> Any:
        turns = [calls(getattr(tool, "name", None) or tool.__name__) for tool in tools], says
        return said(await ask(runner_of(agent(*turns, tools=[*tools]), sessions, **options)))

    return body


def test_results_come_back_as_they_were(kit: TestKit) -> None:
    def gives_dict() -> dict[str, Any]:
        return {"a": [1, None], "acts": act("dict")}

    def gives_text() -> str:
        return act("text")

    def gives_nothing() -> None:
        act("nothing")

    first, second, _ = run_twice(kit, results(gives_dict, gives_text, gives_nothing))

    assert first == second
    assert [what for _, what in second][3:6] == [
        ["gives_dict", {"a": [1, None], "acts": "DICT"}],
        ["gives_text", {"result": "TEXT"}],
        ["gives_nothing", {"result": None}],
    ]
    assert set(acts.values()) == {1}


def test_what_a_tool_does_to_the_state_and_asks_adk_for_is_recorded(kit: TestKit) -> None:
    def counts(tool_context: ToolContext) -> str:
        tool_context.state["user:n"] = act("counts")
        tool_context.state["temp:n"] = 1
        tool_context.actions.skip_summarization = True
        return "counted"

    async def body(sessions: dict[str, Any]) -> Any:
        runner = runner_of(agent([calls("counts")], tools=[counts]), sessions)
        events = await ask(runner)
        session = await runner.session_service.get_session(
            app_name="shop", user_id="ann", session_id="s"
        )
        assert session is not None
        return [one.actions.state_delta for one in events], session.state

    first, second, _ = run_twice(kit, body)

    assert first == second == ([{}, {"user:n": "COUNTS"}], {"user:n": "COUNTS"})
    assert acts == {"guide 0": 1, "counts": 1}


def test_a_state_that_can_not_be_kept_is_refused_with_the_tool_and_its_key(kit: TestKit) -> None:
    def counts(tool_context: ToolContext) -> str:
        tool_context.state["when"] = object()
        return act("counts")

    trial = kit.start(flow_of(lambda: agent([calls("counts")], says, tools=[counts])))

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of guide: tool counts.state.when"
    trial.resume()
    assert acts == {"guide 0": 1, "counts": 1}


def test_an_error_of_a_tool_is_the_runs_and_it_is_called_again(kit: TestKit) -> None:
    def fails() -> str:
        act("fails")
        raise ConnectionError("no luck")

    trial = kit.start(flow_of(lambda: agent([calls("fails")], says, tools=[fails])))

    assert isinstance(trial.error, ConnectionError)
    trial.resume()
    assert acts == {"guide 0": 1, "fails": 2}


def test_what_a_plugin_makes_of_an_error_is_recorded(kit: TestKit) -> None:
    def fails() -> str:
        act("fails")
        raise ConnectionError("no luck")

    async def body(sessions: dict[str, Any]) -> Any:
        guide = agent([calls("fails")], says, tools=[fails])
        return said(await ask(runner_of(guide, sessions, ReflectAndRetryToolPlugin())))

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert "no luck" in str(second)
    assert set(acts.values()) == {1}


@step
def unkept() -> Any:
    return object()


def asks() -> str:
    return f"{unkept()}"


def directly() -> LlmAgent:
    return agent([calls("asks")], says, tools=[asks])


def by_a_tool() -> LlmAgent:
    return agent([calls("guide", request="go")], says, name="chief", tools=[AgentTool(directly())])


def by_a_single_turn() -> LlmAgent:
    """ADK makes a text for the model of an error in such an agent."""
    used = agent([calls("asks")], says, name="used", tools=[asks], mode="single_turn")
    return agent([calls("used", request="go")], says, sub_agents=[used])


@pytest.mark.filterwarnings("ignore:The `plugins` argument:DeprecationWarning")  # ADK's own use
@pytest.mark.parametrize("make", [directly, by_a_tool, by_a_single_turn])
def test_an_error_of_this_package_in_a_tool_is_nothing_for_the_model(
    kit: TestKit, make: Callable[[], LlmAgent]
) -> None:
    @flow
    @execution
    async def runs() -> Any:
        sessions = execution.current().state
        return last_text(await ask(runner_of(make(), sessions, ReflectAndRetryToolPlugin())))

    trial = kit.start(runs)

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of unkept"
    assert "guide 1" not in acts


def test_a_result_that_can_not_be_kept_is_refused_with_the_tool_and_not_paid_for_again(
    kit: TestKit,
) -> None:
    def search(text: str) -> Any:
        act("search")
        return {"at": object()}

    trial = kit.start(
        flow_of(lambda: agent([calls("search", text="x")], says, tools=[search]), max_retries=1)
    )

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of guide: tool search.result.at"
    trial.resume()
    assert acts == {"guide 0": 1, "search": 1}
    [record] = [one for one in journal(kit, trial) if one.outcome is Outcome.UNKEPT]
    assert (record.step, record.called_with) == ("guide: tool search", "text='x'")


def test_a_response_that_can_not_be_kept_is_refused_with_the_model_and_not_paid_for_again(
    kit: TestKit,
) -> None:
    def opaque(*, callback_context: Any, llm_request: LlmRequest, error: Exception) -> Any:
        return LlmResponse(custom_metadata={"at": object()})

    def fails(_: LlmRequest) -> Any:
        raise ConnectionError("no luck")

    trial = kit.start(flow_of(lambda: agent(fails, on_model_error_callback=opaque)))
    trial.resume()

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of guide: model"
    assert "can't be kept as JSON" in trial.error.problem
    assert acts == {"guide 0": 1}


class Answer(BaseModel):
    colour: str


def test_a_tool_may_ask_which_ends_the_process_until_it_is_answered(kit: TestKit) -> None:
    async def which(tool_context: ToolContext) -> str:
        act("which")
        key = tool_context.function_call_id
        answer = await execution.current().aask(Answer, prompt="Which colour?", key=key)
        return answer.colour

    def look() -> str:
        return act("look")

    turns = [calls("which")], [calls("look")], says
    trial = kit.start(flow_of(lambda: agent(*turns, tools=[which, look])))

    assert trial.status == "paused", repr(trial.error)
    trial.resume(input={"colour": "Blue."})
    assert ended(trial).result == "Blue. LOOK"
    assert acts == {"guide 0": 1, "guide 1": 1, "guide 2": 1, "which": 2, "look": 1}


def test_steps_in_a_tool_are_recorded_inside_it(kit: TestKit) -> None:
    @step
    def charge(cents: int) -> str:
        return act(f"charge {cents}")

    def buy() -> str:
        return charge(5)

    with kit.crash_after(4):  # the attempt, the run, the response, the charge
        trial = kit.start(flow_of(lambda: agent([calls("buy")], says, tools=[buy])))
    trial.resume()

    assert ended(trial).result == "CHARGE 5"
    assert set(acts.values()) == {1}


def test_a_tool_that_answers_later_leaves_the_call_open(kit: TestKit) -> None:
    def orders() -> None:
        act("orders")

    first, second, _ = run_twice(kit, results(LongRunningFunctionTool(orders)))

    assert first == second == [["guide", ["orders", {}]]]
    assert acts == {"guide 0": 1, "orders": 1}


def test_a_tool_that_does_not_exist_is_the_models_mistake(kit: TestKit) -> None:
    first, second, _ = run_twice(
        kit,
        lambda sessions: _said(runner_of(agent([calls("nothing")], says), sessions)),
    )

    assert first == second
    assert "no tool with that name" in str(second)


async def _said(runner: Any) -> Any:
    return said(await ask(runner))


def test_the_agents_of_a_workflow_are_recorded(kit: TestKit) -> None:
    def look() -> str:
        return act("look")

    async def body(sessions: dict[str, Any]) -> Any:
        first = agent([calls("look")], says, name="first", tools=[look])
        second = agent(says, name="second")
        workflow = Workflow(name="team", edges=[("START", first), (first, second)])
        return await _said(runner_of(workflow, sessions))

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert acts == {"first 0": 1, "look": 1, "first 1": 1, "second 0": 1}


def test_tools_of_an_mcp_server_are_called_once(kit: TestKit, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    command = StdioServerParameters(
        command=sys.executable, args=[f"{weather_server.__file__}", f"{log}"]
    )
    both = [calls("weather", city="Oslo"), calls("weather", city="Rome")]

    async def body(sessions: dict[str, Any]) -> Any:
        params = StdioConnectionParams(server_params=command, timeout=60)
        guide = agent(both, says, tools=[McpToolset(connection_params=params)])
        runner = runner_of(guide, sessions)
        try:
            return last_text(await ask(runner))
        finally:
            await runner.close()

    first, second, trial = run_twice(kit, body)

    assert first == second
    assert "sun in Oslo" in second
    assert sorted(log.read_text().splitlines()) == ["Oslo", "Rome"]
    assert conversation(trial)[0] == ["user", "hi"]
