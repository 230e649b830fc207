"""What happens when processes, workers and flows die or fail, on real servers."""

import os
import signal

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Failed,
    Pending,
    Running,
)

from prefect_executions.log.entry import Kind
from world import World, eventually, kill


def test_a_failed_attempt_is_tried_again_by_a_worker(world: World) -> None:
    execution = world.create("failing-once", config={"retry_delay_seconds": 1})

    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert ended["state"] == {"n": 2, "attempts": [1, 2]}
    history = world.states(execution)
    assert "AwaitingRetry" in [state.name for state in history]
    [waiting] = [state for state in history if state.name == "AwaitingRetry"]
    assert waiting.message == "Retry 1 of 1 after RuntimeError: once"
    assert [e.kind for e in world.log(execution)].count(Kind.RETRY) == 1


def test_there_are_as_many_retries_as_asked_for(world: World) -> None:
    execution = world.create("failing", message="again", config={"max_retries": 2})

    ended = world.until_ended(execution)

    assert ended["status"] == "failed"
    assert ended["prefect"]["attempt"] == 3
    assert ended["state"] == {"n": 3, "attempts": [1, 2, 3]}


@pytest.mark.journey
def test_a_crashed_attempt_is_tried_again(world: World) -> None:
    execution = world.create("gated", to=2, config={"max_retries": 1})
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)

    kill(world.pid(execution))
    world.open_gates(execution, 2, 2)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert ended["state"] == {"n": 2, "attempts": [1, 2]}
    assert [(attempt, n) for attempt, n, _ in world.effects(execution)] == [(1, 1), (2, 2)]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_run_whose_worker_has_died_is_continued_by_another(
    world: World, by: signal.Signals
) -> None:
    """Prefect leaves it Running for ever; the time without a process is not active time."""
    worker = world.stack.start_worker("doomed")
    execution = world.create("gated", "doomed", to=2, config={"max_retries": 1})
    world.open_gates(execution, 1, 1)
    before = world.until_saved(execution, 1)
    process = world.pid(execution)

    worker.stop(by=by)
    if by is signal.SIGKILL:  # it had no time to end its flow process
        kill(process)
    world.until_process_ends(process)
    other = world.stack.start_worker("doomed")
    crashed = world.until_attempt(execution, 2)
    world.open_gates(execution, 2, 2)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    other.stop()

    assert ended["state"] == {"n": 2, "attempts": [1, 2]}
    [crash] = [entry for entry in world.log(execution) if entry.kind is Kind.CRASH]
    assert crash.dead_seconds > 5
    assert crashed["elapsed_seconds"] < before["elapsed_seconds"] + crash.dead_seconds


def test_a_run_whose_worker_died_before_it_began_is_given_to_another(world: World) -> None:
    """Prefect leaves it Pending for ever."""
    execution = world.create("counting", "doomed", to=2)  # this pool has no worker
    run = world.run(execution)
    world.prefect.set_flow_run_state(run.id, Pending())

    other = world.stack.start_worker("doomed")
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    other.stop()

    assert ended["state"]["n"] == 2


def test_one_that_is_paused_while_its_process_starts_can_be_corrected_when_that_has_left(
    world: World,
) -> None:
    execution = world.create("counting", to=10_000)
    eventually(lambda: world.run(execution).state_name != "Scheduled", "a worker takes it")

    answer = world.rest.post(world.path(execution, "/pause"), headers={"Prefer": "wait=60"})
    assert world.ok(answer, 200)["status"] == "paused"
    body = {"state": {"n": 9_999}, "label": "by hand"}
    world.ok(world.rest.put(world.path(execution, "/checkpoint"), json=body), 201)
    world.resume(execution)

    assert world.until_ended(execution)["state"]["n"] == 10_000


@pytest.mark.parametrize("deployment", ["publishing", "publishing-async"])
def test_what_was_published_is_saved_in_time(world: World, deployment: str) -> None:
    execution = world.create(deployment, seconds=600, config={"checkpoint_interval_seconds": 0.5})

    saved = world.until_saved(execution, 1)

    assert saved["status"] == "running"
    world.delete(execution)


def test_a_pause_takes_effect_where_a_state_is_published(world: World) -> None:
    execution = world.create("publishing-on")
    world.until_effect(execution, 3)

    world.pause(execution)
    world.until_process_ends(world.pid(execution))

    paused = world.get(execution)
    assert paused["status"] == "paused"
    assert paused["state"]["n"] == len(world.effects(execution))


def test_a_flow_that_prefect_pauses_in_a_task_saves_what_it_has_published(world: World) -> None:
    execution = world.create("publishing-before-tasks")
    world.until_effect(execution, 1)

    world.pause(execution)
    world.until_process_ends(world.pid(execution))

    paused = world.get(execution)
    assert paused["status"] == "paused"
    assert paused["state"]["n"] == 1


@pytest.mark.parametrize("deployment", ["publishing", "publishing-async"])
def test_a_cancelled_flow_saves_what_it_has_published(world: World, deployment: str) -> None:
    execution = world.create(deployment, seconds=600)
    world.until_published(execution)

    world.prefect.set_flow_run_state(world.run(execution).id, Cancelling(), force=True)
    ended = world.until(
        execution, "it is cancelled", lambda e: e["prefect"]["state_name"] == "Cancelled"
    )

    assert ended["status"] == "terminated"
    assert ended["state"]["n"] == 1


@pytest.mark.journey
@pytest.mark.parametrize("deployment", ["publishing", "publishing-async"])
def test_a_flow_that_gets_sigterm_saves_what_it_has_published(
    world: World, deployment: str
) -> None:
    execution = world.create(deployment, seconds=600)
    world.until_published(execution)

    os.kill(world.pid(execution), signal.SIGTERM)
    crashed = world.until_crashed(execution)

    assert crashed["state"]["n"] == 1


@pytest.mark.parametrize("deployment", ["publishing", "publishing-async"])
def test_time_runs_out_in_the_midst_of_a_sleep(world: World, deployment: str) -> None:
    execution = world.create(
        deployment, seconds=600, config={"max_duration_seconds": 5, "max_retries": 3}
    )

    ended = world.until_ended(execution)

    assert ended["status"] == "failed"
    assert ended["state"]["n"] == 1
    assert ended["prefect"]["attempt"] == 1  # more attempts would have no time
    assert "max_duration_seconds = 5" in (world.run(execution).state.message or "")
    assert ended["elapsed_seconds"] < 60


def test_a_flow_that_takes_no_hint_is_ended_for_want_of_time(world: World) -> None:
    execution = world.create("stubborn", seconds=600, config={"max_duration_seconds": 5})
    world.until_effect(execution, 1)
    pid = world.pid(execution)

    ended = world.until_ended(execution)
    world.until_process_ends(pid)

    assert ended["status"] == "failed"
    assert ended["state"]["n"] == 1
    assert "max_duration_seconds = 5" in (world.run(execution).state.message or "")


def test_time_goes_on_over_pauses_and_attempts(world: World) -> None:
    execution = world.create("gated", to=2, config={"max_duration_seconds": 12})
    world.until(execution, "8 s are spent", lambda e: e["elapsed_seconds"] > 8)
    world.pause(execution)
    world.open_gates(execution, 1, 1)
    world.until_process_ends(world.pid(execution))

    world.resume(execution)
    ended = world.until_ended(execution)

    assert ended["status"] == "failed"
    assert ended["prefect"]["attempt"] == 2
    assert ended["state"]["n"] == 1
    assert 12 <= ended["elapsed_seconds"] < 20


def test_a_retried_execution_can_be_paused_and_resumed(world: World) -> None:
    """After one of Prefect's own retries no work pool would run it again."""
    execution = world.create("gated", to=3, config={"max_retries": 1})
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    kill(world.pid(execution))
    world.until_attempt(execution, 2)
    world.pause(execution)
    world.open_gates(execution, 2, 2)
    world.until_process_ends(world.pid(execution))

    world.resume(execution)
    world.open_gates(execution, 3, 3)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert ended["state"] == {"n": 3, "attempts": [1, 2, 3]}


def test_a_pause_in_the_prefect_ui_does_not_become_a_failure(world: World) -> None:
    """Prefect fails it when its time-out has passed, so the process removes it as it ends.

    It also creates the Resume form, which offers the checkpoint that it has just saved.
    """
    execution = world.gated(to=3)

    world.pause_and_leave(execution, 2)

    paused = world.run(execution).state
    assert paused.name == "Suspended"
    assert paused.state_details.pause_timeout is None
    assert paused.state_details.pause_reschedule
    assert world.offered(execution)[1].startswith("ckpt_000003")
    world.resume_in_the_ui(execution, world.offered(execution)[2])
    world.open_gates(execution, 2, 2, 3)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    assert ended["state"] == {"n": 3, "attempts": [1, 2, 2]}


def test_a_pause_in_the_prefect_ui_is_not_over_when_its_time_is(world: World) -> None:
    """Another run, paused in the same way, shows that Prefect has failed such pauses by then."""
    execution = world.gated(to=2)
    plain = world.prefect.create_flow_run(idle, state=Running())

    world.pause_and_leave(execution, 2, seconds=15)
    world.suspend(plain.id, seconds=15)
    eventually(
        lambda: world.prefect.read_flow_run(plain.id).state.is_failed(), "Prefect fails the other"
    )

    assert world.get(execution)["status"] == "paused"
    world.resume(execution)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    assert ended["state"]["n"] == 2


@flow
def idle() -> None:
    """A run without an execution."""


def test_a_pause_over_rest_offers_what_was_saved_after_it(world: World) -> None:
    execution = world.create("gated", to=2)
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    pid = world.pid(execution)

    world.pause(execution)
    before = world.offered(execution)
    world.open_gates(execution, 1, 2)
    world.until_process_ends(pid)

    after = world.offered(execution)
    assert [choice[:11] for choice in after] == ["latest", "ckpt_000003", "ckpt_000002"]
    assert after[2:] == before[1:]


def test_a_pause_in_the_prefect_ui_survives_the_death_of_its_process(world: World) -> None:
    """The worker reports a crash, and no process is left to remove the time-out."""
    execution = world.create("gated", to=2, config={"max_retries": 3})
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    world.pause_in_the_ui(execution)

    kill(world.pid(execution))
    world.until_crashed(execution)
    world.until(execution, "it is paused", lambda e: e["status"] == "paused")

    assert world.run(execution).state.state_details.pause_timeout is None
    world.resume(execution)
    world.open_gates(execution, 2, 2)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    assert ended["state"] == {"n": 2, "attempts": [1, 2]}
    assert not [entry for entry in world.log(execution) if entry.kind is Kind.RETRY]


def test_a_suspended_process_that_is_cancelled_writes_no_more(world: World) -> None:
    """Prefect makes it Cancelled at once, while its process goes on."""
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    pid = world.pid(execution)
    world.pause(execution)

    world.prefect.set_flow_run_state(world.run(execution).id, Cancelling(), force=True)
    world.open_gates(execution, 1, 2, 3)
    world.until_process_ends(pid)

    ended = world.get(execution)
    assert ended["status"] == "terminated"


@pytest.mark.parametrize(
    "state", [Failed(message="by hand"), Completed(), Cancelled()], ids=lambda state: state.name
)
def test_a_state_changed_by_hand_does_not_harm_the_history(world: World, state: State) -> None:
    """The process that has lost its run ends; the next one continues from what was saved."""
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    pid = world.pid(execution)

    world.prefect.set_flow_run_state(world.run(execution).id, state, force=True)
    world.open_gates(execution, 1, 2, 3)
    world.until_process_ends(pid)
    left = world.log(execution)[-1]
    assert left.attempt == 1
    world.prefect.set_flow_run_state(world.run(execution).id, AwaitingRetry(), force=True)
    world.open_gates(execution, 2, 2, 3)
    ended = world.until(
        execution,
        "it completes",
        lambda e: e["status"] == "completed" and e["prefect"]["attempt"] == 2,
    )

    assert ended["state"]["n"] == 3
    numbers = [n for _, n, _ in world.effects(execution)]
    assert sorted(set(numbers)) == [1, 2, 3]


def test_a_retry_does_not_roll_back_once_more(world: World) -> None:
    """The answer in the Resume form counts only for the attempt that it started."""
    execution = world.create("gated", to=4)
    world.open_gates(execution, 1, 1, 2)
    world.until_saved(execution, 2)
    world.pause_and_leave(execution, 3)
    world.resume_in_the_ui(execution, world.offered(execution)[3])  # n = 1
    world.until_attempt(execution, 2)
    world.open_gates(execution, 2, 2, 3)
    world.until(
        execution, "it has gone on", lambda e: e["state"] == {"n": 3, "attempts": [1, 2, 2]}
    )
    pid = world.pid(execution)

    world.cancel_in_the_ui(execution)
    world.until_process_ends(pid)
    world.until(  # a run that is being cancelled would be Cancelled again
        execution, "it is cancelled", lambda e: e["prefect"]["state_name"] == "Cancelled"
    )
    world.prefect.set_flow_run_state(world.run(execution).id, AwaitingRetry(), force=True)
    world.open_gates(execution, 3, 4)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert ended["state"] == {"n": 4, "attempts": [1, 2, 2, 3]}
    rolled = [entry for entry in world.log(execution) if entry.kind is Kind.ROLLBACK]
    assert len(rolled) == 1
