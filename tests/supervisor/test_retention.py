"""What is removed by and by, and what a store has that Prefect knows nothing of."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed, Running, Suspended

from prefect_executions.blocks.store import ExecutionStore, load_store
from prefect_executions.cli import main
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.models import ExecutionConfig
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.supervisor.orphans import Orphans
from prefect_executions.supervisor.retention import Retention
from prefect_executions.supervisor.supervisor import Supervisor

HOUR = timedelta(hours=1)


class World:
    """Executions that no worker takes, and the clock of who removes what is old."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.later = timedelta(0)
        flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(MemoryObjects(), flow_runs)
        self.creations = Creation(self.executions)
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = str(prefect.create_deployment(flow_id, "idle"))

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.later

    def create(self, saved: int = 30, *states: State[Any], **config: Any) -> FlowRun:
        execution, _ = self.creations.create(
            name="task", deployment=self.deployment, config=ExecutionConfig(**config)
        )
        run_id = execution.prefect.flow_run_id
        self.prefect.set_flow_run_state(run_id, Running(), force=True)
        for n in range(saved):
            self.executions.checkpoint(
                execution.id, state={"n": n}, label=None if n % 10 else "tenth"
            )
        for state in states:
            self.prefect.set_flow_run_state(run_id, state, force=True)
        return self.prefect.read_flow_run(run_id)

    def retention(self, **default: Any) -> Retention:
        return Retention(self.executions, ExecutionConfig(**default), clock=self.clock)

    def tidy(self, retention: Retention) -> None:
        for run in retention.due():
            retention.apply(run)

    def checkpoints(self, run: FlowRun) -> list[int]:
        return [
            checkpoint.state["n"]
            for checkpoint in self.executions.get(
                execution_id(run.id), checkpoints=None
            ).checkpoints
        ]


@pytest.fixture
def here(stack: Stack) -> Iterator[World]:
    with get_client(sync_client=True) as client:
        yield World(client)


def test_old_checkpoints_of_a_running_one_are_removed(here: World) -> None:
    run, other = here.create(keep_checkpoints=5), here.create()
    here.later = HOUR

    here.tidy(here.retention())

    assert here.checkpoints(run)[:5] == [29, 28, 27, 26, 25]
    assert len(here.checkpoints(run)) < 12
    assert len(here.checkpoints(other)) == 30


def test_one_that_was_paused_meanwhile_is_left_alone(here: World) -> None:
    run = here.create(keep_checkpoints=5)
    here.later = HOUR
    retention = here.retention()
    (due,) = retention.due()
    here.prefect.set_flow_run_state(run.id, Suspended(), force=True)

    assert retention.apply(due) is None

    assert len(here.checkpoints(run)) == 30


@pytest.mark.parametrize("kept", [5, None])
def test_the_store_says_it_for_those_that_do_not(here: World, kept: int | None) -> None:
    run = here.create(keep_checkpoints=kept, keep_labelled=True)
    here.later = HOUR

    here.tidy(here.retention(keep_checkpoints=20))

    left = here.checkpoints(run)
    assert left[:5] == [29, 28, 27, 26, 25]
    assert {0, 10, 20} <= set(left)
    assert set(range(10, 25)) <= set(left) if kept is None else len(left) < 15


def test_nothing_is_removed_that_has_just_changed_or_may_be_chosen(here: World) -> None:
    running = here.create(keep_checkpoints=5)
    paused = here.create(30, Suspended(), keep_checkpoints=5)
    here.tidy(here.retention())
    assert len(here.checkpoints(running)) == 30

    here.later = HOUR
    here.tidy(here.retention())

    assert len(here.checkpoints(running)) < 30
    assert len(here.checkpoints(paused)) == 30


def test_a_checkpoint_that_others_were_forked_from_stays(here: World) -> None:
    run = here.create(keep_checkpoints=1)
    root = here.executions.get(execution_id(run.id), checkpoints=None).checkpoints[-4]
    here.creations.fork(execution_id(run.id), checkpoint_id=root.id)
    here.later = HOUR

    here.tidy(here.retention())

    assert here.executions.read_checkpoint(execution_id(run.id), root.id).state == root.state
    assert len(here.checkpoints(run)) < 12


@pytest.mark.parametrize("end", [Completed(), Failed()], ids=lambda state: state.name)
def test_what_has_ended_long_ago_is_deleted(here: World, end: State[Any]) -> None:
    run = here.create(3, end, delete_after_seconds=7200)
    other = here.create(3, end)
    retention = here.retention()

    here.later = HOUR
    here.tidy(retention)
    assert here.checkpoints(run) == [2, 1, 0]
    assert list(retention.due()) == [], "they are done with until then"

    here.later = 3 * HOUR
    here.tidy(retention)

    assert here.executions.flow_runs.find(run.id) is None
    assert not here.executions.log(execution_id(run.id)).exists()
    assert here.checkpoints(other) == [2, 1, 0]


def test_one_that_goes_on_meanwhile_is_not_deleted(here: World) -> None:
    run = here.create(3, Failed(), delete_after_seconds=60)
    retention = here.retention()
    here.later = HOUR
    (due,) = retention.due()
    here.prefect.set_flow_run_state(run.id, Running(), force=True)

    assert retention.apply(due) is None

    assert here.checkpoints(run) == [2, 1, 0]


def test_a_supervisor_sees_to_it(here: World) -> None:
    run = here.create(keep_checkpoints=5)
    here.later = HOUR
    settings = ExecutionsSettings(heartbeat_seconds=1, silence_seconds=10)
    supervisor = Supervisor(here.executions, here.prefect, settings, clock=here.clock)

    supervisor.look()

    assert len(here.checkpoints(run)) < 12


def test_a_look_does_some_of_it_and_the_next_goes_on(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has died in the meantime is not to wait until all is tidy."""
    monkeypatch.setattr("prefect_executions.supervisor.supervisor.TIDYING_SECONDS", 0.0)
    runs = [here.create(keep_checkpoints=5) for _ in range(3)]
    here.later = HOUR
    settings = ExecutionsSettings(heartbeat_seconds=1, silence_seconds=10)
    supervisor = Supervisor(here.executions, here.prefect, settings, clock=here.clock)

    for done in (1, 2, 3, 3):
        supervisor.look()
        assert sum(len(here.checkpoints(run)) < 12 for run in runs) == done


# ---------------------------------------------------------------------- orphans


def test_what_prefect_does_not_know_is_found_and_removed(here: World) -> None:
    run, gone = here.create(3), here.create(3)
    here.prefect.delete_flow_run(gone.id)
    now = Orphans(here.executions).survey()
    assert (now.logs, now.known, now.orphans) == (2, 1, []), "it was written to just now"

    here.later = 2 * HOUR
    orphans = Orphans(here.executions, clock=here.clock)
    survey = orphans.survey()

    (orphan,) = survey.orphans
    assert (survey.logs, survey.known) == (2, 1)
    assert (orphan.execution_id, orphan.entries) == (execution_id(gone.id), 4)
    assert orphan.bytes_stored > 100
    assert orphans.remove(orphan)
    assert not orphans.remove(orphan)
    assert here.checkpoints(run) == [2, 1, 0]
    assert orphans.survey().orphans == []


@pytest.fixture
def prefect(here: World) -> SyncPrefectClient:
    return here.prefect


@pytest.fixture
def store(stack: Stack) -> Iterator[ExecutionStore]:
    """A store of its own, saved."""
    name = f"gc-{uuid4().hex[:8]}"
    stack.s3.store().model_copy(update={"prefix": name}).save(name, _sync=True)
    yield load_store(name)
    ExecutionStore.delete(name)


def gc(*args: str) -> Any:
    """Run the command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["gc", *args])
    return ended.value.code


def test_the_command_lists_and_removes(
    stack: Stack,
    store: ExecutionStore,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("prefect_executions.supervisor.orphans.AGE", timedelta(0))
    executions = Executions(store.objects(), FlowRuns(prefect, store=f"{store.name}"))
    known, gone = (Creation(executions).create(name="task")[0] for _ in range(2))
    prefect.delete_flow_run(gone.prefect.flow_run_id)

    assert gc("--store", f"{store.name}", "--dry-run", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["execution_id"] == gone.id
    assert executions.log(gone.id).exists()

    assert gc("--store", f"{store.name}") == 0
    assert "1 of 2 executions there have a flow run in Prefect." in capsys.readouterr().out
    assert not executions.log(gone.id).exists()
    assert executions.get(known.id).name == "task"


def test_the_command_asks_whether_it_is_the_right_prefect(
    stack: Stack,
    store: ExecutionStore,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a store that belongs to another Prefect it would remove everything."""
    monkeypatch.setattr("prefect_executions.supervisor.orphans.AGE", timedelta(0))
    executions = Executions(store.objects(), FlowRuns(prefect, store=f"{store.name}"))
    execution, _ = Creation(executions).create(name="task")
    prefect.delete_flow_run(execution.prefect.flow_run_id)

    assert gc("--store", f"{store.name}") == 1
    assert "it may not be theirs. Nothing was removed" in capsys.readouterr().err
    assert executions.log(execution.id).exists()

    assert gc("--store", f"{store.name}", "--force") == 0
    assert not executions.log(execution.id).exists()
