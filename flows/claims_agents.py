"""Two agents of Google ADK: one answers letters, and hands what is broken over to the other.

It needs `pip install "prefect-executions[adk]"`. Their model is a stand-in that follows rules, so
that it runs offline: give `LlmAgent` yours in its place. The office is a directory, in which
`sent.txt` gets a line for each letter to the carrier and for each refund, and the carrier answers
by a file with the number of the order:

    echo 'in Oslo' > office/7

If the process is killed, the conversation goes on with the next call of the model or a tool that is
not recorded. Before a refund the run is suspended, and no process waits. Rolling back takes the
conversation back, too.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.tools import FunctionTool
from google.genai.types import Content, FunctionCall, Part
from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution
from prefect_executions.adk import ExecutionsPlugin, StateSessions


class Claims(BaseModel):
    """The state: what was said, to the models and to those who have written."""

    sessions: dict[str, Any] = {}
    answers: list[str] = []


class Rules(BaseLlm):
    """Stands for a model: it calls the tool that it has, and says what that returns."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[LlmResponse, None]:
        """Respond."""
        said = [part for content in llm_request.contents for part in content.parts or []]
        answer = said[-1].function_response
        if answer and answer.name != "transfer_to_agent":
            part = Part(text=f"Dear customer, {(answer.response or {}).get('result')}")
        else:
            part = Part(function_call=self._call(said, llm_request.tools_dict))
        yield LlmResponse(content=Content(role="model", parts=[part]))

    def _call(self, said: list[Part], tools: dict[str, Any]) -> FunctionCall:
        letter = [part.text for part in said if re.search(r"\d", part.text or "")][-1] or ""
        [order] = re.findall(r"\d+", letter)
        if "refund" in tools:
            return FunctionCall(name="refund", args={"order": order, "cents": 900})
        if "broken" in letter:
            return FunctionCall(name="transfer_to_agent", args={"agent_name": "claims"})
        return FunctionCall(name="track", args={"order": order})


def agents(office: Path, patience_seconds: float) -> LlmAgent:
    """The agents of an office."""

    def send(line: str) -> None:
        office.mkdir(parents=True, exist_ok=True)
        with (office / "sent.txt").open("a") as sent:
            sent.write(f"{line}\n")

    async def track(order: str) -> str:
        """Ask the carrier where an order is, and wait for the answer."""
        send(f"to the carrier: where is {order}?")
        try:
            async with asyncio.timeout(patience_seconds):
                while not (office / order).exists():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return f"nobody knows where {order} is."
        return f"your order is {(office / order).read_text().strip()}."

    def refund(order: str, cents: int) -> str:
        """Send money back; a crash between the line and its record sends it again."""
        send(f"{cents} cents for {order}")
        return f"you get {cents} cents for order {order}."

    model = Rules(model="rules")
    claims = LlmAgent(
        name="claims",
        model=model,
        tools=[FunctionTool(refund, require_confirmation=True)],
    )
    return LlmAgent(name="desk", model=model, tools=[track], sub_agents=[claims])


@flow(name="claims-agents")
@execution(state=Claims, max_retries=3)
async def claims_agents(
    office: Path,
    letters: list[str] = ["Where is 7?", "8 is broken."],  # noqa: B006  # Prefect shows it
    patience_seconds: float = 60,
) -> list[str]:
    """Answer letters.

    Args:
        office: The directory that letters and money go through.
        letters: What customers have written.
        patience_seconds: How long to wait for the carrier.
    """
    run = execution.current(Claims)
    app = App(
        name="office",
        root_agent=agents(office, patience_seconds),
        plugins=[ExecutionsPlugin()],
    )
    runner = Runner(
        app=app,
        session_service=StateSessions(run.state.sessions),
        auto_create_session=True,
    )
    for letter in letters[len(run.state.answers) :]:
        message = Content(role="user", parts=[Part(text=letter)])
        answer = ""
        async for event in runner.run_async(
            user_id="customer", session_id="letters", new_message=message
        ):
            if event.is_final_response() and event.content and event.content.parts:
                answer = event.content.parts[0].text or ""
        run.state.answers.append(answer)
        await run.acheckpoint(label=f"answered: {letter}")
    return run.state.answers
