"""Tools that need approval, ask, or wait for others: the run is suspended until it is answered."""

from datetime import timedelta
from typing import Any

import pytest
from prefect import flow
from pydantic import BaseModel
from pydantic_ai import Agent, CallDeferred, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.capabilities import HandleDeferredToolCalls, RequestInput
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.external_events import wait_for_external_event

from agent_flows import durable
from prefect_executions import execution
from prefect_executions.errors import AnswerError
from prefect_executions.pydantic_ai import ExecutionsDurability
from prefect_executions.testkit import TestKit, Trial
from scripted_models import calls, says, scripted
from trials import act, acts, ended


def started(kit: TestKit, agent: Agent[Any, Any], **options: Any) -> Trial:
    @flow
    @execution(**options)
    async def runs() -> Any:
        return (await agent.run("hi")).output

    return kit.start(runs)


def asked(kit: TestKit, trial: Trial) -> str:
    assert trial.status == "paused", repr(trial.error)
    return kit.executions.question(trial.id).prompt


def refunds(*capabilities: Any, **options: Any) -> Agent[Any, Any]:
    agent = durable(
        scripted([calls("refund", order=7), calls("look", order=7)], says),
        capabilities=[ExecutionsDurability(), *capabilities],
        **options,
    )

    @agent.tool_plain(requires_approval=True)
    def refund(order: int) -> str:
        return act(f"refund {order}")

    @agent.tool_plain
    def look(order: int) -> str:
        return act(f"look {order}")

    return agent


def test_a_tool_that_needs_approval_suspends_the_run_until_a_person_approves(kit: TestKit) -> None:
    trial = started(kit, refunds())

    assert "May **guide** call `refund`?" in asked(kit, trial)
    assert '"order": 7' in asked(kit, trial)
    assert acts == {"model 0": 1, "look 7": 1}
    trial.resume(input={"approved": True})
    assert ended(trial).result == "REFUND 7 LOOK 7"
    assert acts == {"model 0": 1, "model 1": 1, "look 7": 1, "refund 7": 1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [({"approved": False}, "denied"), ({"approved": False, "message": "Too much."}, "Too much.")],
)
def test_what_is_not_approved_is_not_called_and_the_model_is_told(
    kit: TestKit, answer: dict[str, Any], told: str
) -> None:
    trial = started(kit, refunds())

    trial.resume(input=answer)

    assert told in ended(trial).result
    assert "refund 7" not in acts


def test_an_answer_that_does_not_fit_is_refused(kit: TestKit) -> None:
    trial = started(kit, refunds())

    with pytest.raises(AnswerError):
        trial.resume(input={"approved": "perhaps"})

    assert "May **guide** call" in asked(kit, trial)


@pytest.mark.long
def test_wherever_it_is_killed_it_asks_once_and_does_what_was_approved(kit: TestKit) -> None:
    agent = refunds()

    @flow
    @execution
    async def asks() -> Any:
        return (await agent.run("hi")).output

    def check(_: Trial) -> None:
        assert acts == {"model 0": 1, "model 1": 1, "look 7": 1, "refund 7": 1}

    kit.crash_everywhere(
        asks, answers=[{"approved": True}], before=acts.clear, check=check, lose_writes=False
    )


def test_a_tool_asks_for_approval_itself_and_is_called_again_with_it(kit: TestKit) -> None:
    agent = durable(scripted([calls("refund", cents=900)], says))

    @agent.tool
    def refund(ctx: RunContext[None], cents: int) -> str:
        act(f"refund asked, approved: {ctx.tool_call_approved}")
        if cents > 500 and not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"limit": 500})
        return act("refunded")

    trial = started(kit, agent)

    assert '"limit": 500' in asked(kit, trial)
    trial.resume(input={"approved": True})
    assert ended(trial).result == "REFUNDED"
    assert acts["refund asked, approved: False"] == acts["refund asked, approved: True"] == 1


def test_a_question_and_a_result_from_elsewhere_are_waited_for_one_by_one(kit: TestKit) -> None:
    agent = durable(scripted([calls("ask", about="colour"), calls("measure")], says))

    @agent.tool_plain
    def ask(about: str) -> str:
        act("asks")
        raise CallDeferred(kind="question")

    @agent.tool_plain
    def measure() -> dict[str, int]:
        act("begins to measure")
        raise CallDeferred(metadata={"job": 5})

    trial = started(kit, agent)

    questions = []
    answers = {"asks, by `ask`": {"answer": "Blue."}, "waits for": {"result": {"cm": 3}}}
    while trial.status == "paused":
        questions.append(asked(kit, trial))
        trial.resume(input=next(a for text, a in answers.items() if text in questions[-1]))
    assert len(questions) == 2
    assert ended(trial).result == "Blue. {'cm': 3}"
    assert acts["asks"] == acts["begins to measure"] == 1


def test_what_another_capability_answers_is_not_asked(kit: TestKit) -> None:
    def approve(_: RunContext[None], requests: DeferredToolRequests) -> DeferredToolResults:
        return requests.build_results(approve_all=True)

    trial = started(kit, refunds(HandleDeferredToolCalls(handler=approve)))

    assert ended(trial).result == "REFUND 7 LOOK 7"


def test_without_ask_the_run_ends_with_the_requests(kit: TestKit) -> None:
    agent = durable(
        scripted([calls("refund")], says),
        capabilities=[ExecutionsDurability(ask=False)],
        output_type=[str, DeferredToolRequests],
    )

    @agent.tool_plain(requires_approval=True)
    def refund() -> str:
        return act("refunds")

    @flow
    @execution
    async def runs() -> str:
        result = await agent.run("hi")
        assert isinstance(result.output, DeferredToolRequests)
        results = result.output.build_results(approve_all=True)
        messages = result.all_messages()
        again = await agent.run(message_history=messages, deferred_tool_results=results)
        return str(again.output)

    assert ended(kit.start(runs)).result == "REFUNDS"


def test_request_input_waits_for_whoever_has_the_token(kit: TestKit) -> None:
    tokens = []

    def post(_: RunContext[None], requests: DeferredToolRequests, token: str) -> None:
        act("posts")
        tokens.append((token, requests.approvals[0].tool_call_id))

    trial = started(kit, refunds(RequestInput(post)))

    assert asked(kit, trial) == "**guide** waits for `deferred_tool_calls`."
    [(token, tool_call_id)] = tokens
    assert token.split()[0] == trial.id
    trial.resume(input={"payload": {"approvals": {tool_call_id: True}}})
    assert ended(trial).result == "REFUND 7 LOOK 7"
    assert acts["posts"] == acts["refund 7"] == 1


def test_request_input_that_answers_at_once_asks_nobody_and_once(kit: TestKit) -> None:
    def decide(
        _: RunContext[None], requests: DeferredToolRequests, token: str
    ) -> DeferredToolResults:
        act("decides")
        return requests.build_results(approve_all=True)

    agent = refunds(RequestInput(decide))

    @flow
    @execution(max_retries=1)
    async def runs() -> str:
        output = (await agent.run("hi")).output
        if execution.current().attempt == 1:
            raise RuntimeError("again")
        return str(output)

    assert ended(kit.start(runs)).result == "REFUND 7 LOOK 7"
    assert acts["decides"] == acts["refund 7"] == 1


def test_a_time_out_of_a_question_is_refused(kit: TestKit) -> None:
    trial = started(kit, refunds(RequestInput(lambda *_: None, timeout=timedelta(hours=1))))

    assert "timeout: 1:00:00 is given for 'deferred_tool_calls'" in str(trial.error)


class Approval(BaseModel):
    approved: bool


def test_a_tool_may_ask_as_any_step_does(kit: TestKit) -> None:
    agent = durable(scripted([calls("book")], says))

    @agent.tool_plain
    async def book() -> str:
        act("begins")
        answer = await execution.current().aask(Approval, prompt="Book it?")
        return act(f"booked: {answer.approved}")

    trial = started(kit, agent)

    assert asked(kit, trial) == "Book it?"
    trial.resume(input={"approved": True})
    assert ended(trial).result == "BOOKED: TRUE"
    assert acts["model 0"] == acts["model 1"] == acts["booked: True"] == 1


def test_an_agent_in_a_tool_of_another_asks_too(kit: TestKit) -> None:
    inner = refunds()
    outer = durable(scripted([calls("delegate")], says, name="outer"), name="desk")

    @outer.tool_plain
    async def delegate() -> str:
        return str((await inner.run("help")).output)

    trial = started(kit, outer)

    assert "May **guide** call `refund`?" in asked(kit, trial)
    trial.resume(input={"approved": True})
    assert ended(trial).result == "REFUND 7 LOOK 7"
    assert set(acts.values()) == {1}


def test_code_in_a_capability_waits_for_an_event(kit: TestKit) -> None:
    async def approve(_: RunContext[None], requests: DeferredToolRequests) -> DeferredToolResults:
        payload = await wait_for_external_event("the boss", ask=lambda _: None)
        return requests.build_results(approve_all=bool(payload))

    trial = started(kit, refunds(HandleDeferredToolCalls(handler=approve)))

    assert asked(kit, trial) == "**guide** waits for `the boss`."
    trial.resume(input={"payload": "yes"})
    assert ended(trial).result == "REFUND 7 LOOK 7"


@pytest.mark.parametrize("at_once", [False, True])
def test_a_pause_takes_effect_inside_a_run_and_the_run_goes_on(kit: TestKit, at_once: bool) -> None:
    other = [calls("look", order=1)] if at_once else []
    agent = durable(scripted([calls("save"), *other], says))

    @agent.tool_plain
    async def save() -> str:
        act("save")
        await execution.current().acheckpoint(label="saved")
        return "saved"

    @agent.tool_plain
    async def look(order: int) -> str:
        return act(f"look {order}")

    with kit.pause_at("saved"):
        trial = started(kit, agent)
    assert trial.status == "paused", repr(trial.error)
    trial.resume()

    assert ended(trial).result == ("saved LOOK 1" if at_once else "saved")
    assert acts["model 0"] == acts["model 1"] == 1
    assert acts["save"] == 2  # it had not returned
