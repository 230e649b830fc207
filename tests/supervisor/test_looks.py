"""What a look of the supervisor asks of Prefect, counted, and what can't be in its way."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Running, Suspended

from idle import IdleWorld
from prefect_executions.config import ExecutionConfig
from prefect_executions.supervisor.rounds import Rounds
from prefect_executions.supervisor.supervisor import Supervisor
from world import eventually

PAGE = 3


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_executions.prefect.listing.AT_ONCE", PAGE)


def requests_of(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each of the next looks sends to Prefect."""
    sent, send = [], httpx.Client.send

    def count(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        sent[-1] += 1
        return send(self, request, **options)

    with monkeypatch.context() as patched:
        patched.setattr(httpx.Client, "send", count)
        for _ in range(10):
            sent.append(0)
            supervisor.look()
    return sent


def make(here: IdleWorld, count: int) -> list[FlowRun]:
    """So many runs that are paused, as many that have crashed for good, and that have ended."""
    paused = []
    for _ in range(count):
        for end in (Completed(), Crashed(), Suspended(message="why")):
            run = here.create()
            here.set(run, Running())
            here.log(run).attempt()
            here.set(run, end)
        paused.append(run)
    return paused


def settle(here: IdleWorld, supervisor: Supervisor, looks: int) -> None:
    """Look until nothing is new, at two hours when all pauses are old."""
    for _ in range(2):
        here.later += timedelta(hours=2)  # and retention begins anew
        for _ in range(looks):
            supervisor.look()
    here.later += timedelta(hours=2)


def is_held(here: IdleWorld, run: FlowRun) -> bool:
    """Whether a pause without a form has been given one."""
    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    return bool(state.state_details.run_input_keyset)


def test_a_look_asks_as_much_of_many_that_are_as_they_were_as_of_few(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.retention = ExecutionConfig(delete_after_seconds=10**9)
    supervisor = here.heard_supervisor()
    make(here, 2 * PAGE)
    settle(here, supervisor, 12)
    few = requests_of(supervisor, monkeypatch)

    make(here, 4 * PAGE)
    settle(here, supervisor, 24)
    many = requests_of(supervisor, monkeypatch)

    assert max(many) <= max(few) <= 15


def test_a_pause_is_told_by_its_event_however_far_a_round_is(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounds, "next", lambda *_: ([], set()))
    supervisor = here.supervisor()
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))

    def look() -> bool:
        supervisor.look()
        return is_held(here, run)

    eventually(look, "the pause has its form")


def test_a_pause_whose_event_is_lost_is_found_by_the_next_round(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_executions.supervisor.pauses.changed_to", lambda *_, **__: set())
    supervisor = here.supervisor()
    paused = [here.create() for _ in range(2 * PAGE)]
    for run in paused:
        here.set(run, Running(), Suspended(message="why"))

    for _ in range(3):
        supervisor.look()

    assert all(is_held(here, run) for run in paused)


def test_a_crash_of_long_ago_is_found_by_the_next_round(here: IdleWorld) -> None:
    """As when no supervisor ran; or when it was tried in vain for some minutes."""
    crashed = [here.create_crashed(max_retries=1) for _ in range(PAGE + 1)]
    here.later = timedelta(hours=1)
    supervisor = here.supervisor()

    supervisor.look()
    supervisor.look()

    assert {here.name_of(run) for run in crashed} == {"AwaitingRetry"}


def test_a_deadline_is_remembered_until_it_comes(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.create()
    here.set(run, Running())
    until = datetime.now(UTC) + timedelta(minutes=30)
    here.executions.pause(f"exec_{run.id.hex}", until=until)
    supervisor = here.supervisor()
    supervisor.look()
    monkeypatch.setattr(Rounds, "next", lambda *_: ([], set()))

    here.later = timedelta(minutes=29)
    supervisor.look()
    assert here.name_of(run) == "Suspended"
    here.later = timedelta(minutes=31)
    supervisor.look()

    assert here.name_of(run) == "Resuming"


def test_what_was_deleted_in_prefect_is_missed_by_the_next_round(here: IdleWorld) -> None:
    supervisor = here.heard_supervisor()
    runs = [here.create() for _ in range(2 * PAGE + 1)]
    for _ in range(3):
        supervisor.look()

    here.prefect.delete_flow_run(runs[PAGE].id)
    for _ in range(6):
        supervisor.look()

    assert [here.log(run).exists() for run in runs] == [run != runs[PAGE] for run in runs]


def test_one_that_came_after_the_round_began_is_not_missing(here: IdleWorld) -> None:
    supervisor = here.heard_supervisor()
    runs = [here.create() for _ in range(2 * PAGE)]
    supervisor.look()

    runs.append(here.create())
    for _ in range(6):
        supervisor.look()

    assert all(here.log(run).exists() for run in runs)


@pytest.mark.parametrize(
    "mark",
    [
        lambda here, run: here.executions.flow_runs.mark_deleting(run),
        lambda here, run: here.set(run, Running(), Suspended(message="why")),
    ],
    ids=["deletions", "pauses"],
)
def test_a_death_waits_for_no_more_than_one_of_many_that_can_wait(
    here: IdleWorld,
    monkeypatch: pytest.MonkeyPatch,
    mark: Callable[[IdleWorld, FlowRun], None],
) -> None:
    monkeypatch.setattr("prefect_executions.supervisor.supervisor.SHARE_SECONDS", 0.0)
    # Events come late, as on a busy machine: each look finds what is on its page alone.
    monkeypatch.setattr("prefect_executions.supervisor.pauses.changed_to", lambda *_, **__: set())
    supervisor = here.supervisor()
    many = [here.create() for _ in range(PAGE)]
    for run in many:
        mark(here, run)

    def waiting() -> int:
        there = [run for run in many if here.executions.flow_runs.find(run.id)]
        return sum(not is_held(here, run) for run in there)

    for done in range(1, PAGE + 1):
        dead = here.create_crashed(max_retries=1)
        supervisor.look()
        assert here.name_of(dead) == "AwaitingRetry"
        assert waiting() == PAGE - done
