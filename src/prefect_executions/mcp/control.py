"""The tools that change something."""

from datetime import datetime
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from prefect_executions.client.operations import CreateOptions
from prefect_executions.config import ExecutionConfig, OnTimeout
from prefect_executions.mcp.access import Access
from prefect_executions.mcp.answers import DeletionReport, ExecutionReport
from prefect_executions.mcp.reading import CheckpointId, ExecutionId, Wait, reported

Name = Annotated[str, Field(description="What it is called.")]
Repeatable = Annotated[
    str | None,
    Field(description="Any text. The same call again with the same key creates nothing more."),
]
Began = Annotated[Wait, Field(description="Wait so many seconds for its next attempt to begin.")]
Left = Annotated[Wait, Field(description="Wait so many seconds for its process to end.")]


class Control:
    """The tools that change something.

    Args:
        access: The clients of the service.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def create_execution(
        self,
        ctx: Context[Any],
        name: Name,
        deployment: Annotated[
            str | None,
            Field(
                description="What runs it: `flow-name/deployment-name`. Without one, and without a "
                "task_type that the service knows one for, nobody runs it."
            ),
        ] = None,
        parameters: Annotated[
            dict[str, Any] | None, Field(description="The parameters of the deployment's flow.")
        ] = None,
        description: Annotated[str | None, Field(description="What it is for.")] = None,
        agent_id: Annotated[str | None, Field(description="The agent that it belongs to.")] = None,
        task_type: Annotated[str | None, Field(description="The kind of task.")] = None,
        state: Annotated[Any, Field(description="The first state; by default {}.")] = None,
        from_checkpoint: Annotated[
            str | None, Field(description="Begin with this state: `exec_…/ckpt_…`.")
        ] = None,
        config: Annotated[
            ExecutionConfig | None, Field(description="How it is run; by default as its flow says.")
        ] = None,
        idempotency_key: Repeatable = None,
    ) -> ExecutionReport:
        """Create an execution. A worker starts it soon; get_execution shows what becomes of it."""
        given = {
            "deployment": deployment,
            "parameters": parameters,
            "description": description,
            "agent_id": agent_id,
            "task_type": task_type,
            "state": state,
            "from_checkpoint": from_checkpoint,
            "config": config,
        }
        new: CreateOptions = {k: v for k, v in given.items() if v is not None}  # type: ignore[assignment]  # by name
        async with self._access.client(ctx) as client:
            created = await client.create(name, idempotency_key=idempotency_key, **new)
            return ExecutionReport.of(created)

    async def pause_execution(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        reason: Annotated[str | None, Field(description="Why; people see it.")] = None,
        until: Annotated[
            datetime | None, Field(description="When the pause ends by itself; with a time zone.")
        ] = None,
        on_timeout: Annotated[
            OnTimeout, Field(description="What becomes of it then.")
        ] = OnTimeout.RESUME,
        wait: Left = 0,
    ) -> ExecutionReport:
        """Pause an execution: its process ends at its next checkpoint. Nothing is lost."""
        async with self._access.client(ctx) as client:
            paused = await client.pause(
                execution_id, reason=reason, until=until, on_timeout=on_timeout, wait=wait
            )
            return await reported(client, paused)

    async def resume_execution(
        self, ctx: Context[Any], execution_id: ExecutionId, wait: Began = 0
    ) -> ExecutionReport:
        """Continue a paused, failed or terminated execution from its newest checkpoint.

        One that asks something wants an answer: see answer_question.
        """
        async with self._access.client(ctx) as client:
            return ExecutionReport.of(await client.resume(execution_id, wait=wait))

    async def roll_back_execution(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        checkpoint_id: CheckpointId,
        force: Annotated[
            bool, Field(description="Even if it is running: it is paused first.")
        ] = False,
        reason: Annotated[
            str | None, Field(description="Why; it is kept with the roll-back.")
        ] = None,
        wait: Began = 0,
    ) -> ExecutionReport:
        """Continue an execution from an earlier checkpoint; `ckpt_000000` starts over.

        `steps_behind` in the answer are the steps after it: their effects have happened. To leave
        it as it is, and try another way beside it, fork it.
        """
        async with self._access.client(ctx) as client:
            resumed = await client.resume(
                execution_id, checkpoint_id=checkpoint_id, force=force, reason=reason, wait=wait
            )
            return ExecutionReport.of(resumed)

    async def answer_question(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        answer: Annotated[
            dict[str, Any],
            Field(description="As `question.answer_schema` of get_execution wants it."),
        ],
        wait: Began = 0,
    ) -> ExecutionReport:
        """Answer what a paused execution asks; it goes on with the answer."""
        async with self._access.client(ctx) as client:
            return ExecutionReport.of(await client.resume(execution_id, input=answer, wait=wait))

    async def fork_execution(
        self,
        ctx: Context[Any],
        execution_id: ExecutionId,
        checkpoint_id: Annotated[
            str | None, Field(description="Where it begins; by default at the newest checkpoint.")
        ] = None,
        name: Annotated[str | None, Field(description="What the new one is called.")] = None,
        deployment: Annotated[
            str | None, Field(description="What runs it; by default what runs the other one.")
        ] = None,
        idempotency_key: Repeatable = None,
    ) -> ExecutionReport:
        """Create an execution that continues from a checkpoint of another, which stays as it is.

        What its steps had recorded by that checkpoint is not done again.
        """
        async with self._access.client(ctx) as client:
            forked = await client.fork(
                execution_id,
                checkpoint_id=checkpoint_id,
                name=name,
                deployment=deployment,
                idempotency_key=idempotency_key,
            )
            return ExecutionReport.of(forked)

    async def cancel_execution(
        self, ctx: Context[Any], execution_id: ExecutionId, wait: Left = 0
    ) -> ExecutionReport:
        """Terminate an execution and keep it: it can be resumed from its checkpoints."""
        async with self._access.client(ctx) as client:
            return ExecutionReport.of(await client.cancel(execution_id, wait=wait))

    async def delete_execution(
        self, ctx: Context[Any], execution_id: ExecutionId, wait: Left = 10
    ) -> DeletionReport:
        """Delete an execution with all its checkpoints, for ever; one that runs is terminated."""
        async with self._access.client(ctx) as client:
            return DeletionReport(
                id=execution_id, finished=await client.delete(execution_id, wait=wait)
            )
