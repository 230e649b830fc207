"""One execution under test, whose attempts run in this process."""

import asyncio
from contextvars import copy_context
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flows import Flow

from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.log.entry import Kind
from prefect_executions.models import Execution, Resumed
from prefect_executions.prefect.states import state_of
from prefect_executions.testkit.processes import Crash, Processes


class Trial:
    """An execution of a flow, whose attempts run in this process.

    Attributes:
        id: The execution's id.
        result: What the flow returned, when it has completed.
        error: What the newest attempt raised, if it failed or crashed.
    """

    def __init__(
        self,
        executions: Executions,
        processes: Processes,
        flow: Flow[..., Any],
        execution: Execution,
    ) -> None:
        self.id = execution.id
        self.result: Any = None
        self.error: BaseException | None = None
        self._executions = executions
        self._processes = processes
        self._flow = flow
        self._ended: Execution | None = None  # as it was when its Prefect server ended

    def ended(self) -> "Trial":
        """This trial, as it is now for ever: it is read no more from its Prefect server."""
        self._ended = self.get()
        return self

    def __repr__(self) -> str:
        """Show its status and result, for a failed assertion."""
        return f"<{self._flow.name} {self.id}: {self.status}, {self.error or self.result!r}>"

    def get(self) -> Execution:
        """Read the execution, with all checkpoints and their states."""
        return self._ended or self._executions.get(self.id, checkpoints=None)

    @property
    def status(self) -> str:
        """Its status."""
        return self.get().status.value

    @property
    def state(self) -> Any:
        """Its newest durable state, as JSON."""
        return self.get().state

    def resume(self, *, checkpoint_id: str | None = None, input: Any = None) -> Resumed:  # noqa: A002
        """Resume it, and run it until it ends, pauses or crashes.

        Args:
            checkpoint_id: Roll back to this checkpoint.
            input: The answer to what the flow asks.

        Returns:
            What `Executions.resume` returns.

        Raises:
            ExecutionConflict, CheckpointNotFound, AnswerError: see `Executions.resume`.
        """
        resumed = self._executions.resume(self.id, checkpoint_id=checkpoint_id, answer=input)
        self.run()
        return resumed

    def fork(self, **changes: Any) -> "Trial":
        """Create another execution from a checkpoint, by default the newest state, and run it.

        Args:
            changes: The checkpoint, and in what the fork differs: `checkpoint_id`, `name`, `state`,
                `patch`, `parameters`, `config`, `effects`, as for `fork` over REST.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
            StateError: the patch does not fit its state.
        """
        made, _ = Creation(self._executions).fork(self.id, **changes)
        fork = Trial(self._executions, self._processes, self._flow, made)
        fork.run()
        return fork

    def run(self) -> None:
        """Run attempts while Prefect has it scheduled, without waiting for their time."""
        while state_of(run := self._processes.read(self.id)).is_scheduled():
            self._attempt(run)
        if state_of(run).is_crashed():
            self._decide(run)

    def _decide(self, run: FlowRun) -> None:
        """Decide what becomes of a crashed run, as a supervisor does, but that it tries no more."""
        entry = self._executions.log(self.id).living_head(journal=False).entry
        if entry.kind is Kind.RESULT:
            self._executions.flow_runs.complete(run)
            self.error, self.result = None, self.get().result
        else:
            why = f"{state_of(run).message} Here nothing tries it again by itself."
            self._executions.flow_runs.fail(run, why)

    def _attempt(self, run: FlowRun) -> None:
        self.result = self.error = None
        run = self._processes.take(run)
        try:
            # In a context of its own: a process that crashes in a transaction is in none when it
            # begins again.
            result: Any = copy_context().run(run_flow, self._flow, flow_run=run)
            self.result = asyncio.run(result) if self._flow.isasync else result
        except Pause:
            pass
        except (Exception, Crash) as error:
            self.error = error
