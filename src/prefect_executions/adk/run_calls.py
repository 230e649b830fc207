"""Which call of a runner's run is which, and how it is recorded.

An attempt makes the run again, from its beginning, and each call gives what is recorded of it. A
call of a tool is known by its run and its function call id; a call of a model by its run, its
agent, and its number. An agent that is used as a tool counts for itself, as the call of that tool.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from google.adk.agents.context import Context
from google.adk.events.event_actions import EventActions

from prefect_executions.errors import ExecutionError, StateError
from prefect_executions.steps.named import arecord

_current: ContextVar["RunCalls | None"] = ContextVar("adk_run_calls", default=None)

# How many calls this code is in, one inside the other.
_depth: ContextVar[int] = ContextVar("adk_depth", default=0)


class Traffic:
    """Calls, and questions that are asked only while no call is being made.

    A question may end the process, and so would cut off calls that are made beside it: their
    effects would be done, and not recorded.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._calls = 0
        self._is_asking = False

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Make a call in the body; it waits while something is asked."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_asking)
            self._calls += 1
        token = _depth.set(_depth.get() + 1)
        try:
            yield
        finally:
            _depth.reset(token)
            self._calls -= 1
            await self._notify()

    @asynccontextmanager
    async def question(self) -> AsyncIterator[None]:
        """Ask something in the body, once all calls but those around it have ended.

        No call begins while it is asked, nor after it has ended the run.
        """
        around = _depth.get()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_asking and self._calls <= around)
            self._is_asking = True
        yield
        self._is_asking = False
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class RunCalls:
    """The calls of a run, or of an agent that is used as a tool in it.

    Args:
        id_: Distinguishes the calls from all others in the execution.
        around: Those of the agent that uses this one as a tool.
    """

    def __init__(self, id_: str, around: "RunCalls | None" = None) -> None:
        self._id = id_
        self._calls = Counter[str]()
        self._inside: dict[str, RunCalls] = {}
        self._root: RunCalls = around._root if around else self
        self._refusal: Exception | None = None
        self.traffic: Traffic = around.traffic if around else Traffic()

    @staticmethod
    def current() -> "RunCalls | None":
        """Those of the run that this code is in."""
        return _current.get()

    def enter(self) -> None:
        """Let what this task calls from now on be one of these."""
        _current.set(self)

    def of_tool(self, call_id: str) -> "RunCalls":
        """Those of an agent that is used as a tool."""
        return self._inside.setdefault(call_id, RunCalls(f"{self._id} inside {call_id}", self))

    def key(self, call: str) -> str:
        """What identifies the next call of this name."""
        self._calls[call] += 1
        return f"{self._id} {call} {self._calls[call]}"

    def require_going_on(self) -> None:
        """Check that no call was refused by this package.

        ADK makes a text for the model of an error in an agent that is used as a tool.

        Raises:
            Exception: The error of the call that was, or of the run's beginning.
        """
        if self._root._refusal is not None:
            raise self._root._refusal

    def refuse(self, error: Exception) -> None:
        """Let no call be made from now on."""
        self._root._refusal = error

    async def call(
        self,
        step: str,
        key: str,
        call: Callable[[], Awaitable[Any]],
        context: Context,
        *,
        shown: dict[str, Any] | None = None,
    ) -> Any:
        """Make a call, or return its recorded result; with what it has done to the session.

        Args:
            step: The name of the step.
            key: What identifies the call.
            call: Returns a result as JSON, or a `StateError` in place of one that can't be kept.
            context: What the call is given, by which it writes state and asks ADK for actions.
            shown: What people see as its inputs.

        Raises:
            StateError: The result, or a value of the state, can't be kept.
        """

        async def kept() -> Any:
            with _no_run():  # a run that a tool begins is a run of its own
                result = await call()
            return result if isinstance(result, StateError) else _with_actions(result, context)

        try:
            async with self.traffic.call():
                recorded = await arecord(step, kept, key=key, shown=shown)
        except ExecutionError as error:
            self.refuse(error)
            raise
        _act(context, recorded)
        return recorded["result"]


@contextmanager
def _no_run() -> Iterator[None]:
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def _with_actions(result: Any, context: Context) -> Any:
    """A result with the state and the actions of the context that it was given, as JSON."""
    actions = context.actions
    plain = actions.model_dump(
        mode="json",
        by_alias=True,
        exclude_defaults=True,
        exclude_none=True,
        exclude={"state_delta"},
    )
    return {"result": result, "state": dict(actions.state_delta), "actions": plain}


def _act(context: Context, recorded: Any) -> None:
    """Let a context have the state and the actions that are recorded."""
    for key, value in recorded["state"].items():
        context.state[key] = value
    given = EventActions.model_validate(recorded["actions"])
    for field in given.model_fields_set:
        setattr(context.actions, field, getattr(given, field))
