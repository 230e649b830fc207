"""Executions on a real server, worker and S3 server, started over the REST service."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Suspended

from prefect_executions.local import Stack, free_ports
from prefect_executions.log.entry import Entry
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.pauses import read_form
from prefect_executions.prefect.states import state_of
from rest import KEY

HERE = Path(__file__).parents[1] / "e2e"
PATIENCE = 150.0
PAUSE = 0.2  # seconds between two looks: more of them would take the servers' time

Answer = dict[str, Any]


def eventually(look: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for an event in another process: until `look` returns something true."""
    deadline = monotonic() + patience
    while not (seen := look()):
        assert monotonic() < deadline, f"waited {patience:.0f} s in vain for: {what}"
        sleep(PAUSE)
    return seen


def pid_of(run: FlowRun) -> int:
    """The id of the process that a worker has started for a run."""
    assert run.infrastructure_pid is not None
    return int(run.infrastructure_pid.rpartition(":")[2])


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, or after
        return False


class World:
    """The actions of the tests on executions, and what they read of them."""

    def __init__(self, stack: Stack, prefect: SyncPrefectClient, rest: httpx.Client) -> None:
        self.stack = stack
        self.prefect = prefect
        self.rest = rest
        self.data = Path(stack.env["EXECUTIONS_TEST_DATA"])

    def create(
        self,
        flow: str,
        deployment: str = "test",
        *,
        config: dict[str, Any] | None = None,
        **parameters: Any,
    ) -> Answer:
        body = {"name": "test", "deployment": f"{flow}/{deployment}", "parameters": parameters}
        body["config"] = config or {}
        return self.ok(self.rest.post("/v1/execution", json=body), 201)

    def gated(self, to: int) -> Answer:
        """An execution that has saved n = 1, and waits for a gate."""
        execution = self.create("gated", to=to)
        self.open_gates(execution, 1, 1)
        self.until_saved(execution, 1)
        return execution

    def delete(self, execution: Answer) -> None:
        """Delete it, and wait for the end of its process; workers check every three seconds."""
        answer = self.rest.delete(self.path(execution), headers={"Prefer": "wait=50"})
        assert answer.status_code == 204, answer.text

    def get(self, execution: Answer) -> Answer:
        return self.ok(self.rest.get(self.path(execution)), 200)

    def pause(self, execution: Answer) -> Answer:
        return self.ok(self.rest.post(self.path(execution, "/pause")), 202)

    def pause_in_the_ui(self, execution: Answer, seconds: float = 300) -> None:
        """What the Pause button does: Suspended by force, with a time-out of five minutes."""
        self.suspend(self.run(execution).id, seconds)

    def pause_and_leave(self, execution: Answer, n: int, seconds: float = 300) -> None:
        """`pause_in_the_ui`, and let its process take step `n`, save it, and end."""
        pid = self.pid(execution)
        self.pause_in_the_ui(execution, seconds)
        self.open_gates(execution, 1, n)
        self.until_process_ends(pid)

    def suspend(self, run_id: UUID, seconds: float) -> None:
        """Suspend any run as the Pause button does."""
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        state = Suspended(pause_expiration_time=expires)
        self.prefect.set_flow_run_state(run_id, state, force=True)

    def offered(self, execution: Answer) -> list[str]:
        """The checkpoints that the Resume form offers, or none when there is no form yet."""
        run = self.run(execution)
        form = read_form(self.prefect, run.id, state_of(run))
        fields = form.schema.get("properties", {}) if form else {}
        offered: list[str] = fields.get("checkpoint", {}).get("enum", [])
        return offered

    def resume_in_the_ui(self, execution: Answer, checkpoint: str) -> None:
        """Choose a checkpoint in the Resume form, and press Resume."""
        self.prefect.resume_flow_run(self.run(execution).id, run_input={"checkpoint": checkpoint})

    def cancel_in_the_ui(self, execution: Answer) -> None:
        """What the Cancel button does."""
        self.prefect.set_flow_run_state(self.run(execution).id, Cancelling(), force=True)

    def resume(self, execution: Answer, checkpoint_id: str | None = None) -> Answer:
        body = {"checkpoint_id": checkpoint_id}
        return self.ok(self.rest.post(self.path(execution, "/resume"), json=body), 202)

    def until(
        self,
        execution: Answer,
        what: str,
        holds: Callable[[Answer], bool],
        patience: float = PATIENCE,
    ) -> Answer:
        def look() -> Answer | None:
            now = self.get(execution)
            return now if holds(now) else None

        found: Answer = eventually(look, what, patience)
        return found

    def until_ended(self, execution: Answer) -> Answer:
        return self.until(execution, "it ends", lambda e: e["status"] not in ("running", "paused"))

    def until_crashed(self, execution: Answer) -> Answer:
        return self.until(
            execution, "it has crashed", lambda e: e["prefect"]["state_name"] == "Crashed"
        )

    def until_saved(self, execution: Answer, n: int) -> Answer:
        return self.until(execution, f"n = {n} is saved", lambda e: e["state"].get("n", 0) >= n)

    def until_attempt(self, execution: Answer, attempt: int) -> Answer:
        return self.until(
            execution, f"attempt {attempt}", lambda e: e["prefect"]["attempt"] >= attempt
        )

    def open_gates(self, execution: Answer, attempt: int, *numbers: int) -> None:
        for n in numbers:
            (self.data / f"{execution['id']}.{attempt}.{n}.gate").touch()

    def effects(self, execution: Answer) -> list[tuple[int, int, int]]:
        """Attempt, number and process id of every step taken, in order."""
        file = self.data / f"{execution['id']}.trace"
        lines = file.read_text().splitlines() if file.exists() else []
        return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]

    def run(self, execution: Answer) -> FlowRun:
        return self.prefect.read_flow_run(UUID(execution["prefect"]["flow_run_id"]))

    def logged(self, execution: Answer) -> list[str]:
        """The lines of the flow run's log in Prefect, where they arrive after a while."""
        filter_ = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self.run(execution).id]))
        lines: list[str] = []
        while page := self.prefect.read_logs(filter_, limit=200, offset=len(lines)):
            lines += [log.message for log in page]
        return lines

    def pages(self, execution: Answer) -> list[str]:
        """The artifacts of the flow run."""
        run_id = UUID(execution["prefect"]["flow_run_id"])
        filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return [f"{page.data}" for page in self.prefect.read_artifacts(artifact_filter=filter_)]

    def until_told(self, execution: Answer, *words: str) -> str:
        """The one page of a run, once it has these words."""

        def look() -> str | None:
            (page,) = self.pages(execution) or [""]
            return page if all(word in page for word in words) else None

        found: str = eventually(look, f"the page has {words}")
        return found

    def pid(self, execution: Answer) -> int:
        return pid_of(self.run(execution))

    def states(self, execution: Answer) -> list[State[Any]]:
        """The states that the flow run has had, oldest first."""
        states = self.prefect.read_flow_run_states(self.run(execution).id)
        return sorted(states, key=lambda state: state.timestamp)

    def until_effect(self, execution: Answer, n: int) -> None:
        eventually(lambda: len(self.effects(execution)) >= n, f"step {n} is taken")

    def until_published(self, execution: Answer) -> None:
        file = self.data / f"{execution['id']}.published"
        eventually(file.exists, "its state is published")

    def until_process_ends(self, pid: int) -> None:
        eventually(lambda: not is_alive(pid), f"process {pid} ends")

    def log(self, execution: Answer) -> list[Entry]:
        objects = self.stack.s3.objects(prefix="executions")
        history = ExecutionLog(objects, execution["id"]).read(checkpoints=None)
        return [history.entries[seq] for seq in sorted(history.entries)]

    def keys(self, execution: Answer) -> list[str]:
        objects = self.stack.s3.objects(prefix="executions")
        return list(objects.scan(f"{execution['id'][-2:]}/{execution['id']}/"))

    @staticmethod
    def path(execution: Answer, rest: str = "") -> str:
        return f"/v1/execution/{execution['id']}{rest}"

    @staticmethod
    def ok(response: httpx.Response, status: int) -> Any:
        assert response.status_code == status, response.text
        return response.json()


@contextmanager
def service(stack: Stack, prefect: SyncPrefectClient) -> Iterator[tuple[FlowRun, httpx.Client]]:
    """Start the REST service as a run of its deployment."""
    port = free_ports(1)
    deployment = prefect.read_deployment_by_name("executions-service/test")
    run = prefect.create_flow_run_from_deployment(deployment.id, parameters={"port": port})
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as rest:

        def is_up() -> bool:
            try:
                return rest.get("/health").is_success
            except httpx.TransportError:
                return False

        eventually(is_up, "the service answers")
        yield run, rest


def kill(pid: int) -> None:
    """End a process at once, by SIGKILL."""
    os.kill(pid, 9)
