"""Two agents of the OpenAI Agents SDK: one answers letters, and hands returns off to the other.

It needs `pip install "prefect-executions[openai-agents]"`. Their model is a stand-in that follows
rules, so that it runs offline: give `Agent` yours in its place. The office is a directory, in which
`sent.txt` gets a line for each letter to the carrier and for each refund, and the carrier answers
by a file with the number of the order:

    echo 'in Oslo' > office/7

If the process is killed, the conversation goes on with the next call of the model or a tool that is
not recorded. Before a refund the run is suspended, and no process waits. Rolling back takes the
conversation back, too.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    RunContextWrapper,
    Tool,
    TResponseInputItem,
    Usage,
    function_tool,
)
from agents.items import TResponseStreamEvent
from agents.testing import assistant_message, function_call
from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution
from prefect_executions.openai_agents import Conversation, run


class Returns(BaseModel):
    """The state: what was said, to the model and to those who have written."""

    items: list[dict[str, Any]] = []
    answers: list[str] = []


@dataclass
class Office:
    """What the tools work with."""

    directory: Path
    patience_seconds: float

    def send(self, line: str) -> None:
        """Send something out."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "sent.txt").open("a") as sent:
            sent.write(f"{line}\n")


class Rules(Model):
    """Stands for a model: a broken order is handed off and refunded, any other is asked for."""

    async def get_response(
        self,
        system_instructions: str | None,  # noqa: ARG002
        input: str | list[TResponseInputItem],  # noqa: A002
        model_settings: Any,  # noqa: ARG002
        tools: list[Tool],
        *_: Any,
        **__: Any,
    ) -> ModelResponse:
        """Respond."""
        items: list[Any] = [{"content": input}] if isinstance(input, str) else input
        letter = [item["content"] for item in items if re.search(r"\d", f"{item.get('content')}")]
        result = items[-1].get("output")
        if result is not None and not f"{result}".startswith('{"assistant"'):  # of a handoff
            output = assistant_message(f"Dear customer, {result}")
        else:
            output = self._call(letter[-1], [tool.name for tool in tools], f"call-{len(items)}")
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def _call(self, letter: str, tools: list[str], call_id: str) -> Any:
        [order] = re.findall(r"\d+", letter)
        if "refund" in tools:
            return function_call("refund", {"order": order, "cents": 900}, call_id=call_id)
        if "broken" in letter:
            return function_call("transfer_to_returns", {}, call_id=call_id)
        return function_call("track", {"order": order}, call_id=call_id)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[TResponseStreamEvent]:
        """These agents are not streamed."""
        raise NotImplementedError


@function_tool
async def track(ctx: RunContextWrapper[Office], order: str) -> str:
    """Ask the carrier where an order is, and wait for the answer."""
    office = ctx.context
    office.send(f"to the carrier: where is {order}?")
    try:
        async with asyncio.timeout(office.patience_seconds):
            while not (office.directory / order).exists():
                await asyncio.sleep(0.1)
    except TimeoutError:
        return f"nobody knows where {order} is."
    return f"your order is {(office.directory / order).read_text().strip()}."


@function_tool(needs_approval=True)
def refund(ctx: RunContextWrapper[Office], order: str, cents: int) -> str:
    """Send money back; a crash between the line and its record sends it again."""
    ctx.context.send(f"{cents} cents for {order}")
    return f"you get {cents} cents for order {order}."


model = Rules()
returns = Agent[Office]("returns", model=model, tools=[refund])
desk = Agent[Office]("desk", model=model, tools=[track], handoffs=[returns])


@flow(name="returns-agents")
@execution(state=Returns, max_retries=3)
async def returns_agents(
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
    here = execution.current(Returns)
    for letter in letters[len(here.state.answers) :]:
        result = await run(
            desk,
            letter,
            context=Office(office, patience_seconds),
            session=Conversation(here.state.items),
            run_config=RunConfig(tracing_disabled=True),  # nothing is sent to OpenAI
        )
        here.state.answers.append(result.final_output)
        await here.acheckpoint(label=f"answered: {letter}")
    return here.state.answers
