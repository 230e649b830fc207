"""The supervisor's duties, on a real Prefect server; the store is in memory, time is the test's."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Crashed,
    Pending,
    Running,
    Scheduled,
    Suspended,
)

from prefect_executions.errors import (
    CorruptEntry,
    ExecutionConflict,
    PrefectUnavailable,
    StoreUnavailable,
)
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack, free_ports
from prefect_executions.log.entry import Kind
from prefect_executions.models import ExecutionConfig, OnTimeout
from prefect_executions.prefect.artifacts import PageArtifact
from prefect_executions.prefect.events import HEARTBEAT, Heartbeats, beat_of_run, beat_of_supervisor
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import (
    Form,
    asks_for_checkpoint,
    lacks_form,
    pause_key,
    paused,
    question_key,
    save_form,
)
from prefect_executions.prefect.states import CREATING, state_of
from prefect_executions.prefect.suspension import hold
from prefect_executions.prefect.tags import DELETING
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.supervisor.supervisor import COLLEAGUE_ACTS, Supervisor, supervise
from world import eventually

SILENCE = timedelta(seconds=10)


@flow
def nothing(n: int = 0) -> None:
    """A deployment needs a flow; no worker takes it."""


class World:
    """Executions whose flow runs no worker takes, and the clock of those who look after them."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.store = MemoryObjects()
        self.later = timedelta(0)
        flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(self.store, flow_runs, clock=self.clock)
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = str(prefect.create_deployment(flow_id, "idle"))

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.later

    def supervisor(self) -> Supervisor:
        settings = ExecutionsSettings(
            heartbeat_seconds=1, silence_seconds=SILENCE.total_seconds(), pending_seconds=60
        )
        return Supervisor(self.executions, self.prefect, settings, clock=self.clock)

    def create(self, **config: Any) -> FlowRun:
        execution, _ = Creation(self.executions).create(
            name="task", deployment=self.deployment, config=ExecutionConfig(**config)
        )
        return self.prefect.read_flow_run(execution.prefect.flow_run_id)

    def set(self, run: FlowRun, *states: State[Any]) -> None:
        for state in states:
            self.prefect.set_flow_run_state(run.id, state, force=True)

    def name_of(self, run: FlowRun) -> str | None:
        state = self.prefect.read_flow_run(run.id).state
        assert state is not None
        return state.name

    def kinds(self, run: FlowRun) -> list[Kind]:
        history = self.executions.log(f"exec_{run.id.hex}").read(checkpoints=None)
        return [history.entries[seq].kind for seq in sorted(history.entries)]

    def log(self, run: FlowRun) -> Any:
        return self.executions.log(f"exec_{run.id.hex}")


@pytest.fixture
def here(stack: Stack) -> Iterator[World]:
    with get_client(sync_client=True) as client:
        yield World(client)


def crashed(here: World, **config: Any) -> FlowRun:
    """A run whose first attempt has crashed, long enough ago."""
    run = here.create(**config)
    here.set(run, Running())
    here.log(run).attempt()
    here.set(run, Crashed(message="Its process was killed"))
    here.later = timedelta(seconds=20)
    return run


# ---------------------------------------------------------------------- crashes


def test_a_crash_is_left_to_settle(here: World) -> None:
    """The process worker reports it twice; the second report would hit the new attempt."""
    run = crashed(here, max_retries=3)
    here.later = timedelta(seconds=5)

    here.supervisor().look()

    assert here.name_of(run) == "Crashed"


def test_a_crashed_run_is_tried_again_while_there_are_retries(here: World) -> None:
    run = crashed(here, max_retries=1, retry_delay_seconds=300)
    supervisor = here.supervisor()

    supervisor.look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("AwaitingRetry", "Retry 1 of 1 after a crash")
    assert state.state_details.scheduled_time is not None
    assert state.state_details.scheduled_time > datetime.now(UTC) + timedelta(seconds=250)
    assert here.kinds(run) == [Kind.CREATED, Kind.ATTEMPT, Kind.RETRY]

    here.set(run, Pending(), Running(), Crashed())
    supervisor.look()

    assert here.name_of(run) == "Crashed"
    assert here.kinds(run).count(Kind.RETRY) == 1


def test_the_flow_s_own_settings_count_where_the_execution_has_none(here: World) -> None:
    run = here.create()
    here.set(run, Running())
    here.log(run).attempt(config=ExecutionConfig(max_retries=1).model_dump(mode="json"))
    here.set(run, Crashed())
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    assert here.name_of(run) == "AwaitingRetry"


def test_a_run_that_died_before_its_first_attempt_is_started_again_three_times(
    here: World,
) -> None:
    """What the flow's own settings say, nobody knows before it has begun once."""
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

    assert here.name_of(run) == "Crashed"


def test_it_waits_for_a_prefect_that_is_away_when_it_starts(stack: Stack) -> None:
    stop = Event()
    url = f"http://127.0.0.1:{free_ports(1)}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        thread = Thread(target=copy_context().run, args=(supervise, stop))
        thread.start()
    thread.join(1)

    assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_of_several_supervisors_one_counts_the_retry(here: World) -> None:
    run = crashed(here, max_retries=5)
    supervisors = [here.supervisor() for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:  # each with this thread's settings of Prefect
        looks = [pool.submit(copy_context().run, each.look) for each in supervisors]
    for look in looks:
        look.result()

    assert here.kinds(run).count(Kind.RETRY) == 1
    assert here.name_of(run) == "AwaitingRetry"


@pytest.mark.parametrize("since", [[Pending()], [Pending(), Running()]], ids=["taken", "running"])
def test_what_has_changed_since_it_was_listed_is_left_alone(
    here: World, since: list[State[Any]]
) -> None:
    """Another supervisor was quicker, or a person, and a worker too."""
    run = crashed(here, max_retries=5)
    listed = here.prefect.read_flow_run(run.id)
    one, other = here.supervisor(), here.supervisor()
    one.look()
    here.set(run, *since)
    log = here.log(run)
    if len(since) > 1:
        log.attempt()
    entry = log.head().entry

    other._recover(listed, here.clock())
    other._bury(listed)

    assert log.head().entry == entry
    assert here.name_of(run) == since[-1].name


def test_a_retry_that_was_counted_and_not_scheduled_is_scheduled_by_another(here: World) -> None:
    run = crashed(here, max_retries=5)
    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    log = here.log(run)
    log.retry(log.head(), answers=state.id.hex, reason="Crashed")  # and then it was killed
    supervisor = here.supervisor()

    supervisor.look()
    assert here.name_of(run) == "Crashed"  # it may be about to
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
    here: World, before: State[Any], after: str
) -> None:
    """A worker that finds a process dead says Crashed whatever the run's state is."""
    run = here.create(max_retries=3)
    here.set(run, Running())
    here.log(run).attempt()
    here.set(run, before, Crashed(), Crashed())
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    assert here.name_of(run) == after
    assert Kind.RETRY not in here.kinds(run)


def test_one_damaged_log_is_not_in_the_others_way(here: World) -> None:
    first, second = crashed(here, max_retries=1), crashed(here, max_retries=1)
    [newest, *_] = here.store.scan(f"{first.id.hex[-2:]}/exec_{first.id.hex}/")
    here.store.delete([newest])
    here.store.create(newest, b"damaged")
    with pytest.raises(CorruptEntry):
        here.log(first).head()

    here.supervisor().look()

    assert here.name_of(first) == "Crashed"
    assert here.name_of(second) == "AwaitingRetry"


# ---------------------------------------------------------------------- silence


def test_heartbeats_of_who_knows_what_do_no_harm(here: World) -> None:
    run, began = here.create(), datetime.now(UTC)
    for resource in ("prefect.flow-run.nonsense", "somebody.else", "prefect.flow-run."):
        emit_event(HEARTBEAT, resource={"prefect.resource.id": resource})
    beat_of_run(run.id, "alive")

    def heard() -> bool:
        return run.id in Heartbeats.since(here.prefect, began).runs

    eventually(heard, "its heartbeat is kept")


def test_silence_is_a_crash_and_heartbeats_are_life(here: World) -> None:
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
    assert execution.status == "failed"
    assert execution.elapsed_seconds < 8  # it died at once; the silence before is no time of its


def test_a_retry_that_a_process_counted_before_it_died_is_counted_once(here: World) -> None:
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


def test_a_supervisor_that_hears_nothing_judges_nobody(here: World) -> None:
    """Heartbeats are not kept while Prefect's server is away: then all seem dead."""
    run = here.create()
    here.set(run, Running())
    here.log(run).attempt()
    here.later = timedelta(hours=1)  # it does not hear itself

    here.supervisor().look()

    assert here.name_of(run) == "Running"


# ---------------------------------------------------------------------- half-done things


def test_a_half_made_execution_is_released(here: World) -> None:
    run = here.create()
    here.set(run, Pending(name=CREATING))
    here.later = timedelta(seconds=61)

    here.supervisor().look()

    assert here.name_of(run) == "Scheduled"


def test_an_execution_that_was_never_made_is_removed(here: World) -> None:
    run = here.create()
    here.store.delete(list(here.store.scan("")))
    here.set(run, Pending(name=CREATING))
    here.later = timedelta(seconds=61)

    here.supervisor().look()

    assert here.executions.flow_runs.find(run.id) is None


def test_a_run_that_is_being_made_is_left_alone(here: World) -> None:
    run = here.create()
    here.set(run, Pending(name=CREATING))
    here.later = timedelta(seconds=50)

    here.supervisor().look()

    assert here.name_of(run) == CREATING


def test_a_run_that_never_began_is_scheduled_again(here: World) -> None:
    run = here.create()
    here.set(run, Pending())
    supervisor = here.supervisor()

    here.later = timedelta(seconds=50)
    supervisor.look()
    assert here.name_of(run) == "Pending"
    here.later = timedelta(seconds=70)
    supervisor.look()

    assert here.name_of(run) == "Scheduled"


def test_a_cancellation_without_a_worker_is_ended(here: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("prefect_executions.prefect.transitions.CANCEL_ENDS", timedelta(0))
    run = here.create()
    here.set(run, Running(), Cancelling())

    here.supervisor().look()

    assert here.name_of(run) == "Cancelled"


def test_a_pause_in_the_prefect_ui_loses_its_time_out_and_gets_a_form(here: World) -> None:
    run = here.create()
    expires = datetime.now(UTC) + timedelta(seconds=300)
    here.set(run, Running())
    here.executions.checkpoint(execution_id(run.id), state={"n": 1}, label="first")
    here.set(run, Suspended(message="why", pause_expiration_time=expires))

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("Suspended", "why")
    assert state.state_details.pause_timeout is None
    assert state.state_details.pause_reschedule
    assert asks_for_checkpoint(state)
    keys = state.state_details.run_input_keyset or {}
    schema = json.loads(here.prefect.read_flow_run_input(run.id, keys["schema"]))
    offered = schema["properties"]["checkpoint"]["enum"]
    assert [choice.split(" · ")[0:2] for choice in offered[1:]] == [["ckpt_000001", "first"]]


@pytest.mark.parametrize(
    ("between", "is_then"),
    [
        ([Scheduled(name="Resuming")], "AwaitingRetry"),
        ([Scheduled(name="Resuming"), Pending()], "AwaitingRetry"),
        ([Cancelled()], "Cancelled"),
        ([Suspended(pause_key="another")], "Suspended"),
        ([Crashed()], "Suspended"),
        ([], "Suspended"),
    ],
    ids=["resumed", "taken", "cancelled", "held", "crashed", "nothing"],
)
def test_what_comes_between_a_pause_and_its_form_lasts(
    here: World, between: list[State[Any]], is_then: str
) -> None:
    """Prefect replaces any state by force; a Resume among them would be lost."""
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))
    as_it_was_read = here.prefect.read_flow_run(run.id)
    here.set(run, *between)

    hold(here.prefect, as_it_was_read, Form({"type": "object", "properties": {}}, ""))

    assert here.name_of(run) == is_then


def test_a_pause_waits_while_a_worker_is_just_taking_the_run(here: World) -> None:
    """Told that it is paused, the worker would end, and all of its flow processes with it."""
    run = here.create()
    here.set(run, Pending())
    states = iter([Pending(name="Submitting")])

    def goes_on(_: float) -> None:
        here.set(run, *([state] if (state := next(states, None)) else []))

    flow_runs = FlowRuns(here.prefect, wait=goes_on)
    flow_runs.suspend(run.id, key=pause_key(), reason=None, form=Form({"type": "object"}, ""))

    before, last = flow_runs.states(run)[-2:]
    assert (before.name, last.name) == ("Submitting", "Suspended")


def test_a_resume_waits_for_the_form_of_a_pause_that_is_just_made(here: World) -> None:
    """Without it Prefect lets nothing be resumed; who polls until it is paused comes too early."""
    run = here.create()
    here.set(run, Running())
    with patch("prefect_executions.prefect.suspension.save_form"):
        run = here.executions.flow_runs.suspend(
            run.id, key=pause_key(), reason=None, form=Form({"type": "object"}, "")
        )
    state = state_of(run)
    assert lacks_form(here.prefect, run.id, state)

    def comes(_: float) -> None:
        save_form(here.prefect, run.id, state, Form({"type": "object"}, ""))

    resumed = FlowRuns(here.prefect, wait=comes).resume(run.id)

    assert state_of(resumed).is_scheduled()


def test_a_resume_of_a_pause_whose_form_does_not_come_says_so(here: World) -> None:
    run = here.create()
    here.set(run, Running(), paused(pause_key(), "why"))

    with pytest.raises(ExecutionConflict, match="try again"):
        FlowRuns(here.prefect, wait=lambda _: None).resume(run.id)


def test_a_pause_that_was_restored_without_its_form_gets_one(here: World) -> None:
    """As of a process that started, found itself suspended, and knows no log yet."""
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert asks_for_checkpoint(state)
    assert not lacks_form(here.prefect, run.id, state)


@pytest.mark.parametrize("crashes", [False, True], ids=["suspended", "and crashed"])
def test_a_flow_that_asks_for_an_input_keeps_its_question(here: World, crashes: bool) -> None:
    """Its time-out is its own, and without its keys its answer would not be found."""
    run = here.create()
    expires = datetime.now(UTC) + timedelta(seconds=3600)
    asking: State[Any] = Suspended(pause_expiration_time=expires, pause_key="key")
    asking.state_details.run_input_keyset = {"schema": "a", "response": "b"}
    here.set(run, Running())
    here.log(run).attempt()
    here.set(run, asking, *([Crashed()] if crashes else []))
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert state.name == "Suspended"
    assert state.state_details.run_input_keyset == {"schema": "a", "response": "b"}
    assert state.state_details.pause_key == "key"
    assert state.state_details.pause_timeout is not None


def test_a_half_done_deletion_is_finished(here: World) -> None:
    run = here.create()
    here.executions.flow_runs.mark_deleting(run)

    here.supervisor().look()

    assert here.executions.flow_runs.find(run.id) is None
    assert list(here.store.scan("")) == []


def test_a_dead_run_with_a_tombstone_is_deleted(here: World) -> None:
    """Its deletion died between the tombstone and the end of its process."""
    run = crashed(here)
    here.log(run).delete()
    supervisor = here.supervisor()

    supervisor.look()
    assert DELETING in here.prefect.read_flow_run(run.id).tags
    supervisor.look()

    assert here.executions.flow_runs.find(run.id) is None
    assert list(here.store.scan("")) == []


def test_runs_in_other_stores_are_others_business(here: World) -> None:
    run = crashed(here, max_retries=1)
    stranger = World(here.prefect)
    stranger.later = here.later

    stranger.supervisor().look()

    assert here.name_of(run) == "Crashed"


def test_without_prefect_it_tries_again_later(here: World) -> None:
    nowhere = SyncPrefectClient("http://127.0.0.1:9/api")
    executions = Executions(here.store, FlowRuns(nowhere))

    Supervisor(executions, nowhere, ExecutionsSettings()).look()


# ---------------------------------------------------------------------- pauses


def paused_until(here: World, on_timeout: OnTimeout) -> FlowRun:
    run = here.create()
    here.set(run, Running())
    until = datetime.now(UTC) + timedelta(seconds=30)
    here.executions.pause(execution_id(run.id), until=until, on_timeout=on_timeout)
    return run


@pytest.mark.parametrize(
    ("on_timeout", "name"),
    [
        (OnTimeout.RESUME, "Resuming"),
        (OnTimeout.FAIL, "Failed"),
        (OnTimeout.TERMINATE, "Cancelled"),
    ],
)
def test_a_pause_ends_when_its_time_has_come_and_not_before(
    here: World, on_timeout: OnTimeout, name: str
) -> None:
    run = paused_until(here, on_timeout)
    here.supervisor().look()
    assert here.name_of(run) == "Suspended"

    here.later = timedelta(seconds=31)
    here.supervisor().look()
    here.supervisor().look()

    assert here.name_of(run) == name
    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    if on_timeout is not OnTimeout.RESUME:
        assert "Nobody resumed it until" in (state.message or "")


def test_who_resumes_in_time_hears_no_more_of_the_deadline(here: World) -> None:
    run = paused_until(here, OnTimeout.FAIL)
    here.executions.resume(execution_id(run.id))
    here.set(run, Running(), Suspended())  # and another pause, without a deadline
    here.later = timedelta(seconds=31)

    here.supervisor().look()

    assert here.name_of(run) == "Suspended"


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("saved", [False, True], ids=["nothing of it", "half of it"])
def test_a_pause_whose_form_was_never_saved_gets_one(here: World, asks: bool, saved: bool) -> None:
    """Whoever made it has died in between; Prefect would refuse to resume it."""
    run = here.create()
    here.set(run, Running())
    lost = paused(question_key() if asks else pause_key(), "why")
    here.prefect.set_flow_run_state(run.id, lost)
    refused = here.prefect.resume_flow_run(run.id)
    assert refused.status is SetStateStatus.REJECT
    if saved:
        keys = lost.state_details.run_input_keyset or {}
        here.prefect.create_flow_run_input(run.id, keys["description"], '"why"')

    here.supervisor().look()
    keys = here.prefect.read_flow_run(run.id).state.state_details.run_input_keyset  # type: ignore[union-attr]
    schema = here.prefect.read_flow_run_input(run.id, keys["schema"])

    assert ("latest" in schema) is not asks
    assert here.prefect.resume_flow_run(run.id).status is SetStateStatus.ACCEPT


# ---------------------------------------------------------------------- agents outside Prefect


def agent(here: World, **config: Any) -> FlowRun:
    """A run of an agent outside Prefect, in its first attempt."""
    execution, _ = Creation(here.executions).create(name="task", config=ExecutionConfig(**config))
    return here.prefect.read_flow_run(execution.prefect.flow_run_id)


def heard(here: World) -> Supervisor:
    """A supervisor that has heard its own heartbeats for long enough to judge."""
    supervisor = here.supervisor()
    beat_of_supervisor(supervisor.id)
    eventually(
        lambda: (
            supervisor.id in Heartbeats.since(here.prefect, datetime.now(UTC) - SILENCE).supervisors
        ),
        "its heartbeat is kept",
    )
    supervisor._heard_since = datetime.now(UTC) - 10 * SILENCE
    return supervisor


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
    here: World, config: dict[str, Any], silence: float
) -> None:
    run = agent(here, **config)
    supervisor = here.supervisor()

    here.later = timedelta(seconds=silence - 5)
    supervisor._bury(run)
    assert here.name_of(run) == "Running"
    assert supervisor._due[run.id] > here.clock()

    here.later = timedelta(seconds=silence + 5)
    supervisor._bury(run)
    assert here.name_of(run) == "Crashed"
    assert here.kinds(run) == [Kind.CREATED, Kind.ATTEMPT, Kind.CRASH]
    told = here.executions.get(f"exec_{run.id.hex}")
    assert told.elapsed_seconds < 60  # the silence is no active time


def test_a_checkpoint_is_a_sign_of_life(here: World) -> None:
    run = agent(here, checkpoint_interval_seconds=60)
    here.later = timedelta(seconds=170)
    here.executions.checkpoint(f"exec_{run.id.hex}", state=1, attempt=1)
    here.later = timedelta(seconds=300)

    here.supervisor()._bury(run)

    assert here.name_of(run) == "Running"


def test_a_silent_agent_is_looked_at_again_when_its_time_is_over(here: World) -> None:
    run = agent(here, checkpoint_interval_seconds=60)
    supervisor = heard(here)
    here.later = timedelta(seconds=30)
    beat_of_supervisor(supervisor.id)

    now = here.clock()
    first = [each.id for each in supervisor._silent(now)]
    supervisor._bury(run)
    second = [each.id for each in supervisor._silent(now)]

    assert run.id not in second
    assert first in ([], [run.id])  # as soon as its first heartbeat is over


def test_a_completion_that_was_left_half_done_is_finished(here: World) -> None:
    run = agent(here, checkpoint_interval_seconds=1)
    log = here.log(run)
    log.result(log.living_head(), {"found": 1})
    here.later = timedelta(seconds=60)

    here.supervisor()._bury(run)

    assert here.name_of(run) == "Completed"
    assert here.executions.get(f"exec_{run.id.hex}").result == {"found": 1}


def test_an_agent_that_crashed_is_tried_again_while_there_are_retries(here: World) -> None:
    run = agent(here, checkpoint_interval_seconds=1, max_retries=1)
    supervisor = here.supervisor()
    here.later = timedelta(seconds=60)
    supervisor._bury(run)
    here.later = timedelta(seconds=90)

    supervisor.look()

    assert here.name_of(run) == "AwaitingRetry"
    assert here.kinds(run)[-2:] == [Kind.CRASH, Kind.RETRY]


# ------------------------------------------------------------------ deleted in Prefect


def test_what_was_deleted_in_prefect_is_removed_from_the_store(here: World) -> None:
    supervisor = heard(here)
    kept, removed = here.create(), here.create()
    artifact = ArtifactCreate(key="a", type="markdown", data="x", flow_run_id=removed.id)
    here.prefect.create_artifact(artifact)
    supervisor.look()

    here.prefect.delete_flow_run(removed.id)
    supervisor.look()

    assert {key.split("/")[1] for key in here.store.scan("")} == {f"exec_{kept.id.hex}"}
    filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[removed.id]))
    assert here.prefect.read_artifacts(artifact_filter=filter_) == []


def test_one_that_comes_while_another_goes_hides_it_for_a_minute_at_most(here: World) -> None:
    supervisor = heard(here)
    removed = here.create()
    supervisor.look()

    here.prefect.delete_flow_run(removed.id)
    kept = here.create()
    supervisor.look()
    here.later = timedelta(seconds=60)
    supervisor.look()

    assert {key.split("/")[1] for key in here.store.scan("")} == {f"exec_{kept.id.hex}"}


def test_what_could_not_be_removed_is_removed_later(here: World, monkeypatch: Any) -> None:
    supervisor = heard(here)
    removed = here.create()
    supervisor.look()
    here.prefect.delete_flow_run(removed.id)

    def refuse(_: Any) -> None:
        raise StoreUnavailable("delete", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(here.store, "delete", refuse)
        supervisor.look()
    assert list(here.store.scan(""))
    supervisor.look()

    assert list(here.store.scan("")) == []


def test_what_is_gone_before_its_first_heartbeat_is_heard_is_not_removed(here: World) -> None:
    """The database may have been replaced meanwhile; nothing tells that it was not."""
    supervisor = here.supervisor()
    run = here.create()
    supervisor.look()
    here.prefect.delete_flow_run(run.id)
    supervisor.look()

    eventually(lambda: supervisor._own_beat or supervisor.look(), "it has heard itself")
    supervisor.look()
    supervisor.look()

    assert here.log(run).exists()


def test_what_a_restored_database_does_not_know_of_is_not_removed(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = heard(here)
    forgotten, later = here.create(), here.create()
    supervisor.look()

    supervisor.id = uuid4().hex  # whose heartbeats this database has never had
    here.prefect.delete_flow_run(forgotten.id)
    supervisor.look()
    supervisor.look()

    assert "is not as it was" in caplog.text
    assert here.log(forgotten).exists()
    supervisor = heard(here)
    supervisor.look()
    here.prefect.delete_flow_run(later.id)
    supervisor.look()
    assert not here.log(later).exists()
    assert here.log(forgotten).exists()


def test_a_cancellation_that_is_reported_twice_does_not_cover_a_retry(here: World) -> None:
    """By a worker on a busy machine, over some seconds."""
    told = "Flow run was cancelled successfully."
    run = here.create()
    here.set(run, Running(), Cancelling(), Cancelled(message=told), AwaitingRetry(message="go on"))
    here.set(run, Pending(), Crashed(message="status code: -15"), Cancelled(message=told))
    other = here.create()
    here.set(other, Running(), Cancelling(), Cancelled(message=told), AwaitingRetry())
    here.set(other, Running(), Cancelling(), Cancelled(message=told))

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("AwaitingRetry", "go on")
    here.set(run, Cancelled(message=told))
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
def test_a_cancellation_that_is_meant_stays(here: World, states: list[State[Any]]) -> None:
    run = here.create()
    here.set(run, *(state.model_copy(deep=True) for state in states))

    here.supervisor().look()

    assert here.name_of(run) == "Cancelled"


def test_a_look_that_takes_long_makes_nobody_deaf(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own heartbeats come from beside it."""
    supervisor, looks = here.supervisor(), []

    def look() -> None:
        eventually(lambda: len(beats) > len(looks) + 1, "it beats while it looks")
        looks.append(1)

    beats: list[str] = []
    monkeypatch.setattr("prefect_executions.supervisor.supervisor.beat_of_supervisor", beats.append)
    monkeypatch.setattr(supervisor, "look", look)

    supervisor.watch(lambda _: len(looks) == 2)

    assert set(beats) == {supervisor.id}


def test_a_pause_that_has_its_form_is_left_alone(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))
    supervisor = here.supervisor()
    supervisor.look()
    here.later = timedelta(minutes=11)
    supervisor.look()
    asked = []
    complete = "prefect_executions.supervisor.supervisor.complete_pause"
    monkeypatch.setattr(complete, lambda *of: asked.append(of))

    here.later = timedelta(minutes=13)
    supervisor.look()

    assert not asked


def test_one_run_that_makes_trouble_is_not_in_the_others_way(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [here.create() for _ in range(3)]
    for run in runs:
        here.set(run, Running(), Cancelling())
    here.later = timedelta(seconds=61)
    end = here.executions.flow_runs.end_cancelling
    asked = []

    def refuse_first(run: FlowRun) -> FlowRun:
        asked.append(run.id)
        if len(asked) == 1:
            raise PrefectUnavailable("422: it does not like this one")
        return end(run)

    monkeypatch.setattr(here.executions.flow_runs, "end_cancelling", refuse_first)
    here.supervisor().look()

    assert len(set(asked)) == 3


def test_the_page_of_a_run_that_was_killed_tells_that_it_has_ended(here: World) -> None:
    run = here.create()
    here.set(run, Running(), Cancelled())

    here.supervisor().look()

    assert PageArtifact(here.prefect, run.id).find() == "terminated"
