"""The tools that change nothing."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from prefect_executions.client import AsyncClient, NotFound, operations
from prefect_executions.client.watching import Poll
from prefect_executions.config import Status
from prefect_executions.mcp.access import Access
from prefect_executions.mcp.answers import (
    ChangeLines,
    CheckpointLine,
    CheckpointLines,
    ExecutionReport,
    StatePart,
)
from prefect_executions.mcp.excerpts import changes_of, part_of
from prefect_executions.models import Execution, ExecutionFilter, Order, Page, Question

ExecutionId = Annotated[str, Field(description="The execution: `exec_` and 32 hex digits.")]
CheckpointId = Annotated[str, Field(description="The checkpoint: `ckpt_` and its number.")]
Wait = Annotated[float, Field(ge=0, le=50)]
Lines = Annotated[int, Field(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str | None, Field(description="`next_cursor` of the page before.")]
Bytes = Annotated[
    int, Field(ge=1, le=200_000, description="How many bytes of JSON of values come along.")
]
Offset = Annotated[int, Field(ge=0, description="`next_offset` of the answer before.")]

POINTS = 10  # of an execution's checkpoints that come along with it


class Reading:
    """The tools that change nothing.

    Args:
        access: The clients of the service.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def list_executions(
        self,
        ctx: Context[Any],
        where: Annotated[
            ExecutionFilter | None, Field(description="Which; by default all.")
        ] = None,
        order: Order = Order.NEWEST_FIRST,
        limit: Lines = 20,
        cursor: Cursor = None,
    ) -> Page:
        """List executions: what Prefect knows of each, with the reason where one has failed."""
        chosen: Any = {} if where is None else where.model_dump(exclude_none=True)
        async with self._access.client(ctx) as client:
            return await client.page(cursor=cursor, limit=limit, order=order, **chosen)

    async def get_execution(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        checkpoints: Annotated[
            int, Field(ge=0, le=200, description="How many of the newest come along.")
        ] = POINTS,
        wait: Annotated[
            Wait, Field(description="Wait so many seconds until it has ended or is paused.")
        ] = 0,
    ) -> ExecutionReport:
        """Read an execution: its status, why it failed, what it asks, its checkpoints, its result.

        Its state does not come along: get_state reads parts of it.
        """
        async with self._access.client(ctx) as client:
            await _until_it_rests(client, execution_id, wait)
            found = await client.get(
                execution_id, checkpoints=checkpoints, states=False, state=False
            )
            return await reported(client, found)

    async def list_checkpoints(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        limit: Lines = 20,
        cursor: Cursor = None,
    ) -> CheckpointLines:
        """List the checkpoints of an execution, newest first, without their states."""
        async with self._access.client(ctx) as client:
            page = await client.send(operations.checkpoints(execution_id, cursor, limit, False))
        lines = [CheckpointLine.of(each) for each in page.items]
        return CheckpointLines(items=lines, next_cursor=page.next_cursor)

    async def get_state(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        path: Annotated[
            str, Field(description="A JSON Pointer, as in /notes/0; empty for the whole.")
        ] = "",
        checkpoint_id: Annotated[
            str | None, Field(description="Of this checkpoint; by default the newest state.")
        ] = None,
        of: Annotated[
            Literal["state", "result"], Field(description="`result`: what it has come to.")
        ] = "state",
        limit: Bytes = 4_000,
        offset: Offset = 0,
    ) -> StatePart:
        """Read a part of a state or result, by path.

        What is larger than the limit is answered by its members, each with its path, its size, and
        its value as far as the limit goes; a long text in pieces.
        """
        async with self._access.client(ctx) as client:
            if checkpoint_id is not None:
                value = (await client.get_checkpoint(execution_id, checkpoint_id)).state
            else:
                whole = await client.get(
                    execution_id, checkpoints="none", states=False, state=of == "state"
                )
                value = whole.state if of == "state" else whole.result
        return part_of(value, path, limit=limit, offset=offset)

    async def diff_checkpoints(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        checkpoint_id: Annotated[str, Field(description="The checkpoint before.")],
        other_id: Annotated[str, Field(description="The checkpoint after.")],
        limit: Bytes = 4_000,
        offset: Offset = 0,
    ) -> ChangeLines:
        """What has changed between the states of two checkpoints, as a JSON Patch."""
        async with self._access.client(ctx) as client:
            diff = await client.diff(execution_id, checkpoint_id, other_id)
        return changes_of(diff.patch, limit=limit, offset=offset)


async def reported(client: AsyncClient, execution: Execution) -> ExecutionReport:
    """An execution, with its question if it is paused by one."""
    paused = execution.status is Status.PAUSED
    return ExecutionReport.of(
        execution, await question_of(client, execution.id) if paused else None
    )


async def question_of(client: AsyncClient, execution_id: str) -> Question | None:
    """What an execution asks, or None when it asks nothing."""
    try:
        return await client.question(execution_id)
    except NotFound as error:
        if error.code != "question_not_found":
            raise
        return None


async def _until_it_rests(client: AsyncClient, execution_id: str, seconds: float) -> None:
    """Wait until an execution has ended or is paused, or until the time is over."""
    if not seconds:
        return
    poll = Poll(Status.PAUSED, seconds)
    with suppress(TimeoutError):
        while True:
            now = await client.get(execution_id, checkpoints="none", states=False, state=False)
            pause = poll.next_pause(now.status)
            if pause is None:
                return
            await asyncio.sleep(pause)
