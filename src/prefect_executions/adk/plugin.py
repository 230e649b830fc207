"""The plugin that makes the runs of a runner a part of the execution around them."""

from typing import Any, NamedTuple
from uuid import uuid4

from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.run_config import RunConfig
from google.adk.plugins.base_plugin import BasePlugin

from prefect_executions.adk.recording import RecordedCalls
from prefect_executions.adk.run_calls import RunCalls
from prefect_executions.adk.sessions import StateSessions
from prefect_executions.beginnings import Beginnings
from prefect_executions.steps.recorder import recorder_of

# Of the `custom_metadata` of a run's `RunConfig`: what identifies it.
_KEY = "execution_key"


class SessionBegun(NamedTuple):
    """What is recorded when a run begins.

    Args:
        id: Distinguishes its calls from those of all other runs.
        place: Where its session was.
    """

    id: str
    place: dict[str, Any]


_beginnings = Beginnings(SessionBegun)


class _BegunRun(NamedTuple):
    """A run that has begun, and what identifies it."""

    begun: SessionBegun
    name: str
    inputs: list[Any]
    key: str | None


class ExecutionsPlugin(BasePlugin):
    """Records each call of a model and of a tool as a step: `App(…, plugins=[ExecutionsPlugin()])`.

    So it is in all sub-agents, in those that a run is transferred to, and in those that are used as
    tools. What is recorded comes back after a crash, a retry or a resume. A tool that has to be
    confirmed suspends the execution, until a person answers in the Prefect UI, in the inspector or
    over REST. Outside an execution the plugin does nothing.

    The runner's session service has to be a `StateSessions`. A run is known by its session, the
    message, and its place among equal ones; or by a key:
    `RunConfig(custom_metadata={"execution_key": "…"})`.

    Args:
        name: Its name among the plugins.

    Raises:
        AmbiguousCall: A run could be mistaken for an equal one. Give it a key.
        StateError: A response, a tool's result or a value of the state can't be kept; the error
            names it.
        TypeError: The session service is another one. A live run is refused by a `RuntimeError`,
            which ADK makes of it.
    """

    def __init__(self, name: str = "executions") -> None:
        super().__init__(name=name)

    async def before_run_callback(self, *, invocation_context: InvocationContext) -> None:
        """Record what is called from now on."""
        plugins = invocation_context.plugin_manager.plugins
        name = f"{_name(invocation_context)}: run"
        if recorder_of(name) is None:
            return
        if invocation_context.live_request_queue is not None:
            raise TypeError("run_live: what is called live can't be recorded; use `run_async`.")
        calls, known = RunCalls.current(), None  # those of the agent that uses this one as a tool
        if calls is None:
            try:
                known = await _begin(name, invocation_context)
                calls = RunCalls(known.begun.id)
            except Exception as error:  # of which ADK would make a `RuntimeError` here
                calls = RunCalls(name)
                calls.refuse(error)
        invocation_context.plugin_manager = RecordedCalls(plugins, calls, known)

    async def after_run_callback(self, *, invocation_context: InvocationContext) -> None:
        """Let the session have what the run has added."""
        if _known(invocation_context) is not None:
            _sessions(invocation_context).end(invocation_context.session, failed=False)

    async def on_run_error_callback(
        self,
        *,
        invocation_context: InvocationContext,
        error: Exception,  # noqa: ARG002
    ) -> None:
        """Take the run out of its session: if it is made again, it goes on with its records."""
        known = _known(invocation_context)
        if known is not None:
            _sessions(invocation_context).end(invocation_context.session, failed=True)
            _beginnings.raised(known.begun, known.name, inputs=known.inputs, key=known.key)


async def _begin(name: str, context: InvocationContext) -> _BegunRun:
    service, session, message = _sessions(context), context.session, context.user_content
    config = context.run_config or RunConfig()
    last = session.events[-1] if session.events else None
    own = int(
        last is not None and (last.author, last.invocation_id) == ("user", context.invocation_id)
    )
    place = service.place(session, own=own)
    said = message and message.model_dump(mode="json", exclude_none=True)
    inputs = [session.app_name, session.user_id, session.id, said]
    key = (config.custom_metadata or {}).get(_KEY)

    async def begin() -> SessionBegun:
        return SessionBegun(uuid4().hex, place)

    begun = await _beginnings.begin(name, begin, inputs=inputs, key=key)
    service.begin(session, begun.place, own=own, config=config.get_session_config)
    return _BegunRun(begun, name, inputs, key)


def _name(context: InvocationContext) -> str:
    """The name of the root agent: which agent of its family a run begins with is up to ADK."""
    agent = getattr(context.agent, "root_agent", context.agent)
    return agent.name if agent is not None else context.app_name


def _known(context: InvocationContext) -> _BegunRun | None:
    manager = context.plugin_manager
    return manager.known if isinstance(manager, RecordedCalls) else None


def _sessions(context: InvocationContext) -> StateSessions:
    service = context.session_service
    if not isinstance(service, StateSessions):
        raise TypeError(
            f"session_service: is a {type(service).__name__}, to which a run that is made again "
            "would add its events again; keep the sessions in the state, by `StateSessions`."
        )
    return service
