"""An agent of Pydantic AI that answers letters; what it can't decide alone, a person is asked.

It needs `pip install "prefect-executions[pydantic-ai]"`. Its model is a stand-in that follows
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
from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from pydantic import BaseModel
from pydantic_ai import Agent, ModelMessage, ModelRequest, ModelResponse, RunContext
from pydantic_ai.messages import TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from prefect_executions import execution
from prefect_executions.pydantic_ai import ExecutionsDurability, MessageHistory


class Support(BaseModel):
    """The state: what was said, to the model and to those who have written."""

    history: MessageHistory = MessageHistory()
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


def follow_rules(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Stand for a model: a broken order is refunded, and of any other the carrier is asked."""
    last = messages[-1]
    part = last.parts[-1] if isinstance(last, ModelRequest) else None
    if not isinstance(part, UserPromptPart):
        return ModelResponse(parts=[TextPart(f"Dear customer, {getattr(part, 'content', '')}")])
    [order] = re.findall(r"\d+", f"{part.content}")
    if "broken" in part.content:
        return ModelResponse(parts=[ToolCallPart("refund", {"order": order, "cents": 900})])
    return ModelResponse(parts=[ToolCallPart("track", {"order": order})])


agent = Agent(
    FunctionModel(follow_rules),
    name="support",
    deps_type=Office,
    capabilities=[ExecutionsDurability()],
)


@agent.tool
async def track(ctx: RunContext[Office], order: str) -> str:
    """Ask the carrier where an order is, and wait for the answer."""
    office = ctx.deps
    office.send(f"to the carrier: where is {order}?")
    try:
        async with asyncio.timeout(office.patience_seconds):
            while not (office.directory / order).exists():
                await asyncio.sleep(0.1)
    except TimeoutError:
        return f"nobody knows where {order} is."
    return f"your order is {(office.directory / order).read_text().strip()}."


@agent.tool(requires_approval=True)
def refund(ctx: RunContext[Office], order: str, cents: int) -> str:
    """Send money back.

    A crash between the line and its record sends it again. A real service would be given an
    idempotency key, such as `ctx.run_id` and `ctx.tool_call_id`, and send it once all the same.
    """
    ctx.deps.send(f"{cents} cents for {order}")
    return f"you get {cents} cents for order {order}."


@flow(name="support-agent")
@execution(state=Support, max_retries=3)
async def support_agent(
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
    run = execution.current(Support)
    for letter in letters[len(run.state.answers) :]:
        result = await agent.run(
            letter,
            deps=Office(office, patience_seconds),
            message_history=run.state.history.messages,
        )
        run.state.history = MessageHistory.of(result)
        run.state.answers.append(result.output)
        await run.acheckpoint(label=f"answered: {letter}")
    return run.state.answers
