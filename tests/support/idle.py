"""Executions whose flow runs no worker takes, in memory, with a clock that tests move."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect import task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed, Running

from prefect_executions.config import ExecutionConfig
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.events import Heartbeats, beat_of_supervisor
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.supervisor.crashes import SilentRuns
from prefect_executions.supervisor.duty import DutyContext
from prefect_executions.supervisor.heartbeat import OwnHeartbeat
from prefect_executions.supervisor.supervisor import Supervisor
from world import eventually

SILENCE = timedelta(seconds=10)
SETTINGS = ExecutionsSettings(
    heartbeat_seconds=1,
    silence_seconds=SILENCE.total_seconds(),
    pending_seconds=60,
    retention_seconds=600,  # a look on a busy machine removes all
)


@task
def _left() -> None:
    """A task whose runs have no process."""


class IdleWorld:
    """Executions in a store of their own, on a deployment without a worker.

    Attributes:
        later: How far the clock is ahead.
        retention: How much is kept of an execution whose config does not set it.
    """

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.store = MemoryObjects()
        self.later = timedelta(0)
        self.retention = ExecutionConfig()
        flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(self.store, flow_runs, clock=self.clock)
        self.creations = Creation(self.executions)
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = str(prefect.create_deployment(flow_id, "idle", tags=["execution"]))

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.later

    def supervisor(self) -> Supervisor:
        return Supervisor(
            self.executions, self.prefect, SETTINGS, retention=self.retention, clock=self.clock
        )

    def heard_supervisor(self) -> Supervisor:
        """A supervisor whose heartbeats Prefect has kept for long enough to judge silence."""
        supervisor = self.supervisor()
        id_ = supervisor.heartbeat.id
        beat_of_supervisor(id_)
        eventually(
            lambda: id_ in Heartbeats.since(self.prefect, datetime.now(UTC) - SILENCE).supervisors,
            "its heartbeat is kept",
        )
        supervisor.heartbeat.kept_since = datetime.now(UTC) - 10 * SILENCE
        return supervisor

    def context(self) -> DutyContext:
        return DutyContext(self.executions, self.prefect, SETTINGS, self.clock)

    def silent_runs(self) -> SilentRuns:
        return SilentRuns(self.context(), OwnHeartbeat(None, SILENCE))

    def create(self, **config: Any) -> FlowRun:
        execution, _ = self.creations.create(
            name="task", deployment=self.deployment, config=ExecutionConfig(**config)
        )
        return self.prefect.read_flow_run(execution.prefect.flow_run_id)

    def create_saved(self, saved: int = 30, *states: State[Any], **config: Any) -> FlowRun:
        """A run that has saved checkpoints, every tenth with a label, and then got states."""
        run = self.create(**config)
        for n in range(saved):
            label = None if n % 10 else "tenth"
            self.executions.checkpoint(execution_id(run.id), state={"n": n}, label=label)
        self.set(run, Running(), *states)
        return self.prefect.read_flow_run(run.id)

    def create_crashed(self, **config: Any) -> FlowRun:
        """A run whose first attempt has crashed, long enough ago."""
        run = self.create(**config)
        self.set(run, Running())
        self.log(run).attempt()
        self.set(run, Crashed(message="Its process was killed"))
        self.later = timedelta(seconds=20)
        return run

    def set(self, run: FlowRun, *states: State[Any]) -> None:
        for state in states:
            self.prefect.set_flow_run_state(run.id, state, force=True)

    def leave_task_run(self, run: FlowRun) -> UUID:
        """A task run of a run, which its process was carrying out."""
        left = self.prefect.create_task_run(_left, run.id, uuid4().hex, state=Running())
        return left.id

    def name_of_task_run(self, id_: UUID) -> str | None:
        state = self.prefect.read_task_run(id_).state
        assert state is not None
        return state.name

    def name_of(self, run: FlowRun) -> str | None:
        state = self.prefect.read_flow_run(run.id).state
        assert state is not None
        return state.name

    def kinds(self, run: FlowRun) -> list[Kind]:
        history = self.log(run).read(checkpoints=None)
        return [history.entries[seq].kind for seq in sorted(history.entries)]

    def log(self, run: FlowRun) -> ExecutionLog:
        return self.executions.log(execution_id(run.id))

    def checkpoints(self, run: FlowRun) -> list[int]:
        """The states of the checkpoints of `create_saved` that are left, newest first."""
        execution = self.executions.get(execution_id(run.id), checkpoints=None)
        return [checkpoint.state["n"] for checkpoint in execution.checkpoints]
