"""Changing a flow run's state while another process changes it, too."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Crashed, Running

from prefect_executions.errors import ExecutionConflict
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.states import state_of


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def crashed(prefect: SyncPrefectClient) -> UUID:
    flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    deployment = prefect.create_deployment(flow_id, "idle")
    return prefect.create_flow_run_from_deployment(deployment, state=Crashed()).id


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
