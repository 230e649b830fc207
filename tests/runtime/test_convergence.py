"""A process that acts on an execution may die between any two requests: a repeat converges."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SyncClientContext
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_sync
from prefect.settings import PREFECT_CLIENT_CSRF_SUPPORT_ENABLED, temporary_settings
from prefect.states import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
    Scheduled,
    Suspended,
)

from killing import CalledObjects, CalledTransport, Caller, Killed
from prefect_executions import execution
from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.errors import ExecutionConflict, ExecutionNotFound, Superseded
from prefect_executions.executions.agents import ExternalAgents
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import MAX_SEQ
from prefect_executions.models import ExecutionFilter, Refusal
from prefect_executions.prefect.artifacts import KEY as PAGE
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.states import creating, state_of
from prefect_executions.prefect.tags import DELETING, tags_of
from prefect_executions.service.bulk import to_each
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.supervisor.crashes import CREATION_ENDS, SilentRuns
from prefect_executions.supervisor.duty import DutyContext
from prefect_executions.supervisor.heartbeat import OwnHeartbeat
from prefect_executions.supervisor.supervisor import Supervisor
from prefect_executions.testkit import MemoryStore

pytestmark = [pytest.mark.long, pytest.mark.events]


SETTINGS = ExecutionsSettings(heartbeat_seconds=1, silence_seconds=10, pending_seconds=600)
RETRY_DELAY = timedelta(hours=1)
CONFIG = ExecutionConfig(max_retries=2, retry_delay_seconds=RETRY_DELAY.total_seconds())
LAST_RETRY = {"max_retries": 1, "retry_delay_seconds": RETRY_DELAY.total_seconds()}
META = {"name": "a", "description": None, "agent_id": None, "task_type": None}
META |= {"config": CONFIG.model_dump(mode="json")}
SILENT_SECONDS = 100

NOTHING = "no run: no log"
CREATED = "SCHEDULED/Scheduled: created"
BEGUN = "created, attempt 1 from 0, checkpoint, checkpoint"
RESUMED = f"SCHEDULED/Resuming: {BEGUN}"
RUNS_OUTSIDE = "RUNNING/Running: created, attempt 1 from 0"
TRIED_AGAIN = f"SCHEDULED/AwaitingRetry: {BEGUN}"
TRIED_LATER = "SCHEDULED/AwaitingRetry (after a delay)"


@dataclass(frozen=True)
class Servers:
    """What all scenes share: Prefect's server, and a deployment whose pool has no worker."""

    prefect: SyncPrefectClient
    deployment: UUID
    transport: httpx.BaseTransport
    tls: ssl.SSLContext  # slow to create, and not used

    def client(self, caller: Caller) -> SyncPrefectClient:
        transport = CalledTransport(self.transport, caller)
        return SyncPrefectClient(
            str(self.prefect.api_url), httpx_settings={"transport": transport, "verify": self.tls}
        )


@pytest.fixture(scope="module")
def servers(stack: Stack) -> Iterator[Servers]:
    without_csrf = temporary_settings({PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False})
    with without_csrf, get_client(sync_client=True) as prefect, httpx.HTTPTransport() as transport:
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        deployment = prefect.create_deployment(flow_id, "idle", tags=["execution"])
        yield Servers(prefect, deployment, transport, ssl.create_default_context())


class Scene:
    """A store of its own, with one execution at most."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.prefect = servers.prefect
        self.store = uuid4().hex
        self.objects = MemoryObjects()
        self._ahead = timedelta(0)

    # ------------------------------------------------------------------ who acts

    def clock(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def executions(self, caller: Caller) -> Executions:
        """The executions as one process sees them; a worker acts while the process waits."""
        client = self.servers.client(caller)
        flow_runs = FlowRuns(client, store=self.store, wait=lambda _: None)
        objects = CalledObjects(self.objects, caller)
        return Executions(objects, flow_runs, clock=self.clock, wait=lambda _: self.end_process())

    def supervisor(self, caller: Caller) -> Supervisor:
        client = self.servers.client(caller)
        return Supervisor(self.executions(caller), client, SETTINGS, clock=self.clock)

    def pass_time(self, time: timedelta) -> None:
        self._ahead += time

    def end_process(self) -> None:
        """What a worker does with a run that is Cancelling."""
        run = self.run
        if run is not None and state_of(run).is_cancelling():
            self.set_state(Cancelled())

    # ------------------------------------------------------------------ what is there

    @property
    def run(self) -> FlowRun | None:
        tags = FlowRunFilterTags(all_=tags_of(self.store))
        runs = self.prefect.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tags))
        runs = [run for run in runs if run.id != self.source]
        assert len(runs) <= 1
        return runs[0] if runs else None

    @property
    def id(self) -> str:
        return execution_id(self._run_id)

    def entries(self) -> list[Entry]:
        """All entries, those of superseded attempts as well."""
        return [
            Entry.from_bytes(data, key=key, seq=MAX_SEQ - int(key.rpartition("/")[2]))
            for key, data in reversed(self.objects.get(self.objects.scan("")).items())
            if self.source is None or self.source.hex not in key
        ]

    def describe(self) -> str:
        """The execution in one line, with all that an operation may change."""
        run = self.run
        log = ", ".join(map(_name, self.entries())) or "no log"
        if run is None:
            return f"no run: {log}{self._artifacts()}"
        state = state_of(run)
        deleting = " (being deleted)" if DELETING in run.tags else ""
        due = state.state_details.scheduled_time
        delayed = " (after a delay)" if due and due - self.clock() > RETRY_DELAY / 2 else ""
        return f"{state.type.value}/{state.name}{delayed}{deleting}: {log}{self._artifacts()}"

    def _artifacts(self) -> str:
        """The run's artifacts, without its page while it is alive, as that has times."""
        filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self._run_id]))
        found = self.prefect.read_artifacts(artifact_filter=filter_)
        kept = [artifact for artifact in found if artifact.key != PAGE or self.run is None]
        return "".join(f", artifact {artifact.data!r}" for artifact in kept)

    # ------------------------------------------------------------------ setting it

    _run_id = UUID(int=0)
    source: UUID | None = None  # another execution is a fork of it; not described

    def begin(self, *states: State[Any]) -> None:
        """Let a run with two saved checkpoints go through these states."""
        self.make_run(Running())
        log = ExecutionLog(self.objects, self.id)
        log.create(META, b"[0]")
        head = log.attempt()
        for state in (b"[1]", b"[2]"):
            head = log.checkpoint(head, state)
        for each in states:
            self.set_state(each)

    def make_run(self, state: State[Any]) -> None:
        made = self.prefect.create_flow_run_from_deployment(
            self.servers.deployment, tags=tags_of(self.store), state=state
        )
        self._run_id = made.id

    def begin_outside(self, *states: State[Any]) -> None:
        """Let an execution of an external agent go through these states."""
        execution, _ = Creation(self.executions(Caller())).create(name="a", config=CONFIG)
        self._run_id = execution.prefect.flow_run_id
        for each in states:
            self.set_state(each)

    def set_state(self, state: State[Any], *, force: bool = True) -> None:
        self.prefect.set_flow_run_state(self._run_id, state, force=force)

    def add_artifact(self) -> None:
        artifact = ArtifactCreate(flow_run_id=self._run_id, key="table", data="x", type="markdown")
        self.prefect.create_artifact(artifact)


def _name(entry: Entry) -> str:
    counted = {
        Kind.ATTEMPT: f" {entry.attempt}",
        Kind.RETRY: f" {entry.retries}",
        Kind.CRASH: f" with {entry.dead_seconds:.0f} s dead",
    }.get(entry.kind, "")
    source = "" if entry.source is None else f" from {entry.source}"
    return f"{entry.kind}{counted}{source}"


# ---------------------------------------------------------------------- what is killed


def create(scene: Scene, caller: Caller) -> None:
    deployment = str(scene.servers.deployment)
    Creation(scene.executions(caller)).create(name="a", deployment=deployment, config=CONFIG)


def create_by_key(scene: Scene, caller: Caller) -> None:
    deployment = str(scene.servers.deployment)
    Creation(scene.executions(caller)).create(name="a", deployment=deployment, key="k")


def create_outside(scene: Scene, caller: Caller) -> None:
    Creation(scene.executions(caller)).create(name="a", key="k")


def fork(scene: Scene, caller: Caller) -> None:
    assert scene.source is not None
    source = execution_id(scene.source)
    Creation(scene.executions(caller)).fork(source, checkpoint_id="ckpt_000002", key="k")


def begin(scene: Scene, caller: Caller) -> None:
    ExternalAgents(scene.executions(caller)).begin(scene.id)


def complete(scene: Scene, caller: Caller) -> None:
    agents = ExternalAgents(scene.executions(caller))
    agents.complete(scene.id, state=[1], result="done", attempt=1)


def fail_outside(scene: Scene, caller: Caller) -> None:
    agents = ExternalAgents(scene.executions(caller))
    agents.fail(scene.id, state=[1], error="once", attempt=1)


def pause_all(scene: Scene, caller: Caller) -> None:
    executions = scene.executions(caller)
    _to_all(executions, lambda id_: executions.pause(id_)[0].status)


def delete_all(scene: Scene, caller: Caller) -> None:
    executions = scene.executions(caller)
    _to_all(executions, lambda id_: None if executions.delete(id_) else Status.TERMINATED)


def _to_all(executions: Executions, act: Callable[[str], Status | None]) -> None:
    found = executions.search(ExecutionFilter()).items
    done = to_each([item.id for item in found], act, lambda _: Refusal(code="", detail=""))
    assert all(item.ok for item in done)


def pause(scene: Scene, caller: Caller) -> None:
    scene.executions(caller).pause(scene.id, reason="to look")


def resume(scene: Scene, caller: Caller) -> None:
    scene.executions(caller).resume(scene.id)


def roll_back(scene: Scene, caller: Caller) -> None:
    scene.executions(caller).resume(scene.id, checkpoint_id="ckpt_000002")


def delete(scene: Scene, caller: Caller) -> None:
    assert scene.executions(caller).delete(scene.id)


def look(scene: Scene, caller: Caller) -> None:
    """A pass of a supervisor to which everything is old enough."""
    scene.pass_time(CREATION_ENDS + timedelta(seconds=1))
    scene.supervisor(caller).look()


def finish_creation(scene: Scene, caller: Caller) -> None:
    """What a supervisor does with a run whose creation was not finished."""
    assert scene.run is not None
    Creation(scene.executions(caller)).finish(scene.run)


def bury(scene: Scene, caller: Caller) -> None:
    """What a supervisor does with a run that sends no heartbeats."""
    run = scene.run
    if run is not None and state_of(run).is_running():
        found_at = state_of(run).timestamp + timedelta(seconds=SILENT_SECONDS)
        executions, client = scene.executions(caller), scene.servers.client(caller)
        context = DutyContext(executions, client, SETTINGS, clock=lambda: found_at)
        SilentRuns(context, OwnHeartbeat(None, context.silence)).act(run)


def fail(scene: Scene, caller: Caller) -> None:
    """A process whose flow fails, which may be killed from then on."""
    caller.counting = False
    objects = CalledObjects(scene.objects, caller)

    @flow
    @execution(store=MemoryStore.of(objects), **LAST_RETRY)
    def fails() -> None:
        run = execution.current()
        run.state["n"] = 1
        run.checkpoint()
        caller.counting = True
        raise RuntimeError("once")

    context = SyncClientContext()
    context.client = scene.servers.client(caller)
    # No run page: a thread writes it beside the flow, at a time of its own.
    page = patch("prefect_executions.prefect.artifacts.FIRST_SECONDS", 3600)
    with page, context, suppress(Pause):
        run_flow_sync(fails, flow_run=scene.run)


# ---------------------------------------------------------------------- what comes afterwards


def once_more(
    act: Callable[[Scene, Caller], None], *refusals: type[Exception]
) -> Callable[[Scene], None]:
    """Act again; this may be refused when the first act was completed."""

    def repeat(scene: Scene) -> None:
        scene.end_process()
        with suppress(*refusals):
            act(scene, Caller())

    return repeat


def supervise(scene: Scene) -> None:
    """One pass of a supervisor, after a worker has ended the processes that it had to end."""
    scene.end_process()
    look(scene, Caller())


def supervise_twice(scene: Scene) -> None:
    """Two passes: the first one terminates the process and waits for nothing."""
    supervise(scene)
    supervise(scene)


def supervise_crash(scene: Scene) -> None:
    """A process worker reports a killed process as crashed; then a supervisor makes a pass."""
    scene.set_state(Crashed(message="exit code -9"), force=False)
    look(scene, Caller())


# ---------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Operation:
    """One operation, and what it has to lead to.

    Args:
        prepare: Makes the execution.
        act: Acts on it; may be killed.
        afterwards: What others do after the kill.
        end: How the execution is described then, and without a kill.
        begun: Whether the killed process had decided anything.
        unbegun: How the execution is described if it had not.
        lasts: What no later request may undo once it holds.
    """

    prepare: Callable[[Scene], None]
    act: Callable[[Scene, Caller], None]
    afterwards: Callable[[Scene], None]
    end: str
    begun: Callable[[Scene], bool] = lambda _: True
    unbegun: str = ""
    lasts: Callable[[Scene], bool] = lambda _: False


def nothing(scene: Scene) -> None:
    """Make no execution."""


def begins(*states: Callable[[], State[Any]]) -> Callable[[Scene], None]:
    return lambda scene: scene.begin(*[state() for state in states])


def expired() -> State[Any]:
    """A pause of the Prefect UI whose time-out has passed: Prefect fails it when it is resumed."""
    return Suspended(pause_expiration_time=datetime(2026, 1, 1, tzinfo=UTC))


def half_made(scene: Scene, *, log: bool) -> None:
    scene.make_run(creating())
    if log:
        ExecutionLog(scene.objects, scene.id).create(META, b"[0]")


def to_fork(scene: Scene) -> None:
    scene.begin()
    scene.source = scene.run.id if scene.run else None


def outside(*states: Callable[[], State[Any]]) -> Callable[[Scene], None]:
    return lambda scene: scene.begin_outside(*[state() for state in states])


def has_one_attempt(scene: Scene) -> bool:
    return [entry.kind for entry in scene.entries()].count(Kind.ATTEMPT) == 1


def has_log(scene: Scene) -> bool:
    return scene.entries() != []


def is_marked(scene: Scene) -> bool:
    run = scene.run
    return run is None or DELETING in run.tags


def is_sealed(scene: Scene) -> bool:
    try:
        ExecutionLog(scene.objects, scene.id).living_head()
    except ExecutionNotFound:
        return True
    return False


def deletion(state: Callable[[], State[Any]], afterwards: Callable[[Scene], None]) -> Operation:
    def prepare(scene: Scene) -> None:
        scene.begin(state())
        scene.add_artifact()

    return Operation(prepare, delete, afterwards, NOTHING, lasts=is_sealed)


def left_to_supervisor(deletion: Operation, name: str) -> Operation:
    """A deletion that no client repeats: the supervisor finishes it if it had begun."""
    left_alone = f"{name}: {BEGUN}, artifact 'x'"
    return replace(deletion, begun=is_marked, unbegun=left_alone)


OPERATIONS = {
    "create": Operation(
        nothing, create, supervise, CREATED, begun=has_log, unbegun=NOTHING, lasts=has_log
    ),
    "create by key": Operation(
        nothing, create_by_key, once_more(create_by_key), CREATED, lasts=has_log
    ),
    "create outside": Operation(
        nothing, create_outside, once_more(create_outside), RUNS_OUTSIDE, lasts=has_log
    ),
    "fork": Operation(to_fork, fork, once_more(fork), CREATED, lasts=has_log),
    # The log has the attempt even if the process was killed before it reported it.
    "begin an attempt": Operation(
        outside(Suspended, Scheduled),
        begin,
        once_more(begin),
        f"{RUNS_OUTSIDE}, attempt 2 from 0",
        begun=has_one_attempt,
        unbegun=f"{RUNS_OUTSIDE}, attempt 2 from 0, attempt 3 from 0",
    ),
    "complete": Operation(
        outside(),
        complete,
        once_more(complete),
        "COMPLETED/Completed: created, attempt 1 from 0, checkpoint, result from 2",
    ),
    "fail outside": Operation(
        outside(),
        fail_outside,
        once_more(fail_outside, Superseded),
        f"{TRIED_LATER}: created, attempt 1 from 0, checkpoint, retry 1 from 2",
    ),
    "pause all": Operation(
        begins(Running), pause_all, once_more(pause_all), f"PAUSED/Suspended: {BEGUN}"
    ),
    "delete all, supervised": replace(
        deletion(Suspended, supervise),
        act=delete_all,
        begun=is_marked,
        unbegun=f"PAUSED/Suspended: {BEGUN}, artifact 'x'",
    ),
    "finish a creation": Operation(
        partial(half_made, log=True), finish_creation, supervise, CREATED
    ),
    "undo a creation": Operation(
        partial(half_made, log=False), finish_creation, supervise, NOTHING
    ),
    "pause RUNNING": Operation(
        begins(Running), pause, once_more(pause), f"PAUSED/Suspended: {BEGUN}"
    ),
    "pause SCHEDULED": Operation(
        begins(Scheduled), pause, once_more(pause), f"PAUSED/Suspended: {BEGUN}"
    ),
    "resume PAUSED": Operation(
        begins(Suspended), resume, once_more(resume, ExecutionConflict), RESUMED
    ),
    "resume PAUSED, rolled back": Operation(
        begins(Suspended),
        roll_back,
        once_more(roll_back, ExecutionConflict),
        f"{RESUMED}, rollback from 2",
    ),
    "resume PAUSED, expired": Operation(
        begins(expired), resume, once_more(resume, ExecutionConflict), TRIED_AGAIN
    ),
    "resume FAILED": Operation(
        begins(Failed), resume, once_more(resume, ExecutionConflict), TRIED_AGAIN
    ),
    "resume CRASHED, rolled back": Operation(
        begins(Crashed),
        roll_back,
        once_more(roll_back, ExecutionConflict),
        f"{TRIED_AGAIN}, rollback from 2",
    ),
    "delete RUNNING": deletion(Running, once_more(delete, ExecutionNotFound)),
    "delete RUNNING, supervised": left_to_supervisor(
        deletion(Running, supervise_twice), "RUNNING/Running"
    ),
    "delete PAUSED, supervised": left_to_supervisor(
        deletion(Suspended, supervise), "PAUSED/Suspended"
    ),
    "delete COMPLETED": deletion(Completed, once_more(delete, ExecutionNotFound)),
    "bury": Operation(
        begins(Running),
        bury,
        once_more(bury),
        f"CRASHED/Crashed: {BEGUN}, crash with {SILENT_SECONDS} s dead from 3",
    ),
    "recover": Operation(
        begins(Crashed), look, supervise, f"{TRIED_LATER}: {BEGUN}, retry 1 from 3"
    ),
    "fail": Operation(
        lambda scene: scene.make_run(Pending()),
        fail,
        supervise_crash,
        f"{TRIED_LATER}: created, attempt 1 from 0, checkpoint, retry 1 from 2",
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_repeat_converges_wherever_the_first_was_killed(servers: Servers, name: str) -> None:
    operation = OPERATIONS[name]
    wrong, lasted = [], False
    for dies_after in count():
        scene, caller = Scene(servers), Caller(dies_after)
        end, lasts = _end(operation, scene, caller)
        if lasted and not lasts:
            wrong.append(_row(name, caller, "was undone by this"))
        lasted |= lasts
        if (there := scene.describe()) != end:
            wrong.append(_row(name, caller, f"{there!r} is not {end!r}"))
        if not caller.is_dead:
            break

    assert not wrong, "\n".join(["", *wrong])
    assert {request.split(":")[0] for request in caller.requests} == {"store", "Prefect"}


def _end(operation: Operation, scene: Scene, caller: Caller) -> tuple[str, bool]:
    """Act, with a kill or without, let others go on; return what holds, and whether it lasts."""
    operation.prepare(scene)
    try:
        operation.act(scene, caller)
    except Killed:
        end = operation.end if operation.begun(scene) else operation.unbegun
        lasts = operation.lasts(scene)
        operation.afterwards(scene)
        return end, lasts
    assert not caller.is_dead, "it has caught its death"
    return operation.end, operation.lasts(scene)


def _row(name: str, caller: Caller, what: str) -> str:
    died = "died before its first request" if caller.dies_after == 0 else "not killed"
    if caller.is_dead and caller.requests:
        died = f"died after {caller.dies_after}: {caller.requests[-1]}"
    return f"{name} | {died} | {what}"
