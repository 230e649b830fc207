"""Agents of the OpenAI Agents SDK whose models answer by a script, and count their calls."""

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import groupby
from typing import Any

from agents import Agent, ModelResponse
from agents.items import TResponseOutputItem, TResponseStreamEvent
from agents.testing import ScriptedModel, assistant_message, function_call

from trials import act

Turn = Sequence[TResponseOutputItem] | Callable[[list[Any]], Sequence[TResponseOutputItem]]


def calls(name: str, call_id: str = "", **arguments: Any) -> TResponseOutputItem:
    """The call of a tool."""
    return function_call(name, arguments, call_id=call_id or f"call-{name}")


def says(items: list[Any]) -> Sequence[TResponseOutputItem]:
    """What the tools have returned, as the model's last word."""
    results = [item["output"] for item in items if item.get("type") == "function_call_output"]
    return [assistant_message(" ".join(map(str, results)))]


class Script(ScriptedModel):
    """A model with one turn for each response that the conversation has."""

    def __init__(self, name: str, *turns: Turn) -> None:
        super().__init__()
        self._name = name
        self._turns = turns

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        self._prepare(kwargs.get("input", args[1:2] and args[1]))
        return await super().get_response(*args, **kwargs)

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        self._prepare(kwargs.get("input", args[1:2] and args[1]))
        async for event in super().stream_response(*args, **kwargs):
            yield event

    def _prepare(self, given: str | list[Any]) -> None:
        items = [] if isinstance(given, str) else given
        said = [_is_said(item) for item in items]
        number = sum(1 for is_said, _ in groupby(said) if is_said)
        act(f"{self._name} {number}")
        turn = self._turns[number]
        self.enqueue(turn(items) if callable(turn) else turn)


def _is_said(item: Any) -> bool:
    return item.get("type") == "function_call" or item.get("role") == "assistant"


def agent(*turns: Turn, name: str = "guide", **options: Any) -> Agent[Any]:
    """An agent that goes through these turns."""
    return Agent(name, model=Script(name, *turns), **options)
