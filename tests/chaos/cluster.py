"""The servers, workers, supervisors and flow processes that chaos acts on."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelling

from chaos.deployments import Deployments
from chaos.tasks import DATA, EDITED, Work
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.local import Process, Stack
from prefect_executions.models import Execution
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.flow_runs import FlowRuns
from world import eventually, is_alive

HERE = Path(__file__).parent
DEPLOYMENTS = ("working/chaos", "working-async/chaos")
# Known before the first attempt has begun, in which `@execution` says it.
CONFIG = ExecutionConfig(max_retries=1000)
AGENT = "working-agent/chaos"  # of Pydantic AI; its processes take longer to start
ENV = {
    "PYTHONPATH": f"{HERE.parent}",
    "EXECUTIONS_CHAOS_PYTHON": sys.executable,
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_INTEGRATIONS_EXECUTIONS_HEARTBEAT_SECONDS": "1",
    "PREFECT_INTEGRATIONS_EXECUTIONS_SILENCE_SECONDS": "10",
    "PREFECT_INTEGRATIONS_EXECUTIONS_PENDING_SECONDS": "30",
}


@dataclass(frozen=True)
class FlowProcess:
    """A process that runs an execution, or is about to.

    Args:
        pid: Its process id.
        parent: The process id of its parent.
        execution: The id of the execution.
    """

    pid: int
    parent: int
    execution: str

    def send(self, what: signal.Signals) -> bool:
        """Send a signal, and return whether the process was still there."""
        try:
            os.kill(self.pid, what)
        except ProcessLookupError:
            return False
        return True


class Cluster:
    """A stack with several workers and supervisors, as a context manager.

    Args:
        data: The directory for all files.
        more_workers: The pools of further process workers.
        supervisors: How many supervisors there are, each in its own process.
        limit: The concurrency limit of each deployment.
        deployments: What executions are made of.
    """

    second_pool = "executions"  # the pool of every other execution

    def __init__(
        self,
        data: Path,
        *,
        more_workers: tuple[str, ...] = ("executions",),
        supervisors: int = 2,
        limit: int | None = None,
        deployments: tuple[str, ...] = DEPLOYMENTS,
    ) -> None:
        self.data = data.resolve()
        self._limit = limit
        self._names = deployments
        self.stack = Stack(self.data, env={DATA: str(self.data), **ENV})
        self._more_workers = more_workers
        self._pools: dict[Process, str] = {}
        self.supervisors = [
            Process(
                "a supervisor",
                [
                    sys.executable,
                    "-c",
                    "import prefect_executions.supervisor as s; s.supervise()",
                ],
                log=self.data / f"supervisor-{number}.log",
                env=self.stack.env,
            )
            for number in range(supervisors)
        ]
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            resources.callback(self._end_flows)
            resources.enter_context(self.stack)
            resources.enter_context(self.stack.settings())
            self.prefect: SyncPrefectClient = resources.enter_context(get_client(sync_client=True))
            objects = self.stack.s3.objects(prefix="executions")
            self.executions = Executions(objects, FlowRuns(self.prefect))
            resources.enter_context(self._services())
            self._deploy()
            self.deployments = Deployments(self.prefect, [*self._names], limit=self._limit)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    @contextmanager
    def _services(self) -> Iterator[None]:
        """Start what the stack does not start."""
        with ExitStack() as resources:
            for supervisor in self.supervisors:
                resources.callback(supervisor.kill)
                supervisor.start()
            for pool in self._more_workers:
                self._pools[self.stack.start_worker(pool)] = pool
            yield

    def create(self, name: str, deployment: str, parameters: dict[str, int]) -> str:
        """Create an execution, and return its id."""
        made, _ = Creation(self.executions).create(
            name=name, deployment=deployment, parameters=parameters, config=CONFIG
        )
        return made.id

    def fork(self, execution: str, deployment: str) -> str:
        """Continue an execution in another deployment, once; returns the id of the fork."""
        fork, _ = Creation(self.executions).fork(
            execution, deployment=deployment, key=f"fork {execution}"
        )
        return fork.id

    def fork_at(self, execution: str, checkpoint: str) -> str:
        """Let another execution go on from a checkpoint; returns the id of the fork."""
        fork, _ = Creation(self.executions).fork(execution, checkpoint_id=checkpoint)
        return fork.id

    def edit(self, execution: str) -> str:
        """Correct the state of a paused execution, as a person does; returns the checkpoint.

        Raises:
            ExecutionConflict: Its process is still at work, or another checkpoint was saved.
        """
        now = self.get(execution)
        state = Work.model_validate(now.state)
        state.edits += 1
        return self.save(execution, state, after=now.continues_from)

    def get(self, execution: str) -> Execution:
        """Read an execution without its checkpoints."""
        return self.executions.get(execution, checkpoints=0)

    def save(self, execution: str, state: Work, *, after: str) -> str:
        """Save a checkpoint as a person does, unless there is a newer one; returns its id."""
        dumped = state.model_dump()
        saved = self.executions.checkpoint(execution, state=dumped, label=EDITED, after=after)
        return saved.checkpoint.id

    def is_gone(self, execution: str) -> bool:
        """Whether there is no such execution for its users."""
        try:
            self.executions.get(execution)
        except ExecutionNotFound:
            return True
        return False

    def pause(self, execution: str) -> None:
        """Pause an execution."""
        self.executions.pause(execution)

    def resume(self, execution: str, checkpoint: str | None) -> None:
        """Resume an execution, from a checkpoint."""
        self.executions.resume(execution, checkpoint_id=checkpoint)

    def delete(self, execution: str) -> None:
        """Delete an execution; a supervisor finishes it when it takes longer."""
        self.executions.delete(execution, patience=0)

    def cancel(self, execution: str) -> None:
        """Cancel as the button of the Prefect UI does."""
        with prefect_errors(run_id := flow_run_id(execution)):
            self.prefect.set_flow_run_state(run_id, Cancelling(), force=True)

    @property
    def workers(self) -> list[Process]:
        """The process workers."""
        return self.stack.workers

    def workers_beside(self, worker: Process) -> list[Process]:
        """The workers of a worker's pool, including itself."""
        pools = {it: self._pools.get(it, self.stack.pool) for it in self.workers}
        return [it for it, pool in pools.items() if pool == pools[worker]]

    def flow_processes(self) -> list[FlowProcess]:
        """The living processes of executions, including those that are only starting."""
        return sorted(self._flow_processes(), key=lambda process: process.execution)

    def revive(self) -> list[Process]:
        """Start the workers and supervisors that have ended, and return them."""
        ended = [p for p in (*self.workers, *self.supervisors) if not is_alive(p.pid)]
        for process in ended:
            process.kill()  # it is dead; this reaps it
            process.start()
        return ended

    def restart_s3(self) -> None:
        """Kill the S3 server, and start it again."""
        self.stack.s3.kill()
        self.stack.s3.start()

    def restart_prefect(self) -> None:
        """Kill Prefect's server, and start it again."""
        self.stack.server.kill()
        self.stack.server.start()
        self.stack.server.wait_until(self._prefect_answers)

    def _deploy(self) -> None:
        """Deploy the flows from a copy, as deploying writes files next to them."""
        source = self.data / "flows"
        source.mkdir(parents=True, exist_ok=True)
        for name in ("tasks.py", "agents.py", "prefect.yaml"):
            shutil.copy(HERE / name, source)
        yaml = (source / "prefect.yaml").read_text()
        (source / "prefect.yaml").write_text(yaml.replace("SECOND_POOL", self.second_pool))
        self.stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=source)

    def _prefect_answers(self) -> bool:
        try:
            return httpx.get(f"{self.stack.api_url}/health").is_success
        except httpx.TransportError:
            return False

    def _flow_processes(self) -> Iterator[FlowProcess]:
        ours = f"{DATA}={self.data}".encode()
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):  # not ours, or it has just ended
                env = (directory / "environ").read_bytes().split(b"\0")
                runs = [e[21:] for e in env if e.startswith(b"PREFECT__FLOW_RUN_ID=")]
                if runs and ours in env:
                    parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
                    run_id = UUID(runs[0].decode())
                    yield FlowProcess(int(directory.name), int(parent), execution_id(run_id))

    def _end_flows(self) -> None:
        """End the flow processes that are left after the workers have ended."""
        for process in self.flow_processes():
            process.send(signal.SIGKILL)
        eventually(lambda: not self.flow_processes(), "the flow processes end")
