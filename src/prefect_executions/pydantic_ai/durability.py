"""The capability that makes the runs of an agent part of the execution that they are made in."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from prefect.exceptions import Pause
from pydantic_ai import AgentRunResult, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.capabilities import (
    CapabilityOrdering,
    HandleDeferredToolCalls,
    RequestInput,
    WrapRunHandler,
)
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    conversation_id_from_run_id,
    external_event_scope,
    replay_scope,
)
from pydantic_ai.models import Model
from pydantic_ai.tools import AgentDepsT

from prefect_executions.pydantic_ai.agent_runs import AgentRun, AgentRuns
from prefect_executions.pydantic_ai.operations import StepBackend, Unencodable
from prefect_executions.pydantic_ai.questions import AnswerWaiter, ask_people
from prefect_executions.runtime.decorator import execution
from prefect_executions.runtime.run import Run
from prefect_executions.steps.recorder import recorder_of


class ExecutionsDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent durable: `Agent(…, name="…", capabilities=[ExecutionsDurability()])`.

    Inside a flow with `@execution` each request to a model and each call of a tool is a step: it is
    recorded, and comes back after a crash, a retry or a resume. A tool that requires approval, asks
    a question or is carried out elsewhere suspends the run, until a person answers in the Prefect
    UI or over REST. Outside an execution the agent is as it was.

    A run of an agent is known by its agent, its prompt, the messages that it is given, and its
    place among equal ones; or by its `run_id`, where you give one: `agent.run(…, run_id="…")`.

    Args:
        ask: Whether people are asked about calls that no other capability answers. If not, these
            end the agent's run with `DeferredToolRequests`, as outside an execution.
        models: Further models that a run may be given, by their names.
        event_stream_handler: Gets the events of a run; each event once.
        name: Stands for the agent in the names of its steps; by default the agent's name.

    Raises:
        UserError: The agent has no name, or a toolset of it has no id.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="prefect-executions",
        durable_unit_noun="step",
        durable_container_noun="execution",
        codec=JSON_CODEC,
        serialization_failure=Unencodable,
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        cancellation_error_types=(Pause,),
    )

    def __init__(
        self,
        *,
        ask: bool = True,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._ask = ask
        self._runs = WeakKeyDictionary[Run[Any], AgentRuns]()

    @property
    def in_durable_context(self) -> bool:
        """Whether this code runs in an execution.

        Raises:
            NotAnExecution: It runs in a plain thread beside one, which can't record it.
        """
        return recorder_of(f"{self.name}: run") is not None

    def get_durable_operation_backend(self) -> StepBackend:
        """What records the operations."""
        return StepBackend(self.name, self.default_model_id)

    def get_default_run_id(self) -> str | None:
        """An id that is the same in each attempt."""
        if not self.in_durable_context:
            return None
        return self._runs_here().next_id(execution.current())

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """The id of a conversation that begins with this run."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Make the agent's run part of the execution."""
        if not self.in_durable_context or self.agent is None:
            return await handler()
        runs = self._runs_here()
        run = await runs.begin(ctx)
        with (
            run.entered(),
            replay_scope(),
            external_event_scope(AnswerWaiter(self.name, run)),
            self.agent.parallel_tool_call_execution_mode("parallel_ordered_events"),
        ):
            try:
                return await super().wrap_run(ctx, handler=handler)
            except Exception:
                runs.raised(run)
                raise

    def _runs_here(self) -> AgentRuns:
        return self._runs.setdefault(execution.current(), AgentRuns(self.name))

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[AgentDepsT],  # noqa: ARG002
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults | None:
        """Ask people about the calls that no other capability has answered."""
        run = AgentRun.current()
        if not self._ask or run is None or not self.in_durable_context:
            return None
        return await ask_people(self.name, run, requests)

    def get_ordering(self) -> CapabilityOrdering:
        """Inside of what may answer calls without people."""
        own = super().get_ordering()
        before = (*own.wrapped_by, HandleDeferredToolCalls, RequestInput)
        return replace(own, wrapped_by=before)
