"""Cancellations without a worker, repeated cancellations, and the pages of ended runs."""

from datetime import timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Crashed,
    Failed,
    Pending,
    Running,
    Suspended,
)

from idle import IdleWorld
from prefect_executions.config import Status
from prefect_executions.ids import execution_id
from prefect_executions.prefect.artifacts import PageArtifact


def test_a_cancellation_without_a_worker_is_ended(here: IdleWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr("prefect_executions.prefect.transitions.CANCEL_ENDS", timedelta(0))
    run = here.create()
    here.set(run, Running(), Cancelling())

    here.supervisor().look()

    assert here.name_of(run) == "Cancelled"


def test_a_cancellation_that_is_reported_twice_does_not_cover_a_retry(here: IdleWorld) -> None:
    """A worker on a busy machine reports it several times, over some seconds."""
    text = "Flow run was cancelled successfully."
    run = here.create()
    here.set(run, Running(), Cancelling(), Cancelled(message=text), AwaitingRetry(message="go on"))
    here.set(run, Pending(), Crashed(message="status code: -15"), Cancelled(message=text))
    other = here.create()
    here.set(other, Running(), Cancelling(), Cancelled(message=text), AwaitingRetry())
    here.set(other, Running(), Cancelling(), Cancelled(message=text))

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("AwaitingRetry", "go on")
    here.set(run, Cancelled(message=text))
    here.supervisor().look()
    assert here.name_of(run) == "AwaitingRetry"
    assert here.name_of(other) == "Cancelled"


@pytest.mark.parametrize(
    "states",
    [
        [Cancelled(message="no such flow"), AwaitingRetry(), Cancelled(message="no such flow")],
        [Running(), Cancelling(), Cancelled(), AwaitingRetry(), Cancelled()],
        [Running(), Cancelling(), Cancelled(message="it is"), AwaitingRetry(), Cancelled()],
        [Running(), Cancelling(), Cancelled(message="it is"), Cancelled(message="it is")],
    ],
    ids=["no process was", "by a person", "by another", "nobody wants it to go on"],
)
def test_a_cancellation_that_is_meant_stays(here: IdleWorld, states: list[State[Any]]) -> None:
    run = here.create()
    here.set(run, *(state.model_copy(deep=True) for state in states))

    here.supervisor().look()

    assert here.name_of(run) == "Cancelled"


@pytest.mark.parametrize("state", [Cancelled(), Failed()], ids=["cancelled", "failed"])
def test_task_runs_end_with_the_run(here: IdleWorld, state: State[Any]) -> None:
    run = here.create()
    here.set(run, Running())
    left = here.leave_task_run(run)
    here.set(run, state)

    here.supervisor().look()

    assert here.name_of_task_run(left) == "Crashed"


SHUTDOWN = "Runner is shutting down."


def test_a_run_whose_server_was_stopped_has_crashed_and_goes_on(here: IdleWorld) -> None:
    """Prefect's `serve` sets Cancelled on what it runs when it is stopped."""
    run = here.create(max_retries=1)
    here.set(run, Running())
    here.log(run).attempt()
    here.set(run, Cancelled(message=SHUTDOWN))
    assert here.executions.get(execution_id(run.id)).status is Status.RUNNING
    supervisor = here.supervisor()

    supervisor.look()
    assert here.name_of(run) == "Crashed"
    here.later = timedelta(seconds=20)
    supervisor.look()

    assert here.name_of(run) == "AwaitingRetry"


@pytest.mark.parametrize(
    ("covered", "name"),
    [
        ([Running(), Cancelling()], "Cancelled"),
        ([Running(), Suspended(message="look")], "Suspended"),
        ([Running(), AwaitingRetry()], "AwaitingRetry"),
    ],
    ids=["cancelled", "paused", "tried again"],
)
def test_what_was_wanted_of_a_run_outlasts_the_stop_of_its_server(
    here: IdleWorld, covered: list[State[Any]], name: str
) -> None:
    run = here.create(max_retries=1)
    here.set(run, *(state.model_copy(deep=True) for state in covered))
    here.set(run, Cancelled(message=SHUTDOWN))
    supervisor = here.supervisor()

    supervisor.look()
    here.later = timedelta(seconds=20)
    supervisor.look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message == SHUTDOWN) == (name, False)


def test_the_page_of_a_run_that_was_killed_tells_that_it_has_ended(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, Running(), Cancelled())

    here.supervisor().look()

    assert PageArtifact(here.prefect, run.id).find() == "terminated"
