"""All that was ever recorded in a log, whatever roll-backs have left."""

from hypothesis import given
from hypothesis import strategies as st

from logs import ID, META, START
from prefect_executions.log.branches import all_records
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.objects import MemoryObjects

OPS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 5)),
        st.tuples(st.just("inner"), st.integers(0, 5)),
        st.tuples(st.just("save"), st.integers(0, 1)),
        st.tuples(st.just("back"), st.integers(0, 9)),
        st.tuples(st.just("by hand"), st.integers(0, 1)),
        st.tuples(st.just("claims"), st.integers(1, 9)),
    ),
    max_size=40,
)


def record(order: int, key: str, parent: int = 0) -> Record:
    return Record(
        order=order,
        parent=parent,
        key=key,
        step="a step",
        at=START,
        outcome=Outcome.DONE,
        result=b'"%s"' % key.encode(),
    )


@given(OPS, st.integers(0, 9))
def test_every_call_that_ever_returned_is_there_once(ops: list[tuple[str, int]], base: int) -> None:
    log = ExecutionLog(MemoryObjects(), ID)
    log.create(META, b"{}")
    head = log.attempt()
    checkpoints, ever = [0], set()
    for op, value in ops:
        standing = {known.key: known for known in head.records().values()}
        order = max((known.order for known in standing.values()), default=0) + 1
        parent = standing.get(f"{value}")
        if op == "step" and parent is None:
            head = log.record(head, [record(order, f"{value}")])
            ever.add((None, f"{value}"))
        elif op == "inner" and parent is not None and f"in {value}" not in standing:
            head = log.record(head, [record(order, f"in {value}", parent.order)])
            ever.add((f"{value}", f"in {value}"))
        elif op == "save":
            head = log.checkpoint(head, b"[%d]" % head.entry.seq)
            checkpoints.append(head.entry.seq)
        elif op == "claims":
            log._claim(head.entry.attempt, fence=False)
            head = log.head()
        elif op in ("back", "by hand"):
            head = log.rollback(checkpoints[value % len(checkpoints)])
            if op == "by hand":
                head = log.checkpoint(head, b"{}", by="hand")
                checkpoints.append(head.entry.seq)
            head = log.attempt()

    at = log.at_checkpoint(checkpoints[base % len(checkpoints)])
    found = all_records(log, at, log.head())

    by_order = {known.order: known for known in found}
    assert len(by_order) == len(found)
    assert {(by_order[r.parent].key if r.parent else None, r.key) for r in found} == ever
    assert all(r.parent < r.order for r in found)
    assert [known for known in found if known in at.records().values()] == [*at.records().values()]
