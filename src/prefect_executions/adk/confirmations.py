"""Tools that have to be confirmed: the execution asks, and goes on with the answer."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.adk.tools.tool_context import ToolContext
from pydantic import BaseModel, Field

from prefect_executions.adk.run_calls import RunCalls
from prefect_executions.approvals import MAY_CALL, ToolApproval, prompt_about
from prefect_executions.runtime.decorator import execution

_REJECTED = "This tool call is rejected."  # ADK's words


class ToolConfirmed(BaseModel):
    """The answer to a tool that asks for a confirmation itself."""

    approved: bool = Field(description="Whether it is confirmed, as the tool is told.")
    payload: Any = Field(None, description="What else the tool has asked for, as JSON.")


async def confirmed(
    calls: RunCalls,
    tool: BaseTool,
    args: dict[str, Any],
    context: ToolContext,
    call: Callable[[], Awaitable[Any]],
) -> Any:
    """Call a tool once it is confirmed, if it has to be.

    Args:
        calls: The calls that the call is one of.
        tool: The tool.
        args: What it is called with.
        context: What it is given.
        call: Calls it.

    Returns:
        What it returns, or what the model gets in its place.
    """
    key = f"confirmation {context.function_call_id}"
    may_call = MAY_CALL.format(agent=context.agent_name, tool=tool.name)
    if await tool.check_require_confirmation(args, context) is True:
        prompt = prompt_about(may_call, args)
        async with calls.traffic.question():
            approval = await execution.current().aask(
                ToolApproval, prompt=prompt, key=calls.key(key)
            )
        if not approval.approved:
            return {"error": approval.message or _REJECTED}
        context.tool_confirmation = ToolConfirmation(confirmed=True)
    while True:
        result = await call()
        asked = context.actions.requested_tool_confirmations.pop(
            context.function_call_id or "", None
        )
        if asked is None:
            return result
        prompt = prompt_about(
            "\n\n".join(filter(None, [may_call, asked.hint])), args, asked.payload
        )
        async with calls.traffic.question():
            answer = await execution.current().aask(
                ToolConfirmed, prompt=prompt, key=calls.key(key)
            )
        payload = asked.payload if answer.payload is None else answer.payload
        context.actions.skip_summarization = None  # ADK gives the second call actions of its own
        context.tool_confirmation = ToolConfirmation(
            hint=asked.hint, confirmed=answer.approved, payload=payload
        )
