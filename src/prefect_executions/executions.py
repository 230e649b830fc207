"""Create, get, checkpoint, pause, resume, delete: what acts on executions from outside a run."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for

from prefect_executions import codec
from prefect_executions.entry import Entry
from prefect_executions.errors import (
    AnswerError,
    ExecutionError,
    ExecutionNotFound,
    Superseded,
)
from prefect_executions.flow_runs import (
    DELETING,
    FlowRuns,
    active_time,
    is_created,
    require_restartable,
    state_of,
    status_of,
)
from prefect_executions.journal import Record
from prefect_executions.log import ExecutionLog, History
from prefect_executions.models import (
    Checkpoint,
    Execution,
    ExecutionConfig,
    OnTimeout,
    PrefectRun,
    Resumed,
    Status,
    StepBehind,
    checkpoint_id,
    checkpoint_seq,
    execution_id,
    flow_run_id,
    require_open,
    require_pausable,
    require_resumable,
)
from prefect_executions.objects import Objects
from prefect_executions.pauses import pause_key
from prefect_executions.resume_form import resume_form, warning

logger = logging.getLogger(__name__)

EMPTY: Any = object()  # no state was given, which is `{}`; None is a state
DELETE_PATIENCE = 10.0  # seconds that a delete waits for the process to end


@dataclass(frozen=True)
class Executions:
    """The executions in a store, on a Prefect server.

    Args:
        objects: The store.
        flow_runs: Their flow runs.
        clock: The present time.
        wait: Sleeps for so many seconds.

    Every method raises `ExecutionNotFound` for an id that is none or has been deleted,
    `StoreUnavailable` when the store does not answer, and `PrefectUnavailable` when Prefect does
    not. Nothing is kept here: any number of instances may act on the same executions.
    """

    objects: Objects
    flow_runs: FlowRuns
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    wait: Callable[[float], None] = sleep

    def create(
        self,
        *,
        name: str,
        deployment: str,
        parameters: dict[str, Any] | None = None,
        description: str | None = None,
        agent_id: str | None = None,
        task_type: str | None = None,
        state: Any = EMPTY,
        config: ExecutionConfig | None = None,
    ) -> Execution:
        """Create an execution, and let a worker start it.

        The log is written before a worker can take the run, so no process begins without one.

        Raises:
            StateError: part of the state or the parameters is no JSON; nothing was created.
            DeploymentNotFound: there is no such deployment; nothing was created.
            ParametersError: its flow does not take these parameters; nothing was created.
        """
        data = codec.dump({} if state is EMPTY else state)
        meta = {
            "name": name,
            "description": description,
            "agent_id": agent_id,
            "task_type": task_type,
            "config": (config or ExecutionConfig()).model_dump(mode="json"),
        }
        codec.dump(meta, at="execution")
        codec.dump(parameters or {}, at="parameters")
        tags = [f"agent:{agent_id}"] if agent_id else []
        tags += [f"task-type:{task_type}"] if task_type else []
        run = self.flow_runs.create(deployment, name=name, parameters=parameters or {}, tags=tags)
        log = self.log(execution_id(run.id))
        try:
            head = log.create(meta, data)
            run = self.flow_runs.schedule(run)
        except Exception:
            self._undo(run)
            raise
        history = History(log, head, {0: head.entry}, [])
        return self._execution(run, history, states=False)

    def finish_creation(self, run: FlowRun) -> None:
        """Let a worker start a run whose creation was left half-done, or remove it."""
        try:
            self.log(execution_id(run.id)).living_head()
        except ExecutionNotFound:
            self._undo(run)
        else:
            self.flow_runs.schedule(run)

    def _undo(self, run: FlowRun) -> None:
        """Remove a half-made execution, as far as that goes; why it failed is another's word."""
        try:
            self.flow_runs.mark_deleting(run)
            self.delete(execution_id(run.id), patience=0)
        except ExecutionError as error:
            logger.warning("%s is left half-made: %s", execution_id(run.id), error)

    def get(
        self, execution_id: str, *, checkpoints: int | None = 100, states: bool = True
    ) -> Execution:
        """Read an execution.

        Args:
            execution_id: Its id.
            checkpoints: How many of the newest to include; None for all.
            states: Whether the checkpoints come with their states.
        """
        run = self._run(execution_id)
        history = self.log(execution_id).read(checkpoints=checkpoints)
        return self._execution(run, history, states=states)

    def checkpoint(
        self, execution_id: str, *, state: Any, label: str | None = None
    ) -> tuple[Checkpoint, Status]:
        """Save a checkpoint by hand; the execution's status tells whether it should go on.

        A process that runs the execution keeps its own state: its next checkpoint comes after this
        one.

        Raises:
            StateError: part of the state can't be kept; nothing was saved.
            ExecutionConflict: the execution has ended; nothing was saved.
        """
        data = codec.dump(state)
        run = self._run(execution_id)
        log = self.log(execution_id)
        head = log.living_head()
        status = status_of(run)
        require_open(execution_id, status)
        while True:
            try:
                entry = log.checkpoint(head, data, label=label).entry
            except Superseded:  # an attempt began just now: this checkpoint comes after it
                head = log.living_head()
            else:
                return _checkpoint(entry, state), status

    def pause(
        self,
        execution_id: str,
        *,
        reason: str | None = None,
        until: datetime | None = None,
        on_timeout: OnTimeout = OnTimeout.RESUME,
    ) -> tuple[Execution, bool]:
        """Pause an execution: its process ends at its next checkpoint.

        Args:
            execution_id: Its id.
            reason: What people see.
            until: When the pause ends by itself, within a minute; by default it does not.
            on_timeout: What becomes of the execution then.

        Returns:
            The execution, and whether that changed anything: not if it was paused already.

        Raises:
            ExecutionConflict: it has ended.
        """
        run = self._run(execution_id)
        history = self.log(execution_id).read(checkpoints=100)
        require_pausable(execution_id, status_of(run))
        changed = status_of(run) is not Status.PAUSED
        run = self.flow_runs.suspend(
            run.id, key=pause_key(until, on_timeout), reason=reason, form=resume_form(history)
        )
        return self._execution(run, history, states=False), changed

    def resume(
        self, execution_id: str, *, checkpoint_id: str | None = None, answer: Any = None
    ) -> Resumed:
        """Resume a paused, failed or terminated execution.

        Args:
            execution_id: Its id.
            checkpoint_id: Roll back to this checkpoint; `ckpt_000000` starts over. By default it
                continues from its newest state.
            answer: To what the flow asks, as JSON; None: nothing is answered.

        Returns:
            The execution, and which steps lie behind the checkpoint: their effects have happened.

        Raises:
            CheckpointNotFound: it has no such checkpoint; nothing was changed.
            ExecutionConflict: it runs, or has completed.
            AnswerError: the answer does not fit what is asked; nothing was changed.
        """
        if not (answer is None or isinstance(answer, dict)):
            raise AnswerError(f"is a {type(answer).__name__}; give an object.")
        run = self._run(execution_id)
        log = self.log(execution_id)
        log.living_head()
        run = self.flow_runs.end_cancelling(run)
        require_resumable(execution_id, status_of(run))
        require_restartable(run)
        lost: list[Record] = []
        if checkpoint_id is not None:
            if answer is not None:
                raise AnswerError("who rolls back is asked anew; give it without checkpoint_id.")
            log.rollback(checkpoint_seq(execution_id, checkpoint_id), tell=lost.extend)
            if lost:
                logger.warning("%s goes back. %s", execution_id, warning(checkpoint_id, lost))
        run = self.flow_runs.resume(run.id, answer=answer, asked_anew=checkpoint_id is not None)
        execution = self._execution(run, log.read(checkpoints=100), states=False)
        steps = [
            StepBehind(step=record.step, recorded_at=record.at, undo=record.undo) for record in lost
        ]
        return Resumed(**dict(execution), steps_behind=steps)

    def delete(self, execution_id: str, *, patience: float = DELETE_PATIENCE) -> bool:
        """Delete an execution; one that runs is terminated first.

        What has begun is finished by a repeat, or by the supervisor: the flow run is marked first,
        and removed last.

        Args:
            execution_id: Its id.
            patience: How long to wait for its process to end, in seconds.

        Returns:
            Whether all of it is gone. If not, its process needs longer to end.
        """
        log = self.log(execution_id)
        run = self.flow_runs.find(flow_run_id(execution_id))
        if (run is None or DELETING not in run.tags) and not log.exists():
            raise ExecutionNotFound(execution_id)
        if run is not None:
            self.flow_runs.mark_deleting(run)
        with suppress(ExecutionNotFound):  # the log is gone already
            log.delete()
        with suppress(ExecutionNotFound):  # the run is, deleted here or in the Prefect UI
            if not self._end(flow_run_id(execution_id), patience):
                return False
        log.purge()
        with suppress(ExecutionNotFound):
            self.flow_runs.delete(flow_run_id(execution_id))
        return True

    def _end(self, run_id: UUID, patience: float) -> bool:
        """Cancel a run, and wait for its process to end; whether it has."""
        deadline = monotonic() + patience
        run = self.flow_runs.cancel(run_id)
        while not state_of(self.flow_runs.end_cancelling(run)).is_final():
            if monotonic() > deadline:
                return False
            self.wait(0.2)
            run = self.flow_runs.read(run_id)
        return True

    def log(self, execution_id: str) -> ExecutionLog:
        """The log of an execution, which may not exist."""
        return ExecutionLog(self.objects, execution_id, clock=self.clock)

    def _run(self, execution_id: str) -> FlowRun:
        run = self.flow_runs.read(flow_run_id(execution_id))
        if not is_created(run):
            raise ExecutionNotFound(execution_id)
        return run

    def _execution(self, run: FlowRun, history: History, *, states: bool) -> Execution:
        head = history.head
        meta = history.created.meta or {}
        status = status_of(run)
        active = active_time(run, self.clock()).total_seconds()
        return Execution(
            id=execution_id(run.id),
            name=meta["name"],
            description=meta["description"],
            agent_id=meta["agent_id"],
            task_type=meta["task_type"],
            status=status,
            state=codec.load(head.state),
            checkpoints=[
                _checkpoint(entry, codec.load(history.state(entry.seq)) if states else None)
                for entry in history.checkpoints()
            ],
            config=ExecutionConfig.model_validate(meta["config"]),
            elapsed_seconds=round(max(active - head.entry.dead_seconds, 0.0), 3),
            started_at=run.start_time,
            completed_at=run.end_time if status.ended else None,
            updated_at=max(state_of(run).timestamp, head.entry.at),
            prefect=PrefectRun(
                flow_run_id=run.id,
                state_name=state_of(run).name or state_of(run).type.value,
                deployment=run.deployment_id,
                attempt=head.entry.attempt,
                url=url_for(run),
            ),
        )


def _checkpoint(entry: Entry, state: Any) -> Checkpoint:
    return Checkpoint(
        id=checkpoint_id(entry.seq),
        label=entry.label,
        state=state,
        timestamp=entry.at,
        attempt=entry.attempt,
        size=entry.size,
    )
