"""One run of an agent inside an execution: which it is, and which of its calls is which.

An attempt runs the agent again, from its beginning, and each call gives what is recorded of it. A
run is known like a call of a step, by its inputs and its place among equal ones, or by the `run_id`
that it is given. A call in it is known by its name, the id of the tool call, and a number.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, uuid4, uuid5

import orjson
from pydantic_ai import ModelMessagesTypeAdapter, ModelRequest, RunContext, UserPromptPart
from pydantic_core import to_jsonable_python

from prefect_executions.runtime.run import Run
from prefect_executions.serialization import digest
from prefect_executions.steps.named import arecord

# What a run that is made again may have otherwise in its messages.
_OTHER_EACH_TIME = {"timestamp", "run_id", "conversation_id"}

_current: ContextVar["AgentRun | None"] = ContextVar("agent_run", default=None)


class RunBegun(NamedTuple):
    """What is recorded when a run begins.

    Args:
        id: Distinguishes its calls from those of all other runs.
        run_id: Its `run_id` when it began first.
    """

    id: str
    run_id: str


class AgentRun:
    """A run of an agent inside an execution.

    Args:
        begun: What is recorded of its beginning.
        inputs: A digest of what it was given; None for a run with a `run_id` of its own.

    Attributes:
        run_id: Its `run_id` when it began first.
    """

    def __init__(self, begun: RunBegun, inputs: str | None) -> None:
        self.run_id = begun.run_id
        self.begun = begun
        self.inputs = inputs
        self._calls = Counter[str]()

    def key(self, name: str, tool_call_id: str | None = None) -> str:
        """What identifies the next call of this name, and of this tool call."""
        call = f"{self.begun.id} {name} {tool_call_id or ''}"
        self._calls[call] += 1
        return f"{call} {self._calls[call]}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calls that the body makes be this run's."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @staticmethod
    def current() -> "AgentRun | None":
        """The run that this code is in."""
        return _current.get()


class AgentRuns:
    """The runs of an agent in one attempt of an execution.

    Args:
        agent: The agent's name.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._counts = Counter[str]()
        self._made: set[str] = set()
        self._raised: dict[str, list[RunBegun]] = {}  # by their inputs

    def next_id(self, run: Run[Any]) -> str:
        """A `run_id` for the next run, the same in each attempt.

        It is made of the state that the run begins with, since an attempt that continues from a
        checkpoint may skip the runs before it.

        Args:
            run: The execution.
        """
        state = digest(orjson.dumps(to_jsonable_python(run.state), option=orjson.OPT_SORT_KEYS))
        self._counts[state] += 1
        seed = f"{run.id} {self._agent} {state} {self._counts[state]}"
        made = str(uuid5(NAMESPACE_OID, seed))
        self._made.add(made)
        return made

    async def begin(self, ctx: RunContext[Any]) -> AgentRun:
        """Begin a run, or continue it.

        An equal run that comes after one that has raised is that one, tried again: what is recorded
        of it is not done once more.

        Args:
            ctx: The context that it begins with.

        Raises:
            AmbiguousCall: It could be mistaken for an equal one. Give it a `run_id`.
        """
        is_named = ctx.run_id not in self._made
        key = f"agent run {self._agent} {ctx.run_id}" if is_named else None
        inputs = None if is_named else _messages(ctx)
        if inputs is not None and self._raised.get(inputs):
            return AgentRun(self._raised[inputs].pop(0), inputs)

        async def begin() -> RunBegun:
            return RunBegun(uuid4().hex, ctx.run_id or "")

        name = f"{self._agent}: run"
        begun = await arecord(name, begin, key=key, inputs=inputs, returns=RunBegun)
        return AgentRun(begun, inputs)

    def raised(self, run: AgentRun) -> None:
        """Note that a run has raised: it may be tried again."""
        if run.inputs is not None:
            self._raised.setdefault(run.inputs, []).append(run.begun)


def _messages(ctx: RunContext[Any]) -> str:
    """A digest of what a run is given: the messages before it, and its prompt."""
    messages = list(ctx.messages)
    if ctx.prompt is not None:
        messages.append(ModelRequest(parts=[UserPromptPart(ctx.prompt)]))
    plain = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    return digest(orjson.dumps(_steady(plain), option=orjson.OPT_SORT_KEYS))


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if k not in _OTHER_EACH_TIME}
    return [_steady(item) for item in value] if isinstance(value, list) else value
