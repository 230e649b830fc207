"""Runs of agents of Google ADK: no recorded call is made again, and none is lost."""

import asyncio
from typing import Any

import pytest
from google.adk.agents import LlmAgent, ParallelAgent
from google.adk.agents.live_request_queue import LiveRequestQueue
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.apps import App
from google.adk.models import LlmRequest, LlmResponse
from google.adk.plugins import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import AgentTool
from google.genai.types import Content
from prefect import flow

from adk_runs import ask, conversation, flow_of, last_text, run_twice, runner_of, said, same
from prefect_executions import execution
from prefect_executions.adk import ExecutionsPlugin
from prefect_executions.errors import AmbiguousCall
from prefect_executions.testkit import TestKit, Trial
from scripted_adk import Script, agent, calls, says, text
from trials import act, acts, done, ended


async def search(text: str) -> str:
    for _ in range(3 if text == "a" else 0):  # the first one ends last
        await asyncio.sleep(0)
    return act(f"search {text}")


IN_TURN = [[calls("search", text="a")], [calls("search", text="b")], says]
AT_ONCE = [[calls("search", text="a"), calls("search", text="b")], says]


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
        flow_of(lambda: agent(*IN_TURN, tools=[search])),
        before=acts.clear,
        check=check,
        compare=same,
    )

    assert survived.undisturbed.result == "SEARCH A SEARCH B"
    assert (
        len(survived.points) == 18
    )  # two for the attempt, the run, 3 responses, 2 tools, the state, the end


def family() -> LlmAgent:
    """Two agents: the first transfers to the second, and that back to the first."""
    back = [calls("transfer_to_agent", agent_name="guide")]
    expert = agent(AT_ONCE[0], back, name="expert", tools=[search])
    to_expert = [calls("transfer_to_agent", agent_name="expert")]
    return agent(to_expert, [text("done")], sub_agents=[expert])


@pytest.mark.long
def test_what_is_recorded_of_agents_that_transfer_to_each_other_is_not_done_again(
    kit: TestKit,
) -> None:
    def check(_: Trial) -> None:
        assert set(acts) == {"guide 0", "expert 0", "search a", "search b", "expert 1", "guide 1"}
        assert acts.total() <= 7  # one of the two tools that run at once may have no record yet

    survived = kit.crash_everywhere(
        flow_of(family), before=acts.clear, check=check, compare=same, lose_writes=False
    )

    assert survived.undisturbed.result == "done"
    assert steps(kit, survived.undisturbed) == [
        *("guide: run", "guide: model", "guide: tool transfer_to_agent"),
        *("expert: model", "expert: tool search", "expert: tool search"),
        *("expert: model", "expert: tool transfer_to_agent", "guide: model"),
    ]


@pytest.mark.long
def test_after_a_run_that_ended_in_a_sub_agent_nothing_is_paid_twice_wherever_it_is_killed(
    kit: TestKit,
) -> None:
    """Made again, such a run begins where ADK finds the session: the transfer is not in it."""

    def consultants() -> LlmAgent:
        expert = agent([text("first")], [text("second")], name="expert")
        to_expert = [calls("transfer_to_agent", agent_name="expert")]
        return agent(to_expert, sub_agents=[expert])

    @flow
    @execution
    async def asks_twice() -> list[str]:
        sessions = execution.current().state.setdefault("adk", {})
        runner = runner_of(consultants(), sessions)
        return [last_text(await ask(runner, prompt)) for prompt in ("one", "two")]

    def check(_: Trial) -> None:
        assert set(acts) == {"guide 0", "expert 0", "expert 1"}
        assert acts.total() <= 4  # of which the record was lost

    survived = kit.crash_everywhere(
        asks_twice, before=acts.clear, check=check, compare=lambda trial: {"said": trial.result}
    )

    assert survived.undisturbed.result == ["first", "second"]
    assert steps(kit, survived.undisturbed) == [
        *("guide: run", "guide: model", "guide: tool transfer_to_agent", "expert: model"),
        *("guide: run", "expert: model"),
    ]


def test_tools_that_run_at_once_keep_their_results_and_their_order(kit: TestKit) -> None:
    async def body(sessions: dict[str, Any]) -> Any:
        return said(await ask(runner_of(agent(*AT_ONCE, tools=[search]), sessions)))

    first, second, _ = run_twice(kit, body)

    assert first == second
    results = [
        what[1]["result"] for _, what in second if what[0] == "search" and "result" in what[1]
    ]
    assert results == ["SEARCH A", "SEARCH B"]
    assert set(acts.values()) == {1}


@pytest.mark.filterwarnings("ignore:ParallelAgent is deprecated:DeprecationWarning")
def test_agents_that_run_in_parallel_keep_their_responses(kit: TestKit) -> None:
    async def body(sessions: dict[str, Any]) -> Any:
        both = [agent([calls("search", text=n)], says, name=n, tools=[search]) for n in "ab"]
        runner = runner_of(ParallelAgent(name="team", sub_agents=both), sessions)
        return sorted(map(str, said(await ask(runner))))

    first, second, trial = run_twice(kit, body)

    assert first == second
    assert set(acts.values()) == {1}
    assert sorted(map(str, steps(kit, trial))) == [
        *("a: model", "a: model", "a: tool search", "b: model", "b: model", "b: tool search"),
        "team: run",
    ]


@pytest.mark.filterwarnings("ignore:The `plugins` argument:DeprecationWarning")  # ADK's own use
def test_the_calls_of_agents_that_are_used_as_tools_are_recorded(kit: TestKit) -> None:
    async def body(sessions: dict[str, Any]) -> Any:
        used = [
            AgentTool(agent([calls("search", text=n)], says, name=n, tools=[search]))
            for n in ("ann", "bob")
        ]
        both = [calls("ann", request="go"), calls("bob", request="go")]
        return last_text(await ask(runner_of(agent(both, says, tools=used), sessions)))

    first, second, trial = run_twice(kit, body)

    assert first == second == "SEARCH ANN SEARCH BOB"
    assert set(acts.values()) == {1}
    assert sorted(map(str, steps(kit, trial))) == [
        *("ann: model", "ann: model", "ann: tool search"),
        *("bob: model", "bob: model", "bob: tool search"),
        *("guide: model", "guide: model", "guide: run"),
    ]


def test_ids_that_a_model_does_not_give_are_the_same_in_each_attempt(kit: TestKit) -> None:
    async def body(sessions: dict[str, Any]) -> Any:
        events = await ask(runner_of(agent(*AT_ONCE, tools=[search]), sessions))
        return [call.id for event in events for call in event.get_function_calls()]

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert len(set(first)) == 2
    assert all(id_.startswith("adk-") for id_ in first)


def test_a_streamed_response_comes_as_one_event(kit: TestKit) -> None:
    config = RunConfig(streaming_mode=StreamingMode.SSE)

    async def body(sessions: dict[str, Any]) -> Any:
        events = await ask(runner_of(agent(*IN_TURN, tools=[search]), sessions), config=config)
        assert last_text(events) == "SEARCH A SEARCH B"
        return [event.partial for event in events]

    first, second, _ = run_twice(kit, body)

    assert first == second == [None] * 5
    assert set(acts.values()) == {1}


def test_outside_an_execution_the_plugin_does_nothing() -> None:
    async def body() -> Any:
        app = App(
            name="shop",
            root_agent=agent(*IN_TURN, tools=[search]),
            plugins=[ExecutionsPlugin()],
        )
        sessions = InMemorySessionService()
        return await ask(
            Runner(app=app, session_service=sessions, auto_create_session=True),
            config=RunConfig(streaming_mode=StreamingMode.SSE),
        )

    events = asyncio.run(body())

    assert last_text(events) == "SEARCH A SEARCH B"
    assert True in [event.partial for event in events]


def test_a_run_that_raises_and_is_made_again_goes_on_with_its_records(kit: TestKit) -> None:
    def fails_once(request: LlmRequest) -> Any:
        if acts["guide 1"] == 1:
            raise ConnectionError("no luck")
        return says(request)

    async def body(sessions: dict[str, Any]) -> Any:
        runner = runner_of(agent([calls("search", text="x")], fails_once, tools=[search]), sessions)
        try:
            return last_text(await ask(runner))
        except ConnectionError:
            return last_text(await ask(runner))

    first, second, trial = run_twice(kit, body)

    assert first == second == "SEARCH X"
    assert acts == {"guide 0": 1, "search x": 1, "guide 1": 2}
    assert [author for author, _ in conversation(trial)] == ["user", *["guide"] * 3]


def test_what_callbacks_answer_and_alter_is_as_in_adk(kit: TestKit) -> None:
    class Notes(BasePlugin):
        async def after_model_callback(self, **_: Any) -> None:
            act("plugin after model")

    def before(ctx: Any, request: LlmRequest) -> LlmResponse | None:
        """It names what it is given in its own way, and answers the second request."""
        if sum(content.role == "model" for content in request.contents) == 1:
            return LlmResponse(content=Content(role="model", parts=[text("from the callback")]))
        return None

    def after(*, callback_context: Any, llm_response: LlmResponse) -> None:
        callback_context.state["seen"] = llm_response.content is not None

    async def before_tool(*, tool: Any, args: Any, tool_context: Any) -> Any:
        return {"result": "from the cache"} if args["text"] == "cached" else None

    both = [calls("search", text="cached"), calls("search", text="x")]

    async def body(sessions: dict[str, Any]) -> Any:
        guide = agent(
            both,
            tools=[search],
            before_model_callback=before,
            after_model_callback=after,
            before_tool_callback=before_tool,
        )
        runner = runner_of(guide, sessions, Notes("notes"))
        events = said(await ask(runner))
        session = await runner.session_service.get_session(
            app_name="shop", user_id="ann", session_id="s"
        )
        assert session is not None
        assert session.state == {"seen": True}
        return events

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert first[-3:] == [
        ["guide", ["search", {"result": "from the cache"}]],
        ["guide", ["search", {"result": "SEARCH X"}]],
        ["guide", "from the callback"],
    ]
    assert acts == {"guide 0": 1, "search x": 1, "plugin after model": 2}


def test_what_a_callback_makes_of_a_models_error_is_recorded(kit: TestKit) -> None:
    def breaks(_: LlmRequest) -> Any:
        raise ConnectionError("no luck")

    def sorry(callback_context: Any, llm_request: Any, error: Exception) -> LlmResponse:
        return LlmResponse(content=Content(role="model", parts=[text(f"sorry: {error}")]))

    async def body(sessions: dict[str, Any]) -> Any:
        guide = agent(breaks, on_model_error_callback=sorry)
        return last_text(await ask(runner_of(guide, sessions)))

    assert run_twice(kit, body)[:2] == ("sorry: no luck", "sorry: no luck")
    assert acts == {"guide 0": 1}


def test_another_session_service_is_refused_by_name(kit: TestKit) -> None:
    @flow
    @execution
    async def runs() -> Any:
        app = App(name="shop", root_agent=agent(says), plugins=[ExecutionsPlugin()])
        sessions = InMemorySessionService()
        await ask(Runner(app=app, session_service=sessions, auto_create_session=True))

    trial = kit.start(runs)

    assert isinstance(trial.error, TypeError)
    assert str(trial.error).startswith("session_service: is a InMemorySessionService, to which")
    assert not acts


def test_a_run_whose_calls_are_made_live_is_refused(kit: TestKit) -> None:
    class Live(Script):
        def connect(self, llm_request: LlmRequest) -> Any:
            raise NotImplementedError

    @flow
    @execution
    async def runs() -> Any:
        guide = LlmAgent(
            name="guide", model=Live(model="gemini-2.5-flash", name="guide", turns=[says])
        )
        await ask(runner_of(guide, execution.current().state), config=RunConfig(support_cfc=True))

    trial = kit.start(runs)

    assert isinstance(trial.error, TypeError)
    assert "`support_cfc`" in str(trial.error)
    assert not acts


def test_a_live_run_is_refused(kit: TestKit) -> None:
    @flow
    @execution
    async def runs() -> Any:
        runner = runner_of(agent(says), execution.current().state)
        queue = LiveRequestQueue()
        live = runner.run_live(user_id="ann", session_id="s", live_request_queue=queue)
        return [event async for event in live]

    trial = kit.start(runs)

    assert isinstance(trial.error, RuntimeError)
    assert "run_live: what is called live" in str(trial.error)


def test_equal_runs_of_new_sessions_need_a_key(kit: TestKit) -> None:
    @flow
    @execution
    async def runs(keys: list[str | None]) -> Any:
        here = execution.current()
        answers = []
        for key in keys:
            here.state["n"] = here.state.get("n", 0) + 1
            config = RunConfig(custom_metadata={"execution_key": key} if key else None)
            runner = runner_of(agent([calls("search", text="x")], says, tools=[search]), {})
            answers.append(last_text(await ask(runner, config=config)))
            await here.acheckpoint()
        return answers

    without = kit.start(runs, keys=[None, None])
    assert isinstance(without.error, AmbiguousCall)
    assert without.error.step == "guide: run"
    assert set(acts.values()) == {1}
    acts.clear()
    assert ended(kit.start(runs, keys=["a", "b"])).result == ["SEARCH X", "SEARCH X"]
    assert set(acts.values()) == {2}
