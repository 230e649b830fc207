"""The messages of an agent as a part of a state."""

from typing import Any, Self

from pydantic import RootModel
from pydantic_ai import AgentRunResult, ModelMessage, ModelMessagesTypeAdapter


class MessageHistory(RootModel[list[dict[str, Any]]]):
    """The messages of an agent, as JSON: a field of a state.

    A checkpoint saves it with the rest, as large as what was added; a roll-back takes the
    conversation back.
    """

    root: list[dict[str, Any]] = []

    @classmethod
    def of(cls, result: AgentRunResult[Any] | list[ModelMessage]) -> Self:
        """All messages of a run, those that it was given too; or these messages."""
        messages = result if isinstance(result, list) else result.all_messages()
        return cls(ModelMessagesTypeAdapter.dump_python(messages, mode="json"))

    @property
    def messages(self) -> list[ModelMessage]:
        """The messages, for `message_history`."""
        return ModelMessagesTypeAdapter.validate_python(self.root)
