"""Logs whose flow runs do not exist in Prefect, and the command that removes them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient

from idle import IdleWorld
from prefect_executions.cli import main
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.stores.store import ExecutionStore, load_store
from prefect_executions.supervisor.orphans import Orphans


def test_what_prefect_does_not_know_is_found_and_removed(here: IdleWorld) -> None:
    run, gone = here.create_saved(3), here.create_saved(3)
    here.prefect.delete_flow_run(gone.id)
    now = Orphans(here.executions).report()
    assert (now.logs, now.known, now.orphans) == (2, 1, []), "it was written to just now"

    here.later = timedelta(hours=2)
    orphans = Orphans(here.executions, clock=here.clock)
    report = orphans.report()

    (orphan,) = report.orphans
    assert (report.logs, report.known) == (2, 1)
    assert (orphan.execution_id, orphan.entries) == (execution_id(gone.id), 4)
    assert orphan.bytes_stored > 100
    assert orphans.remove(orphan)
    assert not orphans.remove(orphan)
    assert here.checkpoints(run) == [2, 1, 0]
    assert orphans.report().orphans == []


@pytest.fixture
def prefect(here: IdleWorld) -> SyncPrefectClient:
    return here.prefect


@pytest.fixture
def store(stack: Stack) -> Iterator[ExecutionStore]:
    """A saved block of a store of its own."""
    name = f"gc-{uuid4().hex[:8]}"
    stack.s3.store().model_copy(update={"prefix": name}).save(name, _sync=True)
    yield load_store(name)
    ExecutionStore.delete(name)


def gc(*args: str) -> Any:
    """Run the command and return its exit code."""
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
    (row,) = json.loads(capsys.readouterr().out)
    assert row["execution_id"] == gone.id
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
    """The command would empty a store that belongs to another Prefect."""
    monkeypatch.setattr("prefect_executions.supervisor.orphans.AGE", timedelta(0))
    executions = Executions(store.objects(), FlowRuns(prefect, store=f"{store.name}"))
    execution, _ = Creation(executions).create(name="task")
    prefect.delete_flow_run(execution.prefect.flow_run_id)

    assert gc("--store", f"{store.name}") == 1
    assert "it may not be theirs. Nothing was removed" in capsys.readouterr().err
    assert executions.log(execution.id).exists()

    assert gc("--store", f"{store.name}", "--force") == 0
    assert not executions.log(execution.id).exists()
