"""Agents whose tools and models are recorded."""

import json
from copy import copy
from functools import partial
from inspect import isawaitable
from typing import Any, get_type_hints

from agents import (
    Agent,
    CodeInterpreterTool,
    FileSearchTool,
    FunctionTool,
    Handoff,
    HostedMCPTool,
    ImageGenerationTool,
    Model,
    RunContextWrapper,
    Tool,
    ToolErrorFormatterArgs,
    ToolOriginType,
    WebSearchTool,
    default_tool_error_function,
    handoff,
)
from agents.run_config import ToolErrorFormatter
from agents.tool import (
    ToolErrorFunction,
    ToolSearchTool,
    get_function_tool_origin,
    invoke_function_tool,
    resolve_function_tool_failure_error_function,
    set_function_tool_failure_error_function,
)
from agents.tool_context import ToolContext

from prefect_executions.errors import ExecutionError
from prefect_executions.openai_agents.models import recorded_model
from prefect_executions.openai_agents.turns import PassedOn, Turns

# They are carried out by the model's service, and are a part of its response.
_HOSTED = (
    *(CodeInterpreterTool, FileSearchTool, HostedMCPTool, ImageGenerationTool),
    *(ToolSearchTool, WebSearchTool),
)


def record_agents(*agents: Agent[Any]) -> None:
    """Let the calls of agents, and of those that they hand off to or use as tools, be recorded.

    It is done to the agents themselves, once. Outside of a run inside an execution they stay as
    they were.

    Raises:
        TypeError: An agent has a tool whose calls can't be recorded.
    """
    todo, seen = [*agents], set[int]()
    while todo:
        agent = todo.pop()
        if id(agent) in seen:
            continue
        seen.add(id(agent))
        todo += [used for tool in agent.tools if (used := _agent_of(tool))]
        todo += [other for other in agent.handoffs if isinstance(other, Agent)]
        _record(agent)


def _record(agent: Agent[Any]) -> None:
    tools = [_recorded_tool(tool, agent.name) for tool in agent.tools]
    if any(new is not old for new, old in zip(tools, agent.tools, strict=True)):
        agent.tools = tools
    if isinstance(agent.model, Model):
        agent.model = recorded_model(agent.model)
    agent.handoffs = [_recorded_handoff(each) for each in agent.handoffs]
    if agent.mcp_servers and not isinstance(agent.get_mcp_tools, _RecordedMcpTools):
        recorded = _RecordedMcpTools(agent)
        agent.get_mcp_tools = recorded  # type: ignore[method-assign]  # MCP tools are made each turn


class _RecordedMcpTools:
    """The tools of an agent's MCP servers, recorded."""

    def __init__(self, agent: Agent[Any]) -> None:
        self._agent = agent
        self._get = agent.get_mcp_tools

    async def __call__(self, run_context: RunContextWrapper[Any]) -> list[Tool]:
        return [_recorded_tool(tool, self._agent.name) for tool in await self._get(run_context)]


def _recorded_handoff(to: Any) -> Any:
    to = handoff(to) if isinstance(to, Agent) else to
    if not isinstance(to.on_invoke_handoff, _RecordedHandoff):
        recorded = copy(to)
        recorded.on_invoke_handoff = _RecordedHandoff(to)
        return recorded
    return to


class _RecordedHandoff:
    """A handoff to an agent, which may be known only now."""

    def __init__(self, to: Handoff[Any, Any]) -> None:
        self._handoff = to

    async def __call__(self, context: RunContextWrapper[Any], arguments: str) -> Agent[Any]:
        agent: Agent[Any] = await self._handoff.on_invoke_handoff(context, arguments)
        if (turns := Turns.current()) is not None:
            record_agents(agent)
            turns.agent = agent.name
        return agent


def _agent_of(tool: Tool) -> Agent[Any] | None:
    """The agent that is used as a tool."""
    if not isinstance(tool, FunctionTool):
        return None
    origin = get_function_tool_origin(tool)
    if origin is None or origin.type is not ToolOriginType.AGENT_AS_TOOL:
        return None
    agent: Agent[Any] = tool._agent_instance  # the SDK has no public way to it
    return agent


def _recorded_tool(tool: Tool, agent: str) -> Tool:
    if isinstance(tool, _HOSTED):
        return tool
    if not isinstance(tool, FunctionTool):
        raise TypeError(
            f"tools: {tool.name!r} of the agent {agent!r} is a {type(tool).__name__}, whose calls "
            "can't be recorded; make it a `function_tool`."
        )
    if isinstance(tool.on_invoke_tool, _RecordedTool):
        return tool
    recorded = copy(tool)
    if callable(tool.needs_approval):
        recorded.needs_approval = _NeedsApproval(tool)
    used = _agent_of(tool)
    if used is not None:
        recorded.on_invoke_tool = _UsedAgent(tool, used.name)
        return recorded
    recorded.on_invoke_tool = _RecordedTool(tool)
    recorded.timeout_seconds = None  # that it took too long is recorded, too
    return recorded


class _NeedsApproval:
    """Whether a call has to be approved: by the tool's own function, which sees the arguments.

    The SDK asks for approval without the function where validation changes the arguments, since it
    would decide about others than the tool gets. It finds that out by the tool's invoker, which it
    does not know behind the one that records. It has no public way; a test fails if it goes.
    """

    def __init__(self, tool: FunctionTool) -> None:
        self._tool = tool

    async def __call__(
        self, context: RunContextWrapper[Any], parameters: dict[str, Any], call_id: str
    ) -> bool:
        prepare = getattr(self._tool.on_invoke_tool, "prepare_arguments", None)
        if prepare is not None:
            prepared = prepare(json.dumps(parameters), self._tool.name)
            if prepared is not None and not prepared.unchanged:
                return True
        decide: Any = self._tool.needs_approval
        needed = decide(context, parameters, call_id)
        return bool(await needed if isawaitable(needed) else needed)


class _RecordedTool:
    """The calls of a tool, recorded with what the model is told of a failure or a time-out."""

    def __init__(self, tool: FunctionTool) -> None:
        self._tool = copy(tool)
        failed = resolve_function_tool_failure_error_function(tool)
        if failed is not None and failed is not default_tool_error_function:
            set_function_tool_failure_error_function(self._tool, _passing_on(failed))

    async def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        call = partial(
            invoke_function_tool, function_tool=self._tool, context=context, arguments=arguments
        )
        turns = Turns.current()
        if turns is None:
            return await call()
        returns = _result_type(self._tool)
        shown = _shown(arguments)
        return await turns.tool(self._tool.name, context.tool_call_id, call, returns, shown=shown)


class _UsedAgent(_RecordedTool):
    """An agent that is used as a tool: its own calls are recorded, and those it makes may ask."""

    def __init__(self, tool: FunctionTool, agent: str) -> None:
        super().__init__(tool)
        self._agent = agent

    async def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        turns = Turns.current()
        if turns is None:
            return await self._tool.on_invoke_tool(context, arguments)
        with turns.of_tool(self._agent, context.tool_call_id).entered():
            return await self._tool.on_invoke_tool(context, arguments)


def _shown(arguments: str) -> dict[str, Any]:
    """The arguments that a model has written, by their names if that is what they are."""
    try:
        given = json.loads(arguments)
    except ValueError:
        given = arguments
    return given if isinstance(given, dict) else {"arguments": given}


def _result_type(tool: FunctionTool) -> Any:
    """What pydantic keeps of a tool's result: what its function is annotated with, or JSON."""
    fn = getattr(tool, "__wrapped__", None)
    hint = Any if fn is None else get_type_hints(fn).get("return", Any)
    return Any if hint is Any else hint | str  # the text of a failure


def _passing_on(failed: ToolErrorFunction) -> ToolErrorFunction:
    """What the model is told of a failure, unless it is an error of this package."""

    def told(context: RunContextWrapper[Any], error: Exception) -> Any:
        if isinstance(error, ExecutionError):
            raise PassedOn(error) from error
        return failed(context, error)

    return told


def passing_on(formatter: ToolErrorFormatter | None) -> ToolErrorFormatter:
    """The same for the tools that leave it to the SDK what the model is told."""

    async def told(failure: ToolErrorFormatterArgs[Any]) -> str | None:
        if isinstance(failure.error, ExecutionError):
            raise PassedOn(failure.error) from failure.error
        text = None if formatter is None else formatter(failure)
        return await text if isawaitable(text) else text

    return told
