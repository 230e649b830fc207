"""Limits of concurrency: the slots of a deployment belong to the runs that a worker has taken.

And a work pool or queue hands out as many runs as its limit leaves.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Completed, Crashed, Pending, Running, Suspended

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects

pytestmark = pytest.mark.long


class Limited:
    """Executions of a deployment that has one slot, or is in a pool."""

    def __init__(
        self, prefect: SyncPrefectClient, *, pool: str | None = None, queue: str | None = None
    ) -> None:
        self.prefect = prefect
        self.executions = Executions(MemoryObjects(), FlowRuns(prefect, wait=lambda _: None))
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = prefect.create_deployment(
            flow_id,
            "limited",
            concurrency_limit=1 if pool is None else None,
            tags=["execution"],
            work_pool_name=pool,
            work_queue_name=queue,
        )

    @property
    def active(self) -> int:
        """How many slots Prefect counts as taken."""
        limit = self.prefect.read_deployment(self.deployment).global_concurrency_limit
        assert limit is not None
        return limit.active_slots

    def create(self) -> str:
        made, _ = Creation(self.executions).create(name="task", deployment=str(self.deployment))
        return made.id

    def set(self, execution: str, state: State[None]) -> str:
        """Set a state as a worker or process does; returns the name of that which results."""
        run = flow_run_id(execution)
        self.prefect.set_flow_run_state(run, state)
        name = self.state_of(run).name
        assert name is not None
        return name

    def force(self, execution: str, state: State[None]) -> None:
        """Set a state as the Prefect UI does."""
        self.prefect.set_flow_run_state(flow_run_id(execution), state, force=True)

    def state_of(self, run: UUID) -> State[None]:
        state = self.prefect.read_flow_run(run).state
        assert state is not None
        return state

    def take(self, execution: str) -> str:
        """What a worker and then the process do; returns the name of the state that results."""
        if (taken := self.set(execution, Pending())) != "Pending":
            return taken
        return self.set(execution, Running())


@pytest.fixture
def limited(stack: Stack) -> Iterator[Limited]:
    with get_client(sync_client=True) as client:
        yield Limited(client)


def test_the_slot_of_a_running_execution_is_its_own(limited: Limited) -> None:
    """Whatever becomes of others that no worker has taken."""
    running = limited.create()
    assert limited.take(running) == "Running"

    paused, failed, deleted = limited.create(), limited.create(), limited.create()
    limited.executions.pause(paused)
    limited.executions.resume(paused)
    limited.executions.pause(paused)
    limited.set(failed, Crashed())
    limited.executions.resume(failed)
    limited.executions.delete(deleted)

    assert limited.active == 1
    assert limited.take(failed) == "AwaitingConcurrencySlot"


@pytest.mark.parametrize(
    "end",
    [
        lambda here, id_: here.executions.pause(id_),
        lambda here, id_: here.executions.cancel(id_),
        lambda here, id_: here.executions.delete(id_, patience=0),
        lambda here, id_: here.force(id_, Suspended(timeout_seconds=300)),
        lambda here, id_: here.force(id_, State(type="CANCELLING")),
        lambda here, id_: here.set(id_, AwaitingRetry()),
        lambda here, id_: here.set(id_, Completed()),
        lambda here, id_: here.set(id_, Crashed()),
    ],
    ids=[
        "paused",
        "cancelled",
        "deleted",
        "paused in the UI",
        "cancelled in the UI",
        "tried again",
        "completed",
        "crashed",
    ],
)
def test_an_execution_that_ends_or_pauses_gives_its_slot_back(
    limited: Limited, end: Callable[[Limited, str], object]
) -> None:
    running, waiting = limited.create(), limited.create()
    limited.take(running)

    end(limited, running)
    run = limited.executions.flow_runs.find(flow_run_id(running))
    if run is not None and run.state is not None and run.state.is_cancelling():
        limited.prefect.set_flow_run_state(run.id, State(type="CANCELLED"), force=True)

    assert limited.active == 0
    assert limited.take(waiting) == "Running"


def test_an_execution_that_is_resumed_waits_for_a_slot(limited: Limited) -> None:
    first, second = limited.create(), limited.create()
    limited.take(first)
    limited.executions.pause(first)
    limited.take(second)

    limited.executions.resume(first)

    assert limited.take(first) == "AwaitingConcurrencySlot"
    assert limited.active == 1


def test_with_a_deployment_its_executions_that_have_not_begun_are_gone(limited: Limited) -> None:
    """And Prefect refuses each change of one that holds a slot, as long as its lease lasts."""
    running, waiting, new = limited.create(), limited.create(), limited.create()
    assert limited.take(running) == "Running"
    assert limited.take(waiting) == "AwaitingConcurrencySlot"

    limited.prefect.delete_deployment(limited.deployment)

    assert limited.executions.flow_runs.find(flow_run_id(new)) is None
    assert limited.state_of(flow_run_id(waiting)).name == "AwaitingConcurrencySlot"
    with pytest.raises(PrefectUnavailable, match="500"):
        limited.executions.pause(running)
    assert limited.state_of(flow_run_id(running)).name == "Running"


@pytest.mark.parametrize("is_pool", [True, False], ids=["pool", "queue"])
def test_a_pool_or_queue_hands_out_what_its_limit_leaves(stack: Stack, is_pool: bool) -> None:
    """Whatever becomes of other executions beside one that runs."""
    pool = f"pool-{uuid4().hex}"
    with get_client(sync_client=True) as prefect:
        limit = 1 if is_pool else None
        prefect.create_work_pool(WorkPoolCreate(name=pool, type="process", concurrency_limit=limit))
        prefect.create_work_queue("narrow", concurrency_limit=1, work_pool_name=pool)
        queue = "default" if is_pool else "narrow"
        here = Limited(prefect, pool=pool, queue=queue)

        def handed_out() -> list[UUID]:
            before = datetime.now(UTC) + timedelta(seconds=30)
            found = prefect.get_scheduled_flow_runs_for_work_pool(pool, [queue], before)
            return [each.flow_run.id for each in found]

        running, waiting, paused, cancelled, deleted = (here.create() for _ in range(5))
        assert len(handed_out()) == 1
        assert here.take(running) == "Running"
        here.executions.pause(paused)
        here.executions.resume(paused)
        here.executions.pause(paused)
        here.executions.cancel(cancelled)
        here.executions.delete(deleted)
        assert handed_out() == []

        here.executions.pause(running)
        assert handed_out() == [flow_run_id(waiting)]
        assert here.take(waiting) == "Running"
        here.executions.resume(running)
        assert handed_out() == []
        here.executions.cancel(waiting)
        assert handed_out() == [flow_run_id(running)]
