"""Ending the task runs that a dead process has left, on a real Prefect server."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.states import AwaitingRetry, Completed, Failed, Pending, Running

from prefect_executions.prefect.task_runs import end_task_runs


@task
def some_task() -> None:
    """A task whose runs the tests make."""


@pytest.fixture
def run_id(prefect: SyncPrefectClient) -> UUID:
    flow_id = prefect.create_flow_from_name("with-tasks")
    deployment_id = prefect.create_deployment(flow_id, "with-tasks")
    return prefect.create_flow_run_from_deployment(deployment_id, state=Pending()).id


def create(prefect: SyncPrefectClient, run_id: UUID, *states: State[Any]) -> UUID:
    made = prefect.create_task_run(some_task, run_id, uuid4().hex, state=Pending())
    for state in states:
        prefect.set_task_run_state(made.id, state, force=True)
    return made.id


def type_of(prefect: SyncPrefectClient, task_run: UUID) -> StateType:
    state = prefect.read_task_run(task_run).state
    assert state is not None
    return state.type


def test_what_has_not_ended_has_crashed_and_the_rest_stays(
    prefect: SyncPrefectClient, run_id: UUID
) -> None:
    left = [create(prefect, run_id, *states) for states in ([Running()], [], [AwaitingRetry()])]
    ended = [create(prefect, run_id, state) for state in (Completed(), Failed())]
    other = prefect.create_flow_run_from_deployment(
        prefect.create_deployment(prefect.create_flow_from_name("other"), "other")
    )
    of_another = create(prefect, other.id, Running())

    assert end_task_runs(prefect, run_id) == 3

    assert {type_of(prefect, each) for each in left} == {StateType.CRASHED}
    assert [type_of(prefect, each) for each in ended] == [StateType.COMPLETED, StateType.FAILED]
    assert type_of(prefect, of_another) is StateType.RUNNING
    assert end_task_runs(prefect, run_id) == 0


@pytest.mark.parametrize(("most", "expected"), [(None, 5), (0, 0), (3, 3), (9, 5)])
def test_many_are_ended_page_by_page(
    prefect: SyncPrefectClient,
    run_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
    most: int | None,
    expected: int,
) -> None:
    monkeypatch.setattr("prefect_executions.prefect.task_runs.AT_ONCE", 2)
    made = [create(prefect, run_id, Running()) for _ in range(5)]

    assert end_task_runs(prefect, run_id, most=most) == expected

    ended = [each for each in made if type_of(prefect, each) is StateType.CRASHED]
    assert len(ended) == expected


def test_a_run_that_is_gone_has_none(prefect: SyncPrefectClient) -> None:
    assert end_task_runs(prefect, uuid4()) == 0


def test_a_run_that_goes_meanwhile_is_no_trouble(
    prefect: SyncPrefectClient, run_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [prefect.read_task_run(create(prefect, run_id, Running()))]
    prefect.delete_flow_run(run_id)
    monkeypatch.setattr("prefect_executions.prefect.task_runs._unended", lambda *_: listed)

    end_task_runs(prefect, run_id)
