"""Runs of agents of the OpenAI Agents SDK: no recorded call is made again, and none is lost."""

import asyncio
from typing import Any

import pytest
from agents import (
    Agent,
    Model,
    ModelProvider,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    Runner,
    function_tool,
    handoff,
)
from agents.testing import assistant_message
from agents.tool import LocalShellTool

from prefect_executions.openai_agents import run, run_streamed
from prefect_executions.testkit import TestKit, Trial
from recorded_runs import flow_of, run_twice
from scripted_agents import agent, calls, says
from trials import act, acts, done, ended


@function_tool
async def search(text: str) -> str:
    for _ in range(3 if text == "a" else 0):  # the first one ends last
        await asyncio.sleep(0)
    return act(f"search {text}")


IN_TURN = [[calls("search", "c1", text="a")], [calls("search", "c2", text="b")], says]
AT_ONCE = [[calls("search", "c1", text="a"), calls("search", "c2", text="b")], says]


def steps(kit: TestKit, trial: Trial) -> list[str | None]:
    return [record.step for record in done(kit, trial)]


def test_wherever_it_is_killed_nothing_is_lost_and_nothing_recorded_is_done_again(
    kit: TestKit,
) -> None:
    everything = {"guide 0", "guide 1", "guide 2", "search a", "search b"}

    def check(_: Trial) -> None:
        assert set(acts) == everything
        assert acts.total() <= len(everything) + 1  # of which the record was lost

    survived = kit.crash_everywhere(
        flow_of(lambda: agent(*IN_TURN, tools=[search])), before=acts.clear, check=check
    )

    assert survived.undisturbed.result == "SEARCH A SEARCH B"
    assert len(survived.points) == 16  # two for the attempt, the run, 3 responses, 2 tools, the end


def round_trip() -> Agent[Any]:
    """Two agents that hand off to each other."""
    to, back = calls("transfer_to_expert", "to"), calls("transfer_to_guide", "back")
    both = AT_ONCE[0]
    expert = agent([], both, [back], name="expert", tools=[search])
    guide = agent([to], [], [], [assistant_message("done")], tools=[search], handoffs=[expert])
    expert.handoffs = [handoff(guide)]
    return guide


@pytest.mark.long
def test_what_is_recorded_of_agents_that_hand_off_to_each_other_is_not_done_again(
    kit: TestKit,
) -> None:
    def check(_: Trial) -> None:
        assert set(acts) == {"guide 0", "expert 1", "search a", "search b", "expert 2", "guide 3"}
        assert acts.total() <= 7  # one of the two tools that run at once may have no record yet

    survived = kit.crash_everywhere(
        flow_of(round_trip), before=acts.clear, check=check, lose_writes=False
    )

    assert survived.undisturbed.result == "done"
    assert steps(kit, survived.undisturbed) == [
        *("guide: run", "guide: model", "expert: model"),
        *("expert: tool search", "expert: tool search", "expert: model", "guide: model"),
    ]


def test_tools_that_run_at_once_keep_their_results(kit: TestKit) -> None:
    async def body() -> Any:
        return (await run(agent(*AT_ONCE, tools=[search]), "hi")).to_input_list()

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert [item["output"] for item in second if "output" in item] == ["SEARCH A", "SEARCH B"]
    assert set(acts.values()) == {1}


def helper(name: str) -> Any:
    """An agent that is used as a tool."""
    used = agent([calls("search", text=name)], says, name=name, tools=[search])
    return used.as_tool(tool_name=name, tool_description="")


def test_the_calls_of_agents_that_are_used_as_tools_are_recorded(kit: TestKit) -> None:
    async def body() -> Any:
        both = [calls("ann", input="go"), calls("bob", input="go")]
        chief = agent(both, says, name="chief", tools=[helper("ann"), helper("bob")])
        return (await run(chief, "hi")).final_output

    first, second, trial = run_twice(kit, body)

    assert first == second == "SEARCH ANN SEARCH BOB"
    assert set(acts.values()) == {1}
    assert sorted(map(str, steps(kit, trial))) == [
        *("ann: model", "ann: model", "ann: tool search"),
        *("bob: model", "bob: model", "bob: tool search"),
        *("chief: model", "chief: model", "chief: run"),
    ]


def test_a_response_that_was_streamed_comes_back_as_one_event(kit: TestKit) -> None:
    async def body() -> list[str]:
        events: list[str] = []

        async def note(event: Any) -> None:
            is_raw = event.type == "raw_response_event"
            events.append(event.data.type if is_raw else event.type)

        result = await run_streamed(agent(*IN_TURN, tools=[search]), "hi", note)
        assert result.final_output == "SEARCH A SEARCH B"
        return events

    first, second, _ = run_twice(kit, body)

    assert set(acts.values()) == {1}
    assert "response.output_text.delta" in first
    assert [name for name in second if "." in name] == ["response.completed"] * 3
    assert [name for name in first if "." not in name] == [n for n in second if "." not in n]


def test_outside_an_execution_agents_are_as_they_were(kit: TestKit) -> None:
    guide = agent(*IN_TURN, tools=[search])
    ended(kit.start(flow_of(lambda: guide)))

    result = asyncio.run(Runner.run(guide, "hi"))

    assert result.final_output == asyncio.run(run(guide, "hi")).final_output == "SEARCH A SEARCH B"
    assert result.last_agent is guide
    assert set(acts.values()) == {3}


class Provider(ModelProvider):
    def get_model(self, model_name: str | None) -> Model:
        assert model_name == "some-model"
        model = agent(*IN_TURN).model
        assert isinstance(model, Model)
        return model


def test_a_model_that_is_known_by_its_name_is_recorded(kit: TestKit) -> None:
    async def body() -> Any:
        guide = Agent("guide", model="some-model", tools=[search])
        return await run(guide, "hi", run_config=RunConfig(model_provider=Provider()))

    run_twice(kit, body)

    assert set(acts.values()) == {1}


def test_a_call_that_the_sdk_makes_again_is_one_call(kit: TestKit) -> None:
    def fails_once(_: list[Any]) -> Any:
        if acts["guide 0"] == 1:
            raise ConnectionError("no luck")
        return [calls("search", text="x")]

    retry = ModelRetrySettings(max_retries=1, backoff={"initial_delay": 0}, policy=always)

    async def body() -> Any:
        settings = ModelSettings(retry=retry)
        guide = agent(fails_once, says, tools=[search], model_settings=settings)
        return (await run(guide, "hi")).final_output

    assert run_twice(kit, body)[:2] == ("SEARCH X", "SEARCH X")
    assert acts == {"guide 0": 2, "search x": 1, "guide 1": 1}


def always(_: Any) -> bool:
    return True


def test_a_run_that_raises_and_is_made_again_goes_on_with_its_records(kit: TestKit) -> None:
    def fails_once(items: list[Any]) -> Any:
        if acts["guide 1"] == 1:
            raise ConnectionError("no luck")
        return says(items)

    async def body() -> Any:
        guide = agent([calls("search", text="x")], fails_once, tools=[search])
        try:
            return (await run(guide, "hi")).final_output
        except ConnectionError:
            return (await run(guide, "hi")).final_output

    assert run_twice(kit, body)[:2] == ("SEARCH X", "SEARCH X")
    assert acts == {"guide 0": 1, "search x": 1, "guide 1": 2}


def test_a_tool_whose_calls_can_not_be_recorded_is_refused_by_name(kit: TestKit) -> None:
    shell = LocalShellTool(executor=lambda _: "")

    trial = kit.start(flow_of(lambda: agent(says, tools=[shell])))

    assert isinstance(trial.error, TypeError)
    assert str(trial.error).startswith("tools: 'local_shell' of the agent 'guide' is a LocalShell")
    assert not acts
