"""Retention: what is removed of old executions, and what is kept."""

from datetime import timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed, Running, Suspended

from idle import SETTINGS, IdleWorld
from prefect_executions.config import ExecutionConfig
from prefect_executions.ids import execution_id
from prefect_executions.supervisor.retention import Retention

HOUR = timedelta(hours=1)


def retention_of(here: IdleWorld, **default: Any) -> Retention:
    return Retention(here.executions, ExecutionConfig(**default), clock=here.clock)


def tidy(retention: Retention) -> None:
    for run in retention.due():
        retention.apply(run)


def test_old_checkpoints_of_a_running_one_are_removed(here: IdleWorld) -> None:
    run, other = here.create_saved(keep_checkpoints=5), here.create_saved()
    here.later = HOUR

    tidy(retention_of(here))

    assert here.checkpoints(run)[:5] == [29, 28, 27, 26, 25]
    assert len(here.checkpoints(run)) < 15
    assert len(here.checkpoints(other)) == 30


def test_one_that_was_paused_meanwhile_is_left_alone(here: IdleWorld) -> None:
    run = here.create_saved(keep_checkpoints=5)
    here.later = HOUR
    retention = retention_of(here)
    (due,) = retention.due()
    here.set(run, Suspended())

    assert retention.apply(due) is None

    assert len(here.checkpoints(run)) == 30


@pytest.mark.parametrize("kept", [5, None])
def test_the_store_says_it_for_those_that_do_not(here: IdleWorld, kept: int | None) -> None:
    run = here.create_saved(keep_checkpoints=kept, keep_labelled=True)
    here.later = HOUR

    tidy(retention_of(here, keep_checkpoints=20))

    left = here.checkpoints(run)
    assert left[:5] == [29, 28, 27, 26, 25]
    assert {0, 10, 20} <= set(left)
    assert (set(range(10, 25)) <= set(left)) is (kept is None)


def test_nothing_is_removed_that_has_just_changed_or_may_be_chosen(here: IdleWorld) -> None:
    running = here.create_saved(keep_checkpoints=5)
    paused = here.create_saved(30, Suspended(), keep_checkpoints=5)
    tidy(retention_of(here))
    assert len(here.checkpoints(running)) == 30

    here.later = HOUR
    tidy(retention_of(here))

    assert len(here.checkpoints(running)) < 30
    assert len(here.checkpoints(paused)) == 30


def test_a_checkpoint_that_others_were_forked_from_stays(here: IdleWorld) -> None:
    run = here.create_saved(keep_checkpoints=1)
    root = here.executions.get(execution_id(run.id), checkpoints=None).checkpoints[-4]
    here.creations.fork(execution_id(run.id), checkpoint_id=root.id)
    here.later = HOUR

    tidy(retention_of(here))

    assert here.executions.read_checkpoint(execution_id(run.id), root.id).state == root.state
    assert len(here.checkpoints(run)) < 15


@pytest.mark.parametrize("end", [Completed(), Failed()], ids=lambda state: state.name)
def test_what_has_ended_long_ago_is_deleted(here: IdleWorld, end: State[Any]) -> None:
    run = here.create_saved(3, end, delete_after_seconds=7200)
    other = here.create_saved(3, end)
    retention = retention_of(here)

    here.later = HOUR
    tidy(retention)
    assert here.checkpoints(run) == [2, 1, 0]
    assert list(retention.due()) == [], "they are done with until then"

    here.later = 3 * HOUR
    tidy(retention)

    assert here.executions.flow_runs.find(run.id) is None
    assert not here.executions.log(execution_id(run.id)).exists()
    assert here.checkpoints(other) == [2, 1, 0]


def test_one_that_goes_on_meanwhile_is_not_deleted(here: IdleWorld) -> None:
    run = here.create_saved(3, Failed(), delete_after_seconds=60)
    retention = retention_of(here)
    here.later = HOUR
    (due,) = retention.due()
    here.set(run, Running())

    assert retention.apply(due) is None

    assert here.checkpoints(run) == [2, 1, 0]


def test_a_supervisor_sees_to_it(here: IdleWorld) -> None:
    run = here.create_saved(keep_checkpoints=5)
    here.later = HOUR

    here.supervisor().look()

    assert len(here.checkpoints(run)) < 15


def test_a_look_does_some_of_it_and_the_next_goes_on(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has died in the meantime does not wait until all is removed."""
    monkeypatch.setattr("idle.SETTINGS", SETTINGS.model_copy(update={"retention_seconds": 0}))
    runs = [here.create_saved(keep_checkpoints=5) for _ in range(3)]
    here.later = HOUR
    supervisor = here.supervisor()

    for done in (1, 2, 3, 3):
        supervisor.look()
        assert sum(len(here.checkpoints(run)) < 12 for run in runs) == done


def test_no_two_supervisors_remove_the_same(here: IdleWorld) -> None:
    one, other = here.heard_supervisor(), here.heard_supervisor()
    runs = [here.create_saved(1, Completed(), delete_after_seconds=60) for _ in range(8)]
    for supervisor in (one, other):
        supervisor.look()  # they hear each other
    here.later = 3 * HOUR

    # An hour later nothing is heard any more of the two, as this clock has it.
    for supervisor in (one, other):
        supervisor.heartbeat.update = lambda *_: None  # type: ignore[method-assign]
    one.look()
    left = [run for run in runs if here.executions.flow_runs.find(run.id) is not None]
    other.look()

    assert left == [run for run in runs if not one.heartbeat.owns(run.id)]
    assert not any(here.executions.flow_runs.find(run.id) for run in runs)
