"""An execution as the stream of events of AG-UI, for web pages that speak this protocol.

    pip install ag-ui-protocol
    export PREFECT_EXECUTIONS_URL=http://127.0.0.1:4300 PREFECT_EXECUTIONS_API_KEY=pxk_…
    python examples/ag_ui.py

It listens on port 4400. A thread is an execution: POST a `RunAgentInput` whose `threadId` is the
execution's id. The stream ends when the execution does, or is paused; a `RunAgentInput` with
`resume` answers the question, and streams on.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import jsonpatch
import uvicorn
from ag_ui.core import (
    BaseEvent,
    Interrupt,
    RunAgentInput,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
)
from ag_ui.encoder import EventEncoder
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from prefect_executions.client import AsyncClient, NotFound
from prefect_executions.config import Status
from prefect_executions.models import Execution

LOOK_EVERY = 0.5  # seconds

app = FastAPI()


@app.post("/")
async def stream(run: RunAgentInput) -> StreamingResponse:
    """What happens to an execution, until it ends or is paused."""
    encoder = EventEncoder()

    async def encoded() -> AsyncIterator[str]:
        async with AsyncClient() as client:
            async for event in events(client, run):
                yield encoder.encode(event)

    return StreamingResponse(encoded(), media_type=encoder.get_content_type())


async def events(client: AsyncClient, run: RunAgentInput) -> AsyncIterator[BaseEvent]:
    """The events of a run, which follows an execution and continues it if that is asked for.

    Args:
        client: The client of the service.
        run: What AG-UI asks for.
    """
    yield RunStartedEvent(thread_id=run.thread_id, run_id=run.run_id)
    for entry in run.resume or []:
        if entry.status == "resolved":
            await client.resume(run.thread_id, input=entry.payload)
    now = await client.get(run.thread_id, checkpoints="none")
    yield StateSnapshotEvent(snapshot=now.state)
    while now.status is Status.RUNNING:
        await asyncio.sleep(LOOK_EVERY)
        before, now = now, await client.get(run.thread_id, checkpoints="none")
        if delta := jsonpatch.make_patch(before.state, now.state).patch:
            yield StateDeltaEvent(delta=delta)
    yield await ending(client, run, now)


async def ending(client: AsyncClient, run: RunAgentInput, now: Execution) -> BaseEvent:
    """The last event of a run: what its execution has come to, or waits for."""
    if now.status is Status.FAILED:
        return RunErrorEvent(message=now.prefect.message or "It has failed.")
    outcome: Any = RunFinishedSuccessOutcome(type="success")
    if now.status is Status.TERMINATED:
        outcome = RunFinishedCancelledOutcome(type="cancelled")
    if now.status is Status.PAUSED:
        interrupts = [await interrupt(client, now)]
        outcome = RunFinishedInterruptOutcome(type="interrupt", interrupts=interrupts)
    return RunFinishedEvent(
        thread_id=run.thread_id, run_id=run.run_id, result=now.result, outcome=outcome
    )


async def interrupt(client: AsyncClient, paused: Execution) -> Interrupt:
    """What a paused execution waits for: the answer to its question, or somebody's leave."""
    try:
        question = await client.question(paused.id)
    except NotFound:
        return Interrupt(id=paused.id, reason="paused", message=paused.prefect.message)
    return Interrupt(
        id=question.id,
        reason="question",
        message=question.prompt,
        response_schema=question.answer_schema,
    )


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=4400)
