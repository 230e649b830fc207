"""The first bad checkpoint, found by halving, in logs that are in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import ID, META, step_after
from prefect_executions.client import Bisection, Client, bisect
from prefect_executions.executions.views import checkpoints_of, steps_since
from prefect_executions.ids import checkpoint_id, checkpoint_seq
from prefect_executions.log.log import ExecutionLog
from prefect_executions.models import Checkpoint, CheckpointPage, Diff
from prefect_executions.serialization import dump
from prefect_executions.storage.objects import MemoryObjects


@dataclass
class Served:
    """What bisecting asks of a service, answered from a log."""

    log: ExecutionLog
    loads: int = 0

    def checkpoint_page(
        self, _: str, *, until: str | None, limit: int, states: bool
    ) -> CheckpointPage:
        self.loads += 1
        if until is None:
            history = self.log.read(checkpoints=limit)
        else:
            history = self.log.read_until(checkpoint_seq(ID, until), checkpoints=limit)
        return CheckpointPage(items=checkpoints_of(history, states=states), next_cursor=None)

    def diff(self, _: str, before: str, after: str) -> Diff:
        heads = [self.log.at_checkpoint(checkpoint_seq(ID, each)) for each in (before, after)]
        return Diff(
            execution_id=ID,
            checkpoint_id=before,
            other_id=after,
            patch=[],
            steps=steps_since(*heads),
        )


def saved(bads: list[bool], *, steps: int = 0) -> Served:
    """A log with a checkpoint for each, and entries of steps before each."""
    log = ExecutionLog(MemoryObjects(), ID)
    log.create(META, b"{}")
    head = log.attempt()
    for number, bad in enumerate(bads):
        for _ in range(steps):
            head = log.record(head, [step_after(head)])
        head = log.checkpoint(head, dump({"number": number, "bad": bad}))
    return Served(log)


def found(
    served: Served, is_bad: Callable[[Any], bool] = lambda state: state["bad"], **border: str
) -> Bisection:
    return bisect(cast("Client", served), ID, is_bad, **border)


def number(checkpoint: Checkpoint) -> int:
    return int(checkpoint.state["number"])


@given(good=st.integers(0, 70), bad=st.integers(1, 70), steps=st.integers(0, 3))
def test_the_border_is_found_wherever_it_is(good: int, bad: int, steps: int) -> None:
    served = saved([False] * good + [True] * bad, steps=steps)

    it = found(served)

    assert number(it.bad) == good
    assert (it.good is None) if good == 0 else (it.good and number(it.good) == good - 1)
    assert it.wavering == []
    assert it.loads == served.loads <= ceil(log2((good + bad) * (steps + 1) + 2)) + 2
    assert it.diff is not None
    assert it.diff.other_id == it.bad.id
    assert len(it.diff.steps) == (steps if steps and good else steps * (good + 1))


@given(bads=st.lists(st.booleans(), min_size=1, max_size=60))
def test_it_is_some_border_and_says_where_it_wavers_near_there(bads: list[bool]) -> None:
    it = found(saved([*bads, True]))

    at, all_ = number(it.bad), [*bads, True]
    assert all_[at]
    assert at == 0 or not all_[at - 1]
    otherwise = [place for place, bad in enumerate(all_) if place != at and bad is (place < at)]
    near = {checkpoint_id(2 + place) for place in otherwise if abs(place - at) <= 4}
    assert near <= {*it.wavering} <= {checkpoint_id(2 + place) for place in otherwise}


def test_it_looks_between_the_two_that_are_named() -> None:
    served = saved([True, False, False, True, True, False, False, True])

    assert number(found(served, good="ckpt_000003", bad="ckpt_000006").bad) == 3
    assert number(found(served, good="ckpt_000008").bad) == 7


def test_what_has_no_border_is_refused() -> None:
    with pytest.raises(ValueError, match="has no checkpoint"):
        found(saved([]))
    with pytest.raises(ValueError, match="ckpt_000003 is not bad"):
        found(saved([True, False]))
    with pytest.raises(ValueError, match="ckpt_000002 is bad; name"):
        found(saved([True, True]), good="ckpt_000002")
    with pytest.raises(ValueError, match="has no checkpoint ckpt_000001"):
        found(saved([True, True]), good="ckpt_000001")
    with pytest.raises(ValueError, match=r"ckpt_000002 is bad can't be said, by KeyError: 'n'"):
        found(saved([True]), lambda state: state["n"])
