"""A run of an agent as a part of an execution."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import isawaitable
from typing import Any, NamedTuple, TypeVar, Unpack, cast
from uuid import uuid4

from agents import Agent, Model, RunConfig, Runner, RunState, TResponseInputItem
from agents.items import ToolApprovalItem
from agents.result import RunResult, RunResultStreaming
from agents.run_config import RunOptions
from agents.stream_events import StreamEvent

from prefect_executions.approvals import MAY_CALL, ToolApproval, prompt_about
from prefect_executions.beginnings import Beginnings
from prefect_executions.openai_agents.conversation import Conversation
from prefect_executions.openai_agents.models import RecordedProvider, recorded_model
from prefect_executions.openai_agents.tools import passing_on, record_agents
from prefect_executions.openai_agents.turns import PassedOn, Turns
from prefect_executions.runtime.decorator import execution
from prefect_executions.steps.recorder import recorder_of

Result = TypeVar("Result", RunResult, RunResultStreaming)
Input = str | list[TResponseInputItem]
Event = Callable[[StreamEvent], Awaitable[None] | None]

# What a run that goes on has in its state.
_GIVEN_ONCE = ("context", "previous_response_id", "auto_previous_response_id", "conversation_id")


async def run(
    agent: Agent[Any], prompt: Input, *, key: str | None = None, **options: Unpack[RunOptions[Any]]
) -> RunResult:
    """Run an agent: `agents.Runner.run`, as a part of the execution around it.

    Each call of a model or of a tool is a step, in all agents that this one hands off to or uses
    as tools: it is recorded, and comes back after a crash, a retry or a resume. A tool that needs
    approval suspends the execution, until a person answers in the Prefect UI, in the inspector or
    over REST. Outside an execution it is `Runner.run`, which returns the interruptions.

    Args:
        agent: The agent.
        prompt: What it is given: a text, or items.
        key: Identifies the run, alone, in the execution. By default the agent's name and the prompt
            do, and the run's place among equal ones.
        options: Those of `Runner.run`. A session has to be a `Conversation`.

    Raises:
        AmbiguousCall: The run could be mistaken for an equal one. Give it a `key`.
        StateError: A response or a tool's result can't be kept; the error names it.
        TypeError: A tool's calls can't be recorded, or the session's.
    """

    async def once(given: Any, options: RunOptions[Any]) -> RunResult:
        return await Runner.run(agent, given, **options)

    return await _run(once, agent, prompt, key, options)


async def run_streamed(
    agent: Agent[Any],
    prompt: Input,
    on_event: Event,
    *,
    key: str | None = None,
    **options: Unpack[RunOptions[Any]],
) -> RunResultStreaming:
    """`run`, with the events of `agents.Runner.run_streamed`, and its result when it has ended.

    A response is recorded when it is complete. From then on it comes back as one event, the
    `response.completed`, without those that led to it.

    Args:
        agent: The agent.
        prompt: What it is given: a text, or items.
        on_event: Is called with each event; it may be async.
        key: As for `run`.
        options: Those of `Runner.run_streamed`.
    """

    async def once(given: Any, options: RunOptions[Any]) -> RunResultStreaming:
        result = Runner.run_streamed(agent, given, **options)
        async for event in result.stream_events():
            if isawaitable(waiting := on_event(event)):
                await waiting
        return result

    return await _run(once, agent, prompt, key, options)


class ConversationBegun(NamedTuple):
    """What is recorded when a run begins.

    Args:
        id: Distinguishes its calls from those of all other runs.
        items: How many items its conversation had.
    """

    id: str
    items: int


_beginnings = Beginnings(ConversationBegun)


async def _run(
    once: Callable[[Any, RunOptions[Any]], Awaitable[Result]],
    agent: Agent[Any],
    prompt: Input,
    key: str | None,
    options: RunOptions[Any],
) -> Result:
    name = f"{agent.name}: run"
    if recorder_of(name) is None:
        return await once(prompt, options)
    if isinstance(prompt, RunState):
        raise TypeError("prompt: is a `RunState`; `run` asks for approvals, and goes on, itself.")
    record_agents(agent)
    session = _conversation(options)

    async def begin() -> ConversationBegun:
        return ConversationBegun(uuid4().hex, len(session.items))

    begun = await _beginnings.begin(name, begin, inputs=[prompt], key=key)
    del session.items[begun.items :]  # what the run has added is added again
    turns = Turns(begun.id, agent.name)
    try:
        with turns.entered():
            return await _until_approved(once, turns, prompt, _recorded(options))
    except Exception:
        _beginnings.raised(begun, name, inputs=[prompt], key=key)
        raise
    except PassedOn as passed:
        raise passed.error from passed.error.__cause__


async def _until_approved(
    once: Callable[[Any, RunOptions[Any]], Awaitable[Result]],
    turns: Turns,
    prompt: Any,
    options: RunOptions[Any],
) -> Result:
    result = await once(prompt, options)
    goes_on = cast("RunOptions[Any]", {k: v for k, v in options.items() if k not in _GIVEN_ONCE})
    while result.interruptions:
        state = result.to_state()
        for item in result.interruptions:
            await _decide(state, turns, item)
        result = await once(state, goes_on)
    return result


async def _decide(state: RunState[Any], turns: Turns, item: ToolApprovalItem) -> None:
    """Ask whether a tool may be called."""
    agent, tool = item.agent.name, item.qualified_name or f"{item.tool_name}"
    key = turns.key(f"approval {agent}", f"{item.call_id}")
    prompt = prompt_about(MAY_CALL.format(agent=agent, tool=tool), _arguments(item))
    answer = await execution.current().aask(ToolApproval, prompt=prompt, key=key)
    if answer.approved:
        state.approve(item)
    else:
        state.reject(item, rejection_message=answer.message or None)


def _arguments(item: ToolApprovalItem) -> Any:
    try:
        return json.loads(item.arguments or "{}")
    except ValueError:  # a model's mistake, which the tool will tell it
        return item.arguments


def _conversation(options: RunOptions[Any]) -> Conversation:
    session = options.get("session")
    if session is not None and not isinstance(session, Conversation):
        raise TypeError(
            f"session: is a {type(session).__name__}, to which a run that is made again would add "
            "its items again; keep them in the state, by a `Conversation`."
        )
    return session or Conversation([])


def _recorded(options: RunOptions[Any]) -> RunOptions[Any]:
    """The options, with the models recorded."""
    config = options.get("run_config") or RunConfig()
    if isinstance(config, dict):
        config = RunConfig(**config)
    model = config.model
    recorded = replace(
        config,
        model=recorded_model(model) if isinstance(model, Model) else model,
        model_provider=RecordedProvider(config.model_provider),
        tool_error_formatter=passing_on(config.tool_error_formatter),
    )
    return cast("RunOptions[Any]", {**options, "run_config": recorded})
