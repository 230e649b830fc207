"""Models whose responses are recorded."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelProvider, ModelResponse
from agents.items import TResponseStreamEvent
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseFailedEvent,
    ResponseIncompleteEvent,
)

from prefect_executions.openai_agents.turns import Turns
from prefect_executions.responses import Responses

_Last = ResponseCompletedEvent | ResponseIncompleteEvent | ResponseFailedEvent

# Without what the model has not said, which the SDK would send back to it.
_LAST = Responses[_Last](_Last, exclude_unset=True)
_RESPONSE = Responses[ModelResponse](ModelResponse, exclude_unset=True)


class RecordedModel(Model):
    """A model whose responses are recorded in an agent's run inside an execution.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The model's response, or the recorded one."""
        turns = Turns.current()
        if turns is None:
            return await self._model.get_response(*args, **kwargs)
        return await turns.model(lambda: self._model.get_response(*args, **kwargs), _RESPONSE)

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        """The model's events as they come, the last one once it is recorded; or that one alone."""
        turns = Turns.current()
        if turns is None:
            async for live in self._model.stream_response(*args, **kwargs):
                yield live
            return
        events = asyncio.Queue[TResponseStreamEvent | None]()

        async def respond() -> _Last:
            last = None
            async for event in self._model.stream_response(*args, **kwargs):
                if isinstance(event, _Last):
                    last = event
                else:
                    events.put_nowait(event)
            if last is None:
                raise ConnectionError("the model's stream of events has ended without a response")
            return last

        recording = asyncio.create_task(turns.model(respond, _LAST))
        recording.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            yield await recording
        finally:
            recording.cancel()

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """The model's."""
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()


def recorded_model(model: Model) -> Model:
    """A model whose responses are recorded."""
    return model if isinstance(model, RecordedModel) else RecordedModel(model)


class RecordedProvider(ModelProvider):
    """The models of a provider, with their responses recorded.

    Args:
        provider: The provider.
    """

    def __init__(self, provider: ModelProvider) -> None:
        self._provider = provider

    def get_model(self, model_name: str | None) -> Model:
        """The model of a name."""
        return recorded_model(self._provider.get_model(model_name))

    async def aclose(self) -> None:
        """Close the provider."""
        await self._provider.aclose()
