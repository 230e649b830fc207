"""The task runs of a flow run: when they ran, and those that a dead process has left are ended.

A process reports its task runs by events, and one that is killed reports nothing: what it was
carrying out would stay Running in Prefect for ever.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterStartTime,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.states import Crashed

from prefect_executions.prefect.errors import passing, prefect_errors

AT_ONCE = 200  # task runs that Prefect lists in one request
_UNENDED = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED]


def end_task_runs(client: SyncPrefectClient, run_id: UUID, *, most: int | None = None) -> int:
    """Set Crashed on the task runs of a flow run that no process carries out any more.

    A task that its process does end after all, in a thread that outlives its attempt, is shown as
    it has ended: Prefect goes by the times of states.

    Args:
        client: Prefect's client.
        run_id: The flow run; no attempt of it has begun any task run.
        most: How many to end; by default all.

    Returns:
        How many were ended.

    Raises:
        PrefectUnavailable: Prefect does not answer, or refuses.
    """
    ended: set[UUID] = set()
    while (limit := AT_ONCE if most is None else min(AT_ONCE, most - len(ended))) > 0:
        fresh = [task for task in _unended(client, run_id, limit) if task.id not in ended]
        if not fresh:
            break
        for task in fresh:
            state: State[Any] = Crashed(message="The process that carried it out has died.")
            with prefect_errors(), passing(HTTPStatus.NOT_FOUND):  # its run is gone
                client.set_task_run_state(task.id, state, force=True)
            ended.add(task.id)
    return len(ended)


def task_runs_between(
    client: SyncPrefectClient, run_id: UUID, since: datetime, until: datetime
) -> list[TaskRun]:
    """The task runs of a flow run that began in a time, `AT_ONCE` at most, the newest.

    Raises:
        PrefectUnavailable: Prefect does not answer, or refuses.
    """
    with prefect_errors():
        return client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
            task_run_filter=TaskRunFilter(
                start_time=TaskRunFilterStartTime(after_=since, before_=until)
            ),
            sort=TaskRunSort.EXPECTED_START_TIME_DESC,
            limit=AT_ONCE,
        )


def _unended(client: SyncPrefectClient, run_id: UUID, limit: int) -> list[TaskRun]:
    with prefect_errors():
        return client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNENDED))
            ),
            limit=limit,
        )
