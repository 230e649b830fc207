"""Rules: what the status of an execution allows."""

from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Completed, Failed, Running, Suspended

from prefect_executions.config import Status
from prefect_executions.errors import ExecutionConflict
from prefect_executions.executions.rules import require_open, require_pausable, require_resumable

STATES = {
    Status.RUNNING: Running,
    Status.PAUSED: Suspended,
    Status.COMPLETED: Completed,
    Status.FAILED: Failed,
    Status.TERMINATED: Cancelled,
}


@pytest.mark.parametrize(
    ("require", "allowed"),
    [
        (require_pausable, {"running", "paused"}),
        (require_resumable, {"paused", "failed", "terminated"}),
        (require_open, {"running", "paused"}),
    ],
)
def test_what_each_status_allows(require, allowed: set[str]) -> None:  # type: ignore[no-untyped-def]
    for status in Status:
        run = FlowRun(flow_id=uuid4(), state=STATES[status]())
        if status.value in allowed:
            require(run)
        else:
            with pytest.raises(ExecutionConflict, match=f"it is {status.value}"):
                require(run)
