"""Tools that need approval: the execution is suspended until a person has answered."""

import asyncio
from typing import Any

import pytest
from agents import Agent, function_tool
from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution
from prefect_executions.errors import AnswerError
from prefect_executions.openai_agents import Conversation, run, run_streamed
from prefect_executions.testkit import TestKit, Trial
from recorded_runs import flow_of
from scripted_agents import agent, calls, says
from trials import act, acts, ended


@function_tool(needs_approval=True)
def refund(order: int) -> str:
    return act(f"refund {order}")


@function_tool
def look(order: int) -> str:
    return act(f"look {order}")


BOTH = [calls("refund", order=7), calls("look", order=7)]


def refunds() -> Agent[Any]:
    return agent(BOTH, says, tools=[refund, look])


def used() -> Agent[Any]:
    """An agent that uses the one above as a tool."""
    tool = refunds().as_tool(tool_name="shop", tool_description="")
    return agent([calls("shop", input="go")], says, name="chief", tools=[tool])


def asked(kit: TestKit, trial: Trial) -> str:
    assert trial.status == "paused", repr(trial.error)
    return kit.executions.question(trial.id).prompt


@pytest.mark.parametrize("made", [refunds, used])
def test_the_run_goes_on_when_a_person_approves(kit: TestKit, made: Any) -> None:
    trial = kit.start(flow_of(made))

    assert "May **guide** call `refund`?" in asked(kit, trial)
    assert '"order": 7' in asked(kit, trial)
    assert "refund 7" not in acts
    with pytest.raises(AnswerError):
        trial.resume(input={"approved": "perhaps"})
    trial.resume(input={"approved": True})
    assert ended(trial).result == "LOOK 7 REFUND 7"
    assert set(acts.values()) == {1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [({"approved": False}, "not approved"), ({"approved": False, "message": "No."}, "No.")],
)
def test_what_is_not_approved_is_not_called_and_the_model_is_told(
    kit: TestKit, answer: dict[str, Any], told: str
) -> None:
    trial = kit.start(flow_of(refunds))

    trial.resume(input=answer)

    assert told in ended(trial).result
    assert "refund 7" not in acts


def test_a_run_that_is_streamed_asks_too(kit: TestKit) -> None:
    @flow
    @execution
    async def runs() -> Any:
        return (await run_streamed(refunds(), "hi", lambda _: None)).final_output

    trial = kit.start(runs)
    trial.resume(input={"approved": True})

    assert ended(trial).result == "LOOK 7 REFUND 7"
    assert set(acts.values()) == {1}


async def is_large(_: Any, parameters: dict[str, Any], __: str) -> bool:
    return parameters["order"] > 100


@function_tool(needs_approval=is_large)
def repay(order: int) -> str:
    return act(f"repay {order}")


@pytest.mark.parametrize(("order", "asks"), [(7, False), (700, True), ("7", True)])
def test_a_function_decides_unless_validation_changes_the_arguments(
    kit: TestKit, order: Any, asks: bool
) -> None:
    """As in the SDK: it would decide about other arguments than the tool gets."""
    trial = kit.start(flow_of(lambda: agent([calls("repay", order=order)], says, tools=[repay])))

    assert trial.status == ("paused" if asks else "completed"), repr(trial.error)
    if asks:
        trial.resume(input={"approved": True})
    assert ended(trial).result == f"REPAY {order}"
    assert set(acts.values()) == {1}


def test_outside_an_execution_the_interruptions_are_returned() -> None:
    result = asyncio.run(run(refunds(), "hi"))

    assert [item.tool_name for item in result.interruptions] == ["refund"]


class Chat(BaseModel):
    items: list[dict[str, Any]] = []
    answers: list[str] = []


@flow
@execution(state=Chat)
async def chats(prompts: list[str]) -> list[str]:
    here = execution.current(Chat)
    guide = agent(BOTH, says, [calls("look", "c9", order=8)], says, tools=[refund, look])
    for prompt in prompts[len(here.state.answers) :]:
        result = await run(guide, prompt, session=Conversation(here.state.items))
        here.state.answers.append(result.final_output)
        await here.acheckpoint(label=prompt)
    return here.state.answers


@pytest.mark.long
def test_wherever_it_is_killed_it_asks_once_and_says_nothing_twice(kit: TestKit) -> None:
    def check(trial: Trial) -> None:
        assert [item.get("role", item.get("type")) for item in trial.state["items"]] == [
            *("user", "function_call", "function_call", "function_call_output"),
            *("function_call_output", "assistant"),
            *("user", "function_call", "function_call_output", "assistant"),
        ]
        assert set(acts.values()) == {1}

    survived = kit.crash_everywhere(
        chats,
        {"prompts": ["hi", "again"]},
        answers=[{"approved": True}],
        before=acts.clear,
        check=check,
        lose_writes=False,
    )

    assert len(survived.undisturbed.result) == 2
