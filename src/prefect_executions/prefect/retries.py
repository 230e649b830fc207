"""Retries that Prefect's server grants: its engine then calls the flow again in the same process.

The server refuses Failed, and sets AwaitingRetry, as long as a run's `run_count` is no greater than
the `retries` of its policy.
"""

from datetime import timedelta
from math import ceil
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.transitions import read_run


def grant_retry(client: SyncPrefectClient, run_id: UUID, delay: timedelta) -> None:
    """Let Prefect's engine call the flow once more in this process, when the attempt fails.

    Args:
        client: Prefect's client.
        run_id: The run.
        delay: When, rounded up to seconds.

    Raises:
        PrefectUnavailable: Prefect does not answer.
        ExecutionNotFound: Prefect does not know the run.
    """
    run = read_run(client, run_id)
    _change(client, run, retries=run.run_count, retry_delay=ceil(delay.total_seconds()))


def withdraw_uncounted_retry(client: SyncPrefectClient, run: FlowRun) -> None:
    """Take back the retry that Prefect would grant since it has not counted that a run began.

    It does not count the beginning of a run that was paused before (`IncrementFlowRunCount`): of
    one that was paused before its first process began, and up to 3.8 of each that was created
    over REST, since it is Paused until it is whole.

    Args:
        client: Prefect's client.
        run: The run, as it was read after it began.

    Raises:
        PrefectUnavailable: Prefect does not answer.
        ExecutionNotFound: Prefect does not know the run.
    """
    retries = run.empirical_policy.retries
    if run.run_count == 0 and retries is not None:
        _change(client, run, retries=retries - 1 if retries else None)


def _change(client: SyncPrefectClient, run: FlowRun, **fields: int | None) -> None:
    """Change fields of a run's policy."""
    policy = run.empirical_policy.model_copy(update=fields)
    with prefect_errors(run.id):
        client.update_flow_run(run.id, empirical_policy=policy)
