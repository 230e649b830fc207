"""What was done is saved as a flow leaves, though the store is away; or the flow says so."""

from typing import Any

import pytest
from prefect import flow

from memory import Count, entries_of
from prefect_executions import execution, step
from prefect_executions.local import Stack
from prefect_executions.log.journal import decode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.testkit import MemoryStore
from stores import Fault, Faulty

DURABILITIES = pytest.mark.parametrize("durability", ["sync", "async", "exit"])
seen: list[str] = []


@step
def double(n: int) -> int:
    return 2 * n


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PAUSE", 0.01)
    seen.clear()


def failing(
    store: MemoryStore, objects: Faulty, durability: Any, faults: list[Fault]
) -> BaseException:
    """What a flow fails with whose store goes away just before."""

    @flow
    @execution(state=Count, store=store, durability=durability)
    def fails() -> None:
        run = execution.current(Count)
        seen.append(run.id)
        run.state.n = double(3)
        run.publish()
        objects.faults = faults
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck") as failure:
        fails()
    objects.faults = []
    return failure.value


@DURABILITIES
def test_a_store_that_is_away_as_the_flow_fails_is_waited_for(
    quick: None, stack: Stack, store: MemoryStore, objects: Faulty, durability: str
) -> None:
    failure = failing(store, objects, durability, [Fault.LOST] * 5)

    head = ExecutionLog(objects, seen[0]).head()
    assert head.state == b'{"n":6}'
    assert len(decode(head.journal)) == 1
    assert not hasattr(failure, "__notes__")


@DURABILITIES
def test_a_flow_whose_store_stays_away_says_what_is_lost(
    quick: None,
    stack: Stack,
    store: MemoryStore,
    objects: Faulty,
    durability: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PATIENCE", 0.05)

    failure = failing(store, objects, durability, [Fault.LOST] * 10_000)

    assert [entry.kind for entry in entries_of(objects, seen[0])][-1] != "checkpoint"
    (note,) = failure.__notes__
    assert "since the last save could not be saved" in note
    assert "connection reset" in note
