"""Changing a flow run's state while another process changes it, too."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import AwaitingRetry, Cancelled, Crashed, Pending, Running, Suspended

from prefect_executions.errors import ExecutionConflict
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.transitions import restore
from prefect_executions.storage.objects import MemoryObjects
from world import eventually


def crashed(prefect: SyncPrefectClient) -> UUID:
    flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    deployment = prefect.create_deployment(flow_id, "idle", tags=["execution"])
    return prefect.create_flow_run_from_deployment(deployment, state=Crashed()).id


def created(
    prefect: SyncPrefectClient, wait: Callable[[float], None], pool: str | None = None
) -> tuple[Executions, str]:
    """An execution that no worker takes, and what it is acted on with."""
    flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    deployment = str(
        prefect.create_deployment(flow_id, "idle", tags=["execution"], work_pool_name=pool)
    )
    executions = Executions(MemoryObjects(), FlowRuns(prefect, wait=wait))
    made, _ = Creation(executions).create(name="task", deployment=deployment)
    return executions, made.id


def test_a_resume_that_waited_for_a_crash_to_settle_looks_again(
    prefect: SyncPrefectClient,
) -> None:
    run_id = crashed(prefect)
    running = Running()

    def supervise(_: float) -> None:
        prefect.set_flow_run_state(run_id, running, force=True)

    with pytest.raises(ExecutionConflict, match="running"):
        FlowRuns(prefect, wait=supervise).resume(run_id)

    assert state_of(prefect.read_flow_run(run_id)).is_running()


class Starting:
    """An execution that was paused or ended, and whose process starts and covers that.

    After `begins_after` waits `@execution` begins, and sets again what was covered.
    """

    def __init__(
        self, prefect: SyncPrefectClient, wanted: State[Any], *, begins_after: int = 2
    ) -> None:
        self.prefect = prefect
        self.wanted = wanted
        self.begins_after = begins_after
        self.waits = 0
        self.executions, self.id = created(prefect, self.wait)
        for state in (Pending(name="Submitting"), wanted, Running()):
            prefect.set_flow_run_state(flow_run_id(self.id), state, force=True)

    def wait(self, _: float) -> None:
        self.waits += 1
        if self.waits == self.begins_after:
            restore(self.prefect, flow_run_id(self.id), self.wanted)


def test_a_pause_that_a_starting_process_covers_can_be_resumed(
    prefect: SyncPrefectClient,
) -> None:
    starting = Starting(prefect, Suspended(message="Wait"))

    resumed = starting.executions.resume(starting.id)

    assert resumed.prefect.state_name == "Resuming"
    assert starting.waits == 2


def test_one_whose_process_left_as_it_started_can_be_resumed(prefect: SyncPrefectClient) -> None:
    """Prefect ends a process that has noticed a pause before `@execution` begins."""
    starting = Starting(prefect, Suspended(message="Wait"), begins_after=10_000)

    resumed = starting.executions.resume(starting.id)

    assert resumed.prefect.state_name == "Resuming"


def test_a_run_that_a_worker_has_read_is_paused_when_it_was_taken(
    prefect: SyncPrefectClient,
) -> None:
    """A worker that is refused Pending, or Submitting, since the run is paused, ends."""
    taking = iter([Pending(), Pending(name="Submitting")])

    def take(_: float) -> None:
        if (state := next(taking, None)) is not None:
            answer = prefect.set_flow_run_state(run_id, state)
            assert answer.status is SetStateStatus.ACCEPT

    executions, id_ = created(prefect, take)
    run_id = flow_run_id(id_)

    paused, _ = executions.pause(id_)

    assert paused.prefect.state_name == "Suspended"
    assert next(taking, None) is None


def test_a_run_that_is_not_due_is_paused_at_once(prefect: SyncPrefectClient) -> None:
    waits: list[float] = []
    executions, id_ = created(prefect, waits.append)
    later = AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(hours=1))
    prefect.set_flow_run_state(flow_run_id(id_), later, force=True)

    paused, _ = executions.pause(id_)

    assert (paused.prefect.state_name, waits) == ("Suspended", [])


def test_a_run_that_is_due_is_paused_at_once_only_where_no_worker_asks_for_runs(
    prefect: SyncPrefectClient,
) -> None:
    pool, waits = f"pool-{uuid4().hex}", list[float]()
    prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    executions, id_ = created(prefect, waits.append, pool)
    executions.pause(id_)
    assert waits == []

    executions, id_ = created(prefect, waits.append, pool)
    prefect.get_scheduled_flow_runs_for_work_pool(pool)  # as a worker does
    eventually(
        lambda: prefect.read_work_queue_by_name("default", pool).last_polled,
        "Prefect has noted that somebody asked",
    )
    executions.pause(id_)

    assert sum(waits) > 10


def test_what_a_starting_process_covers_is_not_paused(prefect: SyncPrefectClient) -> None:
    starting = Starting(prefect, Cancelled())

    with pytest.raises(ExecutionConflict, match="terminated"):
        starting.executions.pause(starting.id)
