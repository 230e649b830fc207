"""Checkpoints by hand: not beside a process, whose next one would hide them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Crashed, Pending, Running, Scheduled, Suspended

from idle import IdleWorld
from prefect_executions.errors import CheckpointNotFound, ExecutionConflict
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.models import Checkpoint
from prefect_executions.prefect.events import send_attempt_ended
from world import eventually


@pytest.fixture
def here(stack: Stack) -> Iterator[IdleWorld]:
    with get_client(sync_client=True) as client:
        yield IdleWorld(client)


def begun(here: IdleWorld, *states: State[Any]) -> FlowRun:
    """A run whose first attempt has begun and saved, and then got states."""
    run = here.create()
    here.set(run, Running())
    log = here.log(run)
    log.checkpoint(log.attempt(), b'{"n": 1}')
    here.set(run, *states)
    return run


def save(here: IdleWorld, run: FlowRun, **options: Any) -> Checkpoint:
    return here.executions.checkpoint(execution_id(run.id), state={"n": 2}, **options).checkpoint


@pytest.mark.parametrize("states", [[], [Scheduled(), Pending()]], ids=["running", "pending"])
def test_a_checkpoint_is_refused_while_a_process_runs(
    here: IdleWorld, states: list[State[Any]]
) -> None:
    run = begun(here, *states)

    with pytest.raises(ExecutionConflict, match="pause it first"):
        save(here, run)

    assert here.checkpoints(run) == [1]


@pytest.mark.parametrize(
    "states",
    [[Suspended()], [Scheduled(), Pending(name="Submitting"), Suspended()]],
    ids=["running", "starting"],
)
def test_a_checkpoint_of_a_paused_one_is_saved_when_its_process_has_left(
    here: IdleWorld, states: list[State[Any]]
) -> None:
    run = begun(here, *states)

    with pytest.raises(ExecutionConflict, match="still at work until its next checkpoint"):
        save(here, run)
    send_attempt_ended(run.id, run.name, 1)
    eventually(lambda: here.executions.has_left(execution_id(run.id)), "its process has left")
    saved = save(here, run, by="alice", label="corrected")

    assert (saved.saved_by, saved.label, saved.attempt) == ("alice", "corrected", 1)
    assert here.checkpoints(run) == [2, 1]
    page = here.executions.run_page(here.prefect.read_flow_run(run.id))
    assert [row.saved_by for row in page.checkpoints] == ["alice", None]


def test_a_process_that_is_silent_has_left(here: IdleWorld) -> None:
    """It was killed after the pause, so that no event of its end has come."""
    run = begun(here, Suspended())
    here.later = timedelta(hours=1)

    assert save(here, run).saved_by == "hand"


@pytest.mark.parametrize(
    "states", [[Crashed()], [Crashed(), AwaitingRetry()]], ids=["crashed", "waits"]
)
def test_a_process_that_was_seen_to_die_has_left(here: IdleWorld, states: list[State[Any]]) -> None:
    run = begun(here, *states)

    assert save(here, run).id == "ckpt_000003"


def test_a_fenced_attempt_hides_nothing(here: IdleWorld) -> None:
    """Its process may be alive, and the next attempt continues from what is saved now."""
    run = begun(here)
    log = here.log(run)
    log.rollback(2)

    save(here, run)

    assert log.attempt().state == b'{"n":2}'


def test_only_the_newest_checkpoint_is_corrected(here: IdleWorld) -> None:
    run = begun(here, Suspended(), Crashed())

    save(here, run, after="ckpt_000002", label="by the first")
    with pytest.raises(ExecutionConflict, match="newest one is now ckpt_000003, not ckpt_000002"):
        save(here, run, after="ckpt_000002")
    with pytest.raises(CheckpointNotFound):
        save(here, run, after="the newest")

    assert here.checkpoints(run) == [2, 1]


def test_of_two_who_correct_a_checkpoint_at_once_one_is_refused(here: IdleWorld) -> None:
    """The other has saved after the first has seen that the checkpoint is the newest."""
    run = begun(here, Suspended(), Crashed())
    seen, log = [], here.log(run)
    read = here.executions.flow_runs.states

    def other(run: FlowRun) -> list[State[Any]]:
        if not seen:
            seen.append(run)
            log.checkpoint(log.living_head(), b'{"n": 3}', by="the other")
        return read(run)

    here.executions.flow_runs.states = other  # type: ignore[method-assign]

    with pytest.raises(ExecutionConflict, match="ckpt_000003"):
        save(here, run, after="ckpt_000002")

    assert seen
    assert here.log(run).living_head().state == b'{"n": 3}'


def test_a_process_that_begins_meanwhile_is_seen(here: IdleWorld) -> None:
    run = begun(here, Suspended(), Crashed())
    seen, log = [], here.log(run)
    read = here.executions.flow_runs.states

    def begins(run: FlowRun) -> list[State[Any]]:
        states = read(run)
        if not seen:
            seen.append(run)
            here.set(run, Scheduled(), Pending(), Running())
            log.attempt()
        return states

    here.executions.flow_runs.states = begins  # type: ignore[method-assign]

    with pytest.raises(ExecutionConflict, match="pause it first"):
        save(here, run)

    assert here.checkpoints(run) == [1]
