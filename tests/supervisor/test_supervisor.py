"""The supervisor as a whole, on a real Prefect server; the store is in memory."""

from contextvars import copy_context
from datetime import timedelta
from threading import Event, Thread

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling, Running

from idle import IdleWorld
from prefect_executions.errors import CorruptEntry, PrefectUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack, free_ports
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.supervisor.supervisor import Supervisor, supervise
from world import eventually


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


def test_without_prefect_it_tries_again_later(here: IdleWorld) -> None:
    nowhere = SyncPrefectClient("http://127.0.0.1:9/api")
    executions = Executions(here.store, FlowRuns(nowhere))

    Supervisor(executions, nowhere, ExecutionsSettings()).look()


def test_runs_in_other_stores_are_others_business(here: IdleWorld) -> None:
    run = here.create_crashed(max_retries=1)
    stranger = IdleWorld(here.prefect)
    stranger.later = here.later

    stranger.supervisor().look()

    assert here.name_of(run) == "Crashed"


def test_one_damaged_log_is_not_in_the_others_way(here: IdleWorld) -> None:
    first, second = here.create_crashed(max_retries=1), here.create_crashed(max_retries=1)
    [newest, *_] = here.store.scan(f"{first.id.hex[-2:]}/exec_{first.id.hex}/")
    here.store.delete([newest])
    here.store.create(newest, b"damaged")
    with pytest.raises(CorruptEntry):
        here.log(first).head()

    here.supervisor().look()

    assert here.name_of(first) == "Crashed"
    assert here.name_of(second) == "AwaitingRetry"


def test_one_run_that_makes_trouble_is_not_in_the_others_way(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
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


def test_a_look_that_takes_long_makes_nobody_deaf(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread sends the supervisor's heartbeats."""
    supervisor, looks = here.supervisor(), []

    def look() -> None:
        eventually(lambda: len(beats) > len(looks) + 1, "it beats while it looks")
        looks.append(1)

    beats: list[str] = []
    monkeypatch.setattr("prefect_executions.supervisor.heartbeat.beat_of_supervisor", beats.append)
    monkeypatch.setattr(supervisor, "look", look)

    supervisor.watch(lambda _: len(looks) == 2)

    assert set(beats) == {supervisor.heartbeat.id}
