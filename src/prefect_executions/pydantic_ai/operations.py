"""The operations of an agent, as the framework names them, recorded as steps."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.durable_exec import (
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetValidateToolArgumentsId,
    record_durable_unit,
)

from prefect_executions.errors import StateError
from prefect_executions.pydantic_ai.agent_runs import AgentRun
from prefect_executions.steps.named import arecord


class Unencodable(Exception):
    """What the framework could not encode as JSON."""


class StepBackend(JournalCallableOperationBackend[None]):
    """Records each operation as a step, by its agent's run, its name, its tool call and a number.

    Args:
        agent: The agent's name.
        default_model_id: The id of the agent's own model, if it has one.
    """

    def __init__(self, agent: str, default_model_id: str | None) -> None:
        config = RoleBasedOperationConfig[None](model=None, event=None, capability=None, tool=None)
        super().__init__(agent_name=agent, default_model_id=default_model_id, config=config)
        self._agent = agent

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,  # noqa: ARG002
    ) -> object:
        """Carry out an operation, or return what is recorded of it.

        Args:
            operation_id: What it is.
            name: Its name for the framework, which is kept.
            body: Carries it out, and encodes the result.
            cache_key: Its parameters, with live objects: no part of its identity. The context of
                the agent's run is among them.
            config: None.
        """
        run = AgentRun.current()
        ctx = next((part for part in cache_key if isinstance(part, RunContext)), None)
        if run is not None and ctx is not None:
            ctx.run_id = run.run_id  # by which a tool may tell another service that it asks again
        step = step_name(self._agent, operation_id, name, ctx)
        key = None if run is None else run.key(name, None if ctx is None else ctx.tool_call_id)
        called: list[bool] = []
        shown = next((part for part in cache_key if isinstance(part, dict)), None)
        result = await arecord(step, partial(_call, body, step, called), key=key, shown=shown)
        record_durable_unit(executed=bool(called))
        return result


async def _call(body: Callable[[], Awaitable[object]], step: str, called: list[bool]) -> object:
    called.append(True)
    try:
        return await body()
    except Unencodable as error:  # it has been carried out
        return StateError(f"the result of {step}", f"can't be kept as JSON: {error}.")


def step_name(
    agent: str, operation_id: DurableOperationId, name: str, ctx: RunContext[Any] | None
) -> str:
    """What people see of an operation: the tool, or the model; of others the framework's name."""
    tool = None if ctx is None else ctx.tool_name
    if isinstance(operation_id, ModelRequestId):
        return f"{agent}: model" + (f" {operation_id.model_id}" if operation_id.model_id else "")
    if isinstance(operation_id, ToolsetCallToolId) and tool:
        return f"{agent}: tool {tool}"
    if isinstance(operation_id, ToolsetValidateToolArgumentsId) and tool:
        return f"{agent}: arguments of {tool}"
    return name
