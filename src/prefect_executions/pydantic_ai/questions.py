"""What an agent asks of people: the questions, and what their answers are for the framework."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field, JsonValue
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.external_events import ExternalEventWaiter
from pydantic_ai.messages import ToolCallPart

from prefect_executions.approvals import MAY_CALL, ToolApproval, prompt_about
from prefect_executions.pydantic_ai.agent_runs import AgentRun
from prefect_executions.runtime.decorator import execution
from prefect_executions.steps.named import arecord


class ToolAnswer(BaseModel):
    """The answer to what a tool asks."""

    answer: str = Field(description="What the model is told.")


class ToolResult(BaseModel):
    """The result of a call that something outside of the agent carries out."""

    result: Any = Field(description="What the model is told, as JSON.")


class EventPayload(BaseModel):
    """What an agent waits for."""

    payload: Any = Field(description="As JSON; what it has to be is up to the one who waits.")


async def ask_people(
    agent: str, run: AgentRun, requests: DeferredToolRequests
) -> DeferredToolResults:
    """Ask for each pending call, one after the other; the run is suspended until it is answered.

    Args:
        agent: The agent's name.
        run: Its run.
        requests: The pending calls.
    """
    results = DeferredToolResults()
    for call in [*requests.approvals, *requests.calls]:
        kind = requests.kind(call.tool_call_id)
        key = run.key(f"ask {kind}", call.tool_call_id)
        prompt = _prompt(agent, call, kind, requests.metadata.get(call.tool_call_id))
        here = execution.current()
        if kind == "approval":
            approval = await here.aask(ToolApproval, prompt=prompt, key=key)
            denied = ToolDenied(approval.message) if approval.message else ToolDenied()
            results.approvals[call.tool_call_id] = ToolApproved() if approval.approved else denied
        elif kind == "question":
            answer = await here.aask(ToolAnswer, prompt=prompt, key=key)
            results.calls[call.tool_call_id] = answer.answer
        else:
            given = await here.aask(ToolResult, prompt=prompt, key=key)
            results.calls[call.tool_call_id] = given.result
    return results


_ASKED = {
    "approval": MAY_CALL,
    "question": "**{agent}** asks, by `{tool}`:",
    "external": "**{agent}** waits for the result of `{tool}`.",
}


def _prompt(agent: str, call: ToolCallPart, kind: str, metadata: dict[str, Any] | None) -> str:
    question = _ASKED[kind].format(agent=agent, tool=call.tool_name)
    return prompt_about(question, call.args_as_dict(), metadata)


class AnswerWaiter(ExternalEventWaiter):
    """Lets an agent wait for an event: the run is suspended until somebody resumes it with one.

    The token begins with the execution's id. It is resolved by `POST …/resume` with the input
    `{"payload": …}`, or in the form behind Resume in the Prefect UI.

    Args:
        agent: The agent's name.
        run: Its run.
    """

    def __init__(self, agent: str, run: AgentRun) -> None:
        self._agent = agent
        self._run = run

    async def wait(
        self,
        name: str,
        *,
        ask: Callable[[str], Awaitable[JsonValue]],
        timeout: timedelta | None,
    ) -> JsonValue:
        """Give a token to `ask`, and unless that answers, suspend the run.

        Raises:
            ValueError: There is a time-out; a question waits until it is answered.
        """
        if timeout is not None:
            raise ValueError(
                f"timeout: {timeout} is given for {name!r}, and a question of an execution waits "
                "until it is answered; leave it out."
            )
        here = execution.current()
        key = self._run.key(f"wait {name}")
        token = f"{here.id} {key}"

        async def asked() -> JsonValue:
            return await ask(token)

        answer: JsonValue = await arecord(f"{self._agent}: ask {name}", asked, key=f"{key} ask")
        if answer is not None:
            return answer
        prompt = f"**{self._agent}** waits for `{name}`."
        event = await here.aask(EventPayload, prompt=prompt, key=key)
        payload: JsonValue = event.payload
        return payload
