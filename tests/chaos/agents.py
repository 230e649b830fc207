"""An agent of Pydantic AI that chaos disturbs: it takes the steps of `tasks.py` by a tool."""

from prefect import flow
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chaos.tasks import Step, Work, fetching, go_on
from prefect_executions import execution
from prefect_executions.pydantic_ai import ExecutionsDurability


def _answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Call the tool with the numbers of the prompt; then say what it has returned."""
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    for part in last.parts:
        if isinstance(part, ToolReturnPart):
            return ModelResponse(parts=[TextPart(f"{part.content}")])
        if isinstance(part, UserPromptPart):
            seed, n = f"{part.content}".split()
            return ModelResponse(parts=[ToolCallPart("note", {"seed": int(seed), "n": int(n)})])
    raise AssertionError(f"neither a prompt nor a result: {last}")


agent = Agent(FunctionModel(_answer), name="notes", capabilities=[ExecutionsDurability()])


@agent.tool_plain
def note(seed: int, n: int) -> str:
    """The note of a step."""
    fetching(n)
    return Step.of(seed, n).note


async def _asked(seed: int, n: int) -> str:
    return (await agent.run(f"{seed} {n}")).output


@flow
@execution(state=Work, max_retries=1000, checkpoint_interval_seconds=1)
async def working_agent(seed: int, steps: int) -> str:
    """Take steps whose notes an agent fetches, and save or publish the state after each."""
    return await go_on(seed, steps, _asked)
