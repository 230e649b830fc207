"""Reading executions: pages of checkpoints, differences, costs, versions."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import jsonpatch
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.states import Completed

from prefect_executions.errors import CheckpointNotFound, CursorError
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.views import RESULTS_BYTES, patch_of
from prefect_executions.ids import checkpoint_id, flow_run_id
from prefect_executions.local import Stack
from prefect_executions.log.journal import LARGE, Outcome, Record
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)


def exact(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@given(before=JSON, after=JSON)
@example(before=[1, 2, 3], after=[True, 2.0, 3])
@example(before={"a": 1, "b": [0]}, after={"a": True, "b": [False]})
@example(before={"": {"~/": 1}}, after={"": {"~/": 2, "": 3}})
@example(before=[0], after=0)
@example(before={"a": None}, after={})
def test_a_patch_makes_one_state_of_the_other(before: Any, after: Any) -> None:
    """Exactly: 1, 1.0 and true are three values in JSON."""
    patch = patch_of(before, after)

    assert exact(jsonpatch.apply_patch(before, orjson.loads(orjson.dumps(patch)))) == exact(after)


class Read:
    def __init__(self, executions: Executions, store: Counting) -> None:
        self.executions = executions
        self.store = store
        execution, _ = Creation(executions).create(name="a", state={"n": 0})
        self.id = execution.id
        self.run_id = flow_run_id(execution.id)

    def save(self, count: int, *, steps: int = 0) -> list[str]:
        """Save checkpoints, with entries of steps before each; their ids."""
        log = self.executions.log(self.id)
        head = log.living_head()
        made = []
        for _ in range(count):
            for _ in range(steps):
                record = Record(
                    order=head.entry.seq,
                    parent=0,
                    key=uuid4().hex,
                    step="step",
                    at=head.entry.at,
                    outcome=Outcome.DONE,
                    result=b"1",
                )
                head = log.record(head, [record])
            head = log.checkpoint(head, b'{"n":%d}' % head.entry.seq)
            made.append(checkpoint_id(head.entry.seq))
        return made

    def pages(self, limit: int) -> list[list[str]]:
        told, cursor = [], None
        while True:
            page = self.executions.checkpoints(self.id, limit=limit, cursor=cursor)
            told.append([item.id for item in page.items])
            cursor = page.next_cursor
            if cursor is None:
                return told


@pytest.fixture
def read(stack: Stack) -> Iterator[Read]:
    store = Counting(MemoryObjects())
    with get_client(sync_client=True) as client:
        yield Read(Executions(store, FlowRuns(client, store=uuid4().hex)), store)


@pytest.mark.parametrize("steps", [0, 1, 40])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_checkpoints_come_page_by_page_newest_first(read: Read, limit: int, steps: int) -> None:
    made = read.save(7, steps=steps)

    told = read.pages(limit)

    assert [id_ for page in told for id_ in page] == made[::-1]
    assert all(len(page) == limit for page in told[:-1])


def test_what_is_saved_between_two_pages_moves_nothing(read: Read) -> None:
    made = read.save(4)
    first = read.executions.checkpoints(read.id, limit=2)
    read.save(3)

    second = read.executions.checkpoints(read.id, limit=2, cursor=first.next_cursor)

    assert [item.id for item in [*first.items, *second.items]] == made[::-1]


def test_an_execution_without_checkpoints_has_an_empty_page(read: Read) -> None:
    assert read.pages(5) == [[]]


def test_states_come_when_they_are_asked_for(read: Read) -> None:
    read.save(1)

    assert read.executions.checkpoints(read.id).items[0].state is None
    assert read.executions.checkpoints(read.id, states=True).items[0].state == {"n": 1}


@pytest.mark.parametrize("cursor", ["", "x", "ckpt_000077", "ckpt_000001", "ckpt_999999999"])
def test_what_is_no_cursor_of_checkpoints_is_refused(read: Read, cursor: str) -> None:
    read.save(1)

    with pytest.raises(CursorError):
        read.executions.checkpoints(read.id, cursor=cursor)


def test_a_checkpoint_is_read_with_its_state(read: Read) -> None:
    first, second = read.save(2)

    assert read.executions.read_checkpoint(read.id, first).state == {"n": 1}
    assert read.executions.read_checkpoint(read.id, second).state == {"n": 2}
    assert read.executions.read_checkpoint(read.id, "ckpt_000000").state == {"n": 0}
    with pytest.raises(CheckpointNotFound):
        read.executions.read_checkpoint(read.id, "ckpt_000001")  # an attempt


def test_the_change_between_two_checkpoints(read: Read) -> None:
    first, _ = read.save(2)

    diff = read.executions.diff(read.id, "ckpt_000000", first)

    assert diff.patch == [{"op": "replace", "path": "/n", "value": 1}]
    with pytest.raises(CheckpointNotFound):
        read.executions.diff(read.id, first, "ckpt_000009")


def test_what_an_execution_costs_is_what_is_in_the_store(read: Read) -> None:
    read.save(5)

    cost = read.executions.cost(read.id)

    assert (cost.entries, cost.puts) == (7, 7)
    assert cost.bytes_stored == sum(read.store.created)


def test_the_version_changes_with_status_and_log_and_nothing_else(read: Read) -> None:
    versions = [read.executions.version(read.id) for _ in range(2)]
    read.save(1)
    versions.append(read.executions.version(read.id))
    read.executions.flow_runs.client.set_flow_run_state(read.run_id, Completed())
    versions.append(read.executions.version(read.id))

    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
    assert read.executions.get_with_version(read.id)[1] == versions[-1]


def test_a_diff_has_the_steps_recorded_in_between(read: Read) -> None:
    first, second = read.save(2, steps=3)

    steps = read.executions.diff(read.id, first, second).steps

    assert [(it.step, it.outcome, it.result) for it in steps] == [("step", "done", 1)] * 3
    assert read.executions.diff(read.id, second, first).steps == []
    assert read.executions.diff(read.id, first, first).steps == []


def test_results_that_are_too_many_for_an_answer_are_left_out(read: Read) -> None:
    log = read.executions.log(read.id)
    head = log.living_head()
    for order, size in enumerate((RESULTS_BYTES - 10, 100, LARGE + 1, 1), 1):
        result = b'"%s"' % (b"x" * size)
        record = Record(
            order=order,
            parent=0,
            key=f"{order}",
            step=f"{order}",
            at=head.entry.at,
            outcome=Outcome.DONE,
            result=result,
        )
        head = log.record(head, [record])
    head = log.checkpoint(head, b"{}")

    steps = read.executions.diff(read.id, "ckpt_000000", checkpoint_id(head.entry.seq)).steps

    assert [step.result_left_out for step in steps] == [False, True, True, False]
    assert [step.result and len(step.result) for step in steps] == [
        RESULTS_BYTES - 10,
        None,
        None,
        1,
    ]
