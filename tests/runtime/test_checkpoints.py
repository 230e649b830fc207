"""Waiting for a store: one that is away, or whose answers are lost, and not one that refuses."""

import pytest
from prefect import flow

from memory import Count, kinds
from prefect_executions import execution
from prefect_executions.errors import StoreRefused
from prefect_executions.local import Stack
from prefect_executions.runtime import checkpoints
from prefect_executions.runtime.checkpoints import patiently
from prefect_executions.testkit import MemoryStore
from stores import Fault, Faulty


def test_nobody_waits_for_a_store_that_refuses() -> None:
    asked = []

    def ask() -> None:
        asked.append(True)
        raise StoreRefused("read", "InvalidAccessKeyId")

    with pytest.raises(StoreRefused):
        patiently(ask)

    assert len(asked) == 1


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_what_is_lost_at_the_beginning_and_at_the_end_is_stored_once(
    stack: Stack,
    store: MemoryStore,
    objects: Faulty,
    monkeypatch: pytest.MonkeyPatch,
    durability: str,
) -> None:
    """The process tries again, and finds that it had been done."""
    monkeypatch.setattr(checkpoints, "STORE_PAUSE", 0)

    @flow
    @execution(state=Count, store=store, durability=durability)
    def counts() -> str:
        run = execution.current(Count)
        run.state.n += 1
        objects.faults = [Fault.ANSWER_LOST, Fault.NONE, Fault.ANSWER_LOST]
        return run.id

    # The log of a run that was not created over REST: entry 0, then the attempt.
    objects.faults = [Fault.ANSWER_LOST, Fault.NONE]
    run_id = counts()

    assert objects.faults == []
    assert kinds(objects, run_id) == ["created", "attempt", "checkpoint", "result"]
