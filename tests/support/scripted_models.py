"""Models that follow a script, and count how often they are asked."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from trials import act

Turn = Callable[[list[ModelMessage]], list[ToolCallPart] | str]


def calls(tool: str, /, **args: Any) -> ToolCallPart:
    return ToolCallPart(tool, args)


def heard(messages: list[ModelMessage]) -> list[Any]:
    """What the last message has brought: prompts, results of tools, and why they failed."""
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    return [getattr(part, "content", None) for part in last.parts]


def says(messages: list[ModelMessage]) -> str:
    """A last turn: what was heard."""
    return " ".join(map(str, heard(messages)))


def scripted(*turns: Turn | list[ToolCallPart] | str, name: str = "model") -> FunctionModel:
    """A model that takes a turn for each response before it; the last one for all that follow."""

    def take(messages: list[ModelMessage]) -> list[ToolCallPart] | str:
        n = sum(isinstance(message, ModelResponse) for message in messages)
        act(f"{name} {n}")
        turn = turns[min(n, len(turns) - 1)]
        return turn(messages) if callable(turn) else turn

    def respond(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        turn = take(messages)
        return ModelResponse(parts=[TextPart(turn)] if isinstance(turn, str) else turn)

    async def stream(
        messages: list[ModelMessage], _: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        turn = take(messages)
        if isinstance(turn, str):
            for word in turn.split():
                yield f"{word} "
        else:
            for index, call in enumerate(turn):
                yield {index: DeltaToolCall(call.tool_name, call.args_as_json_str())}

    return FunctionModel(respond, stream_function=stream)
