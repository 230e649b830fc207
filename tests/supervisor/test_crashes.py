"""Silent runs, crashed runs, agents outside Prefect and half-done starts."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.states import (
    AwaitingRetry,
    Cancelling,
    Crashed,
    Pending,
    Running,
    Scheduled,
    Suspended,
)

from idle import SILENCE, IdleWorld
from prefect_executions.config import ExecutionConfig
from prefect_executions.executions.creation import Creation
from prefect_executions.log.entry import Kind
from prefect_executions.prefect.events import (
    HEARTBEAT,
    PREFECT_HEARTBEAT,
    Heartbeats,
    beat_of_run,
    last_beat_of_prefect,
)
from prefect_executions.prefect.states import CREATING, creating
from prefect_executions.supervisor.crashes import (
    COLLEAGUE_ACTS,
    PREFECT_SILENCE,
    CrashedRuns,
    SilentRuns,
)
from world import eventually

# ---------------------------------------------------------------------- crashes


def test_the_task_runs_of_a_crashed_run_end_with_it(here: IdleWorld) -> None:
    """Also before its next attempt begins, and once for each crash."""
    run = here.create_crashed(max_retries=1, retry_delay_seconds=3_600)
    left = here.leave_task_run(run)

    here.supervisor().look()

    assert here.name_of(run) == "AwaitingRetry"
    assert here.name_of_task_run(left) == "Crashed"


def test_a_crash_is_left_to_settle(here: IdleWorld) -> None:
    """The process worker reports a crash twice; the second report would hit the new attempt."""
    run = here.create_crashed(max_retries=3)
    here.later = timedelta(seconds=5)

    here.supervisor().look()

    assert here.name_of(run) == "Crashed"  # yet undecided


def test_a_crashed_run_is_tried_again_while_there_are_retries(here: IdleWorld) -> None:
    run = here.create_crashed(max_retries=1, retry_delay_seconds=300)
    supervisor = here.supervisor()

    supervisor.look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("AwaitingRetry", "Retry 1 of 1 after a crash")
    assert state.state_details.scheduled_time is not None
    assert state.state_details.scheduled_time > datetime.now(UTC) + timedelta(seconds=250)
    assert here.kinds(run) == [Kind.CREATED, Kind.ATTEMPT, Kind.RETRY]

    here.set(run, Pending(), Running(), Crashed(message="Its process was killed."))
    supervisor.look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == (
        "Failed",
        "Its process was killed. No retry is left, of 1.",
    )
    assert here.kinds(run).count(Kind.RETRY) == 1


def test_a_crash_is_no_end_until_it_is_decided(here: IdleWorld) -> None:
    run = here.create_crashed(max_retries=0)
    id_ = f"exec_{run.id.hex}"

    undecided = here.executions.get(id_)
    here.supervisor().look()
    decided = here.executions.get(id_)

    assert (undecided.status, undecided.prefect.state_name) == ("running", "Crashed")
    assert undecided.completed_at is None
    assert (decided.status, decided.prefect.state_name) == ("failed", "Failed")
    assert decided.completed_at is not None


@pytest.mark.parametrize("act", ["pause", "cancel", "resume"])
def test_a_crashed_run_can_be_acted_on_before_it_is_decided(here: IdleWorld, act: str) -> None:
    run = here.create_crashed(max_retries=3)

    getattr(here.executions, act)(f"exec_{run.id.hex}")
    here.supervisor().look()

    after = {"pause": "Suspended", "cancel": "Cancelled", "resume": "AwaitingRetry"}
    assert here.name_of(run) == after[act]
    assert Kind.RETRY not in here.kinds(run)


def test_a_crashed_run_that_no_worker_could_try_again_has_failed(here: IdleWorld) -> None:
    run = here.create_crashed(max_retries=3)
    assert run.deployment_id is not None
    here.prefect.delete_deployment(run.deployment_id)

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert state.name == "Failed"
    assert "deployment" in (state.message or "")


def test_a_process_that_died_after_its_result_was_recorded_has_completed(here: IdleWorld) -> None:
    run = here.create_crashed(max_retries=3)
    log = here.log(run)
    log.result(log.head(), {"found": 2})

    here.supervisor().look()

    execution = here.executions.get(f"exec_{run.id.hex}")
    assert (execution.status, execution.result) == ("completed", {"found": 2})


def test_the_flow_s_own_settings_count_where_the_execution_has_none(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, Running())
    here.log(run).attempt(config=ExecutionConfig(max_retries=1).model_dump(mode="json"))
    here.set(run, Crashed())
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    assert here.name_of(run) == "AwaitingRetry"


def test_a_run_that_died_before_its_first_attempt_is_started_again_three_times(
    here: IdleWorld,
) -> None:
    """The flow's own settings are unknown before the first attempt has begun."""
    run = here.create()
    supervisor = here.supervisor()
    for _ in range(3):
        here.set(run, Pending(), Crashed())
        here.later += timedelta(seconds=20)
        supervisor.look()
        assert here.name_of(run) == "AwaitingRetry"

    here.set(run, Pending(), Crashed())
    here.later += timedelta(seconds=20)
    supervisor.look()

    assert here.name_of(run) == "Failed"


def test_of_several_supervisors_one_counts_the_retry(here: IdleWorld) -> None:
    run = here.create_crashed(max_retries=5)
    supervisors = [here.supervisor() for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:  # each with this thread's settings of Prefect
        looks = [pool.submit(copy_context().run, each.look) for each in supervisors]
    for look in looks:
        look.result()

    assert here.kinds(run).count(Kind.RETRY) == 1
    assert here.name_of(run) == "AwaitingRetry"


@pytest.mark.parametrize("since", [[Pending()], [Pending(), Running()]], ids=["taken", "running"])
def test_what_has_changed_since_it_was_listed_is_left_alone(
    here: IdleWorld, since: list[State[Any]]
) -> None:
    """Another supervisor or a person was quicker, and so was a worker."""
    run = here.create_crashed(max_retries=5)
    listed = here.prefect.read_flow_run(run.id)
    here.supervisor().look()
    here.set(run, *since)
    log = here.log(run)
    if len(since) > 1:
        log.attempt()
    entry = log.head().entry

    CrashedRuns(here.context()).act(listed)
    here.silent_runs().act(listed)

    assert log.head().entry == entry
    assert here.name_of(run) == since[-1].name


def test_a_retry_that_was_counted_and_not_scheduled_is_scheduled_by_another(
    here: IdleWorld,
) -> None:
    run = here.create_crashed(max_retries=5)
    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    log = here.log(run)
    log.retry(log.head(), answers=state.id.hex, reason="Crashed")  # and then it was killed
    supervisor = here.supervisor()

    supervisor.look()
    assert here.name_of(run) == "Crashed"  # the other supervisor may be about to schedule it
    here.later += COLLEAGUE_ACTS
    supervisor.look()

    assert here.name_of(run) == "AwaitingRetry"
    assert here.kinds(run).count(Kind.RETRY) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Suspended(), "Suspended"),
        (Cancelling(), "Cancelled"),
        (AwaitingRetry(), "AwaitingRetry"),
        (Scheduled(name="Resuming"), "AwaitingRetry"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_crash_does_not_cover_what_was_wanted_of_the_run(
    here: IdleWorld, before: State[Any], after: str
) -> None:
    """A worker that finds a process dead reports Crashed, whatever the run's state is."""
    run = here.create(max_retries=3)
    here.set(run, Running())
    here.log(run).attempt()
    here.set(run, before, Crashed(), Crashed())
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    assert here.name_of(run) == after
    assert Kind.RETRY not in here.kinds(run)


def test_a_process_that_died_as_it_started_does_not_cover_a_pause(here: IdleWorld) -> None:
    """It set Running over the pause, and was to set the pause again."""
    run = here.create(max_retries=3)
    here.set(run, Running(), AwaitingRetry(), Suspended(message="Wait"), Running(), Crashed())
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    assert here.name_of(run) == "Suspended"


# ---------------------------------------------------------------------- silence


def test_heartbeats_of_who_knows_what_do_no_harm(here: IdleWorld) -> None:
    run, began = here.create(), datetime.now(UTC)
    for resource in ("prefect.flow-run.nonsense", "somebody.else", "prefect.flow-run."):
        emit_event(HEARTBEAT, resource={"prefect.resource.id": resource})
    beat_of_run(run.id, "alive")

    def heard() -> bool:
        return run.id in Heartbeats.since(here.prefect, began).runs

    eventually(heard, "its heartbeat is kept")


def test_silence_is_a_crash_and_heartbeats_are_life(here: IdleWorld) -> None:
    dead, alive = here.create(max_retries=1), here.create(max_retries=1)
    for run in (dead, alive):
        here.set(run, Running())
        here.log(run).attempt()
    supervisor = here.supervisor()

    def look() -> bool:
        beat_of_run(alive.id, "alive")
        supervisor.look()
        return here.name_of(dead) == "Crashed"

    eventually(look, "the silent run is declared crashed")

    assert here.name_of(alive) == "Running"
    crash = here.log(dead).head().entry
    assert crash.kind is Kind.CRASH
    assert crash.dead_seconds > SILENCE.total_seconds()
    execution = here.executions.get(f"exec_{dead.id.hex}")
    assert execution.prefect.state_name == "Crashed"
    assert execution.elapsed_seconds < 8  # the silence before the crash does not count


def test_an_entry_in_the_log_is_life(here: IdleWorld) -> None:
    """Whatever has become of the events of the process."""
    run = here.create(max_retries=1)
    here.set(run, Running())
    log = here.log(run)
    head = log.attempt()
    silent = here.silent_runs()

    here.later = SILENCE * 2
    log.checkpoint(head, b"{}")  # at this later time
    silent.act(here.prefect.read_flow_run(run.id))

    assert here.name_of(run) == "Running"


def test_a_flow_that_is_no_execution_lives_as_long_as_prefect_sees_it(here: IdleWorld) -> None:
    """It sends no heartbeats of ours; Prefect sends its own."""
    long = 2 * PREFECT_SILENCE
    here.later = -long
    new, alive, dead = (here.create(max_retries=1) for _ in range(3))
    here.later = timedelta(0)
    for run in (new, alive, dead):
        here.set(run, Running())
    resource = {"prefect.resource.id": f"prefect.flow-run.{alive.id}"}
    emit_event(PREFECT_HEARTBEAT, resource=resource)
    began = datetime.now(UTC) - PREFECT_SILENCE
    eventually(
        lambda: last_beat_of_prefect(here.prefect, alive.id, began) > began, "the beat is kept"
    )
    silent = here.silent_runs()

    for run, running_for in ((new, 3 * SILENCE), (alive, long), (dead, long)):
        read = here.prefect.read_flow_run(run.id)
        assert read.state is not None
        read.state.timestamp = here.clock() - running_for
        silent.act(read)

    assert [here.name_of(run) for run in (new, alive, dead)] == ["Running", "Running", "Crashed"]


def test_a_retry_that_a_process_counted_before_it_died_is_counted_once(here: IdleWorld) -> None:
    run = here.create(max_retries=1)
    here.set(run, Running())
    log = here.log(run)
    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    log.retry(log.attempt(), answers=state.id.hex, reason="RuntimeError")  # and then it was killed
    supervisor = here.supervisor()

    eventually(lambda: supervisor.look() or here.name_of(run) == "Crashed", "it is crashed")
    here.later = timedelta(seconds=20)
    supervisor.look()

    assert here.name_of(run) == "AwaitingRetry"
    assert log.head().entry.retries == 1


def test_a_supervisor_that_hears_nothing_judges_nobody(here: IdleWorld) -> None:
    """Prefect keeps no heartbeats while its server is away, so all runs seem dead."""
    run = here.create()
    here.set(run, Running())
    here.log(run).attempt()
    here.later = timedelta(hours=1)  # its own heartbeats are too old by then

    here.supervisor().look()

    assert here.name_of(run) == "Running"


# ---------------------------------------------------------------------- half-done starts


def test_a_half_made_execution_is_released(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, creating())
    here.later = timedelta(seconds=61)

    here.supervisor().look()

    assert here.name_of(run) == "Scheduled"


def test_an_execution_that_was_never_made_is_removed(here: IdleWorld) -> None:
    run = here.create()
    here.store.delete(list(here.store.scan("")))
    here.set(run, creating())
    here.later = timedelta(seconds=61)

    here.supervisor().look()

    assert here.executions.flow_runs.find(run.id) is None


def test_a_run_that_is_being_made_is_left_alone(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, creating())
    here.later = timedelta(seconds=50)

    here.supervisor().look()

    assert here.name_of(run) == CREATING


def test_a_run_that_never_began_is_scheduled_again(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, Pending())
    supervisor = here.supervisor()

    here.later = timedelta(seconds=50)
    supervisor.look()
    assert here.name_of(run) == "Pending"
    here.later = timedelta(seconds=70)
    supervisor.look()

    assert here.name_of(run) == "Scheduled"


# ---------------------------------------------------------------------- agents outside Prefect


def agent(here: IdleWorld, **config: Any) -> FlowRun:
    """A run of an agent outside Prefect, in its first attempt."""
    execution, _ = Creation(here.executions).create(name="task", config=ExecutionConfig(**config))
    return here.prefect.read_flow_run(execution.prefect.flow_run_id)


@pytest.mark.parametrize(
    ("config", "silence"),
    [
        ({"checkpoint_interval_seconds": 60}, 180),
        ({}, 900),
        ({"checkpoint_interval_seconds": 1}, 10),
    ],
    ids=str,
)
def test_an_agent_that_is_silent_for_three_intervals_has_crashed(
    here: IdleWorld, config: dict[str, Any], silence: float
) -> None:
    run = agent(here, **config)
    duty = here.silent_runs()

    here.later = timedelta(seconds=silence - 5)
    duty.act(run)
    assert here.name_of(run) == "Running"
    assert duty.alive_until[run.id] > here.clock()

    here.later = timedelta(seconds=silence + 5)
    duty.act(run)
    assert here.name_of(run) == "Crashed"
    assert here.kinds(run) == [Kind.CREATED, Kind.ATTEMPT, Kind.CRASH]
    execution = here.executions.get(f"exec_{run.id.hex}")
    assert execution.elapsed_seconds < 60  # the silence is no active time


def test_a_checkpoint_is_a_sign_of_life(here: IdleWorld) -> None:
    run = agent(here, checkpoint_interval_seconds=60)
    here.later = timedelta(seconds=170)
    here.executions.checkpoint(f"exec_{run.id.hex}", state=1, attempt=1)
    here.later = timedelta(seconds=300)

    here.silent_runs().act(run)

    assert here.name_of(run) == "Running"


def test_a_silent_agent_is_looked_at_again_when_its_time_is_over(here: IdleWorld) -> None:
    run = agent(here, checkpoint_interval_seconds=60)
    heartbeat = here.heard_supervisor().heartbeat
    duty = SilentRuns(here.context(), heartbeat)
    here.later = timedelta(seconds=30)
    heartbeat.send()

    now = here.clock()
    first = [each.id for each in duty.due(now)]
    duty.act(run)
    second = [each.id for each in duty.due(now)]

    assert run.id not in second
    assert first in ([], [run.id])  # as soon as Prefect no longer counts its first heartbeat


def test_a_completion_that_was_left_half_done_is_finished(here: IdleWorld) -> None:
    run = agent(here, checkpoint_interval_seconds=1)
    log = here.log(run)
    log.result(log.living_head(), {"found": 1})
    here.later = timedelta(seconds=60)

    here.silent_runs().act(run)

    assert here.name_of(run) == "Completed"
    assert here.executions.get(f"exec_{run.id.hex}").result == {"found": 1}


def test_an_agent_that_crashed_is_tried_again_while_there_are_retries(here: IdleWorld) -> None:
    run = agent(here, checkpoint_interval_seconds=1, max_retries=1)
    here.later = timedelta(seconds=60)
    here.silent_runs().act(run)
    here.later = timedelta(seconds=90)

    here.supervisor().look()

    assert here.name_of(run) == "AwaitingRetry"
    assert here.kinds(run)[-2:] == [Kind.CRASH, Kind.RETRY]
