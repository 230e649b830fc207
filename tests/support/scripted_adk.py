"""Agents of Google ADK whose models answer by a script, and count their calls."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.genai.types import Content, FunctionCall, Part

from trials import act

Turn = Sequence[Part] | Callable[[LlmRequest], Sequence[Part]]


def calls(name: str, call_id: str | None = None, **arguments: Any) -> Part:
    """The call of a tool; without an id, as models of Gemini make it."""
    return Part(function_call=FunctionCall(id=call_id, name=name, args=arguments))


def text(words: str) -> Part:
    return Part(text=words)


def says(request: LlmRequest) -> Sequence[Part]:
    """What the tools have returned, as the model's last word."""
    results = [
        str((part.function_response.response or {}).get("result", part.function_response.response))
        for content in request.contents
        for part in content.parts or []
        if part.function_response
    ]
    return [text(" ".join(results))]


class Script(BaseLlm):
    """A model with one turn for each response of its own that the conversation has."""

    name: str
    turns: list[Any]

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        number = sum(content.role == "model" for content in llm_request.contents)
        act(f"{self.name} {number}")
        turn = self.turns[number]
        parts = turn(llm_request) if callable(turn) else turn
        parts = [part.model_copy(deep=True) for part in parts]  # ADK gives calls their ids in them
        if stream:
            yield LlmResponse(content=Content(role="model", parts=parts), partial=True)
        yield LlmResponse(content=Content(role="model", parts=parts))


def agent(*turns: Turn, name: str = "guide", **options: Any) -> LlmAgent:
    """An agent that goes through these turns."""
    model = Script(model="script", name=name, turns=list(turns))
    return LlmAgent(name=name, model=model, **options)
