"""Tools that have to be confirmed: the execution is suspended until a person has answered."""

import asyncio
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.tools import AgentTool, FunctionTool, ToolContext
from prefect import flow
from pydantic import BaseModel

from adk_runs import ask, conversation, flow_of, last_text, runner_of, said
from prefect_executions import execution
from prefect_executions.errors import AnswerError
from prefect_executions.testkit import TestKit, Trial
from scripted_adk import agent, calls, says
from trials import act, acts, ended


def refund(order: int) -> str:
    return act(f"refund {order}")


async def look(order: int) -> str:
    await asyncio.sleep(0)  # it has begun when the other one asks
    return act(f"look {order}")


BOTH = [calls("look", order=7), calls("refund", order=7)]


def refunds() -> LlmAgent:
    return agent(BOTH, says, tools=[FunctionTool(refund, require_confirmation=True), look])


def used() -> LlmAgent:
    """An agent that uses the one above as a tool."""
    return agent([calls("guide", request="go")], says, name="chief", tools=[AgentTool(refunds())])


def question(kit: TestKit, trial: Trial) -> str:
    assert trial.status == "paused", repr(trial.error)
    return kit.executions.question(trial.id).prompt


@pytest.mark.filterwarnings("ignore:The `plugins` argument:DeprecationWarning")  # ADK's own use
@pytest.mark.parametrize("made", [refunds, used])
def test_the_run_goes_on_when_a_person_approves(kit: TestKit, made: Any) -> None:
    trial = kit.start(flow_of(made))

    assert "May **guide** call `refund`?" in question(kit, trial)
    assert '"order": 7' in question(kit, trial)
    assert "refund 7" not in acts
    assert acts["look 7"] == 1  # what runs at the same time ends first
    with pytest.raises(AnswerError):
        trial.resume(input={"approved": "perhaps"})
    trial.resume(input={"approved": True})
    assert ended(trial).result == "LOOK 7 REFUND 7"
    assert set(acts.values()) == {1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [({"approved": False}, "is rejected"), ({"approved": False, "message": "No."}, "No.")],
)
def test_what_is_not_approved_is_not_called_and_the_model_is_told(
    kit: TestKit, answer: dict[str, Any], told: str
) -> None:
    trial = kit.start(flow_of(refunds))

    trial.resume(input=answer)

    assert told in ended(trial).result
    assert "refund 7" not in acts


@pytest.mark.parametrize(("order", "asks"), [(7, False), (700, True)])
def test_a_function_decides(kit: TestKit, order: int, asks: bool) -> None:
    def is_large(order: int) -> bool:
        return order > 100

    tool = FunctionTool(refund, require_confirmation=is_large)
    trial = kit.start(flow_of(lambda: agent([calls("refund", order=order)], says, tools=[tool])))

    assert trial.status == ("paused" if asks else "completed"), repr(trial.error)
    if asks:
        trial.resume(input={"approved": True})
    assert ended(trial).result == f"REFUND {order}"
    assert set(acts.values()) == {1}


def days_off(days: int, tool_context: ToolContext) -> dict[str, Any]:
    """It asks itself, and for a number."""
    confirmation = tool_context.tool_confirmation
    if confirmation is None:
        act("days asked")
        tool_context.request_confirmation(hint="How many?", payload={"days": days})
        return {"result": "pending"}
    act("days given")
    return {"result": confirmation.payload["days"] if confirmation.confirmed else "none"}


@pytest.mark.parametrize(
    ("answer", "days"),
    [
        ({"approved": True, "payload": {"days": 2}}, "2"),
        ({"approved": True}, "5"),
        ({"approved": False}, "none"),
    ],
)
def test_a_tool_that_asks_itself_is_called_again_with_the_answer(
    kit: TestKit, answer: dict[str, Any], days: str
) -> None:
    trial = kit.start(flow_of(lambda: agent([calls("days_off", days=5)], says, tools=[days_off])))

    assert "How many?" in question(kit, trial)
    assert '"days": 5' in question(kit, trial)
    trial.resume(input=answer)
    assert ended(trial).result == days
    assert acts == {"guide 0": 1, "days asked": 1, "days given": 1, "guide 1": 1}


def test_two_that_have_to_be_confirmed_are_asked_for_one_after_the_other(kit: TestKit) -> None:
    tool = FunctionTool(refund, require_confirmation=True)
    both = [calls("refund", order=1), calls("refund", order=2)]
    trial = kit.start(flow_of(lambda: agent(both, says, tools=[tool])))

    assert '"order": 1' in question(kit, trial)
    trial.resume(input={"approved": True})
    assert '"order": 2' in question(kit, trial)
    trial.resume(input={"approved": True})

    assert ended(trial).result == "REFUND 1 REFUND 2"
    assert set(acts.values()) == {1}


class Chat(BaseModel):
    adk: dict[str, Any] = {}
    answers: list[str] = []


@flow
@execution(state=Chat)
async def chats(prompts: list[str]) -> list[str]:
    here = execution.current(Chat)
    tools = [FunctionTool(refund, require_confirmation=True), look]
    runner = runner_of(
        agent(BOTH, says, [calls("look", order=8)], says, tools=tools), here.state.adk
    )
    for prompt in prompts[len(here.state.answers) :]:
        here.state.answers.append(last_text(await ask(runner, prompt)))
        await here.acheckpoint(label=prompt)
    return here.state.answers


@pytest.mark.long
def test_wherever_it_is_killed_it_asks_once_and_says_nothing_twice(kit: TestKit) -> None:
    def check(trial: Trial) -> None:
        assert [author for author, _ in conversation(trial)] == [
            *("user", "guide", "guide", "guide", "guide", "guide"),
            *("user", "guide", "guide", "guide"),
        ]
        assert set(acts.values()) == {1}

    survived = kit.crash_everywhere(
        chats,
        {"prompts": ["hi", "again"]},
        answers=[{"approved": True}],
        before=acts.clear,
        check=check,
        compare=lambda trial: {"the result": trial.result},
        lose_writes=False,
    )

    assert len(survived.undisturbed.result) == 2


def test_outside_an_execution_the_request_is_adks() -> None:
    async def body() -> Any:
        return said(await ask(runner_of(refunds(), {})))

    assert "adk_request_confirmation" in str(asyncio.run(body()))
    assert "refund 7" not in acts
