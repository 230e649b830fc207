"""The calls of models and tools of a run, recorded where ADK lets its plugins answer them."""

from collections.abc import Callable, Sequence
from inspect import isawaitable, signature
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.flows.llm_flows.functions import generate_client_function_call_id
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.plugins.plugin_manager import PluginManager
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.adk.workflow import BaseNode
from google.genai.types import GenerateContentConfig

from prefect_executions.adk.confirmations import confirmed
from prefect_executions.adk.run_calls import RunCalls
from prefect_executions.errors import ExecutionError
from prefect_executions.responses import Responses

_RESPONSES = Responses[LlmResponse](LlmResponse, exclude_none=True)


class RecordedCalls(PluginManager):
    """The plugins of a run, and after them what records its calls and answers them.

    It answers in place of ADK: so the agent's own callbacks, which ADK leaves out then, are called
    here. It is no plugin itself, since ADK makes a `RuntimeError` of each error of a plugin.

    Args:
        plugins: The plugins.
        calls: The calls of the run.
        known: What the plugin knows of the run; None for an agent that is used as a tool.
    """

    def __init__(self, plugins: list[BasePlugin], calls: RunCalls, known: Any) -> None:
        super().__init__(plugins)
        self.known = known
        self._calls = calls

    async def run_before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> LlmResponse | None:
        """The response of a callback, of the model, or the recorded one."""
        self._calls.require_going_on()
        both: dict[str, Any] = {"callback_context": callback_context, "llm_request": llm_request}
        agent: Any = callback_context.get_invocation_context().agent
        response = await super().run_before_model_callback(**both)
        response = response or await _first(agent.canonical_before_model_callbacks, **both)
        if response is not None:
            return response
        response = await self._recorded_response(agent, both)
        given: dict[str, Any] = {"callback_context": callback_context, "llm_response": response}
        altered = await super().run_after_model_callback(**given)
        altered = altered or await _first(agent.canonical_after_model_callbacks, **given)
        if altered is None:
            return response
        usage = altered.usage_metadata or response.usage_metadata
        return altered.model_copy(update={"usage_metadata": usage})

    async def _recorded_response(self, agent: Any, both: dict[str, Any]) -> LlmResponse:
        context: CallbackContext = both["callback_context"]
        step = f"{agent.name}: model"
        _require_turn_by_turn(context)

        async def call() -> Any:
            try:
                response = await _respond(agent, both["llm_request"], context)
            except ExecutionError:
                raise
            except Exception as error:
                failed = {**both, "error": error}
                answer = await self.run_on_model_error_callback(**failed)
                if answer is None:
                    answer = await _first(agent.canonical_on_model_error_callbacks, **failed)
                if answer is None:
                    raise
                response = answer
            return _RESPONSES.plain(response, f"the result of {step}")

        key = self._calls.key(f"model {agent.name} {context.branch or ''}")
        return _RESPONSES.load(await self._calls.call(step, key, call, context))

    async def run_before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext
    ) -> dict[str, Any] | None:
        """The result of a callback, of the tool, or the recorded one."""
        self._calls.require_going_on()
        result = await super().run_before_tool_callback(
            tool=tool, tool_args=tool_args, tool_context=tool_context
        )
        if result is not None or type(tool) is BaseTool:  # ADK tells the model that there is none
            return result
        if isinstance(tool, AgentTool) or isinstance(getattr(tool, "node", None), BaseNode):
            self._calls.of_tool(f"{tool_context.function_call_id}").enter()
            return None  # its own calls are recorded
        callbacks = getattr(tool_context.get_invocation_context().agent, _BEFORE_TOOL, [])
        result = await _first(callbacks, tool=tool, args=tool_args, tool_context=tool_context)
        if result is not None:
            return result  # type: ignore[no-any-return]  # a callback of the user's
        result = await confirmed(
            self._calls,
            tool,
            tool_args,
            tool_context,
            lambda: self._recorded_result(tool, tool_args, tool_context),
        )
        if result is None:  # which would mean that nothing has answered
            return {} if tool.is_long_running else {"result": None}
        return result  # type: ignore[no-any-return]  # ADK takes any JSON

    async def _recorded_result(
        self, tool: BaseTool, args: dict[str, Any], context: ToolContext
    ) -> Any:
        async def call() -> Any:
            try:
                return await tool.run_async(args=args, tool_context=context)
            except ExecutionError:
                raise
            except Exception as error:
                answer = await self._answer_to(error, tool, args, context)
                if answer is None:
                    raise
                return answer

        # The call of a tool that is a node of a workflow has another id each time.
        which = context.node_path if context.node is not None else context.function_call_id
        key = self._calls.key(f"tool {which}")
        step = f"{context.agent_name}: tool {tool.name}"
        return await self._calls.call(step, key, call, context, shown=args)

    async def _answer_to(
        self, error: Exception, tool: BaseTool, args: dict[str, Any], context: ToolContext
    ) -> Any:
        """What a callback makes of a tool's error, if one does."""
        answer = await self.run_on_tool_error_callback(
            tool=tool, tool_args=args, tool_context=context, error=error
        )
        if answer is not None:
            return answer
        callbacks = getattr(context.get_invocation_context().agent, _TOOL_ERROR, [])
        return await _first(callbacks, tool=tool, args=args, tool_context=context, error=error)


_BEFORE_TOOL = "canonical_before_tool_callbacks"
_TOOL_ERROR = "canonical_on_tool_error_callbacks"


async def _first(callbacks: Sequence[Callable[..., Any]], **given: Any) -> Any:
    """What the first of an agent's callbacks returns that returns something.

    Args:
        callbacks: The callbacks, which may name what they are given otherwise.
        given: What they are given, in ADK's order.
    """
    for callback in callbacks:
        result = _called(callback, given)
        if isawaitable(result):
            result = await result
        if result is not None:
            return result
    return None


def _called(callback: Callable[..., Any], given: dict[str, Any]) -> Any:
    try:
        signature(callback).bind(**given)
    except (TypeError, ValueError):  # by their places, then
        return callback(*given.values())
    return callback(**given)


async def _respond(agent: Any, request: LlmRequest, context: CallbackContext) -> LlmResponse:
    """Call an agent's model, and give the calls of tools that it asks for the ids they lack."""
    context.get_invocation_context().increment_llm_call_count()
    request.config = request.config or GenerateContentConfig()
    request.config.labels = {"adk_agent_name": agent.name, **(request.config.labels or {})}
    responses: list[LlmResponse] = [
        each async for each in agent.canonical_model.generate_content_async(request)
    ]
    if len(responses) != 1:
        raise ValueError(
            f"the model of {agent.name} gave {len(responses)} responses to a request that is not "
            "streamed, to which ADK expects one."
        )
    for part in (responses[0].content and responses[0].content.parts) or []:
        if part.function_call and not part.function_call.id:
            part.function_call.id = generate_client_function_call_id()
    return responses[0]


def _require_turn_by_turn(context: CallbackContext) -> None:
    config = context.run_config
    if config is not None and config.support_cfc:
        raise TypeError(
            "run_config: `support_cfc` has the model and the tools talk live, which can't be "
            "recorded; leave it out."
        )
