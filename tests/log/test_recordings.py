"""What each entry of a log has recorded itself, whatever lies between and after."""

from hypothesis import given
from hypothesis import strategies as st

from logs import ID, META, call, filled, numbered
from prefect_executions.log.entry import Kind
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.recordings import recordings
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting

OPS = st.lists(
    st.tuples(
        st.sampled_from(["steps", "save", "back", "claim", "by hand", "revise"]),
        st.integers(0, 9),
    ),
    max_size=40,
)


@given(OPS, st.integers(1, 12))
def test_every_entry_has_what_was_written_with_it(ops: list[tuple[str, int]], count: int) -> None:
    log = ExecutionLog(MemoryObjects(), ID)
    inherited = [call(1)]
    head = log.create(META, b"{}", records=inherited)
    written: dict[int, list[Record]] = {0: inherited}
    lost: dict[int, list[Record]] = {}
    head = log.attempt()
    checkpoints, order = [0], 1
    for op, value in ops:
        own = [call(order + n + 1, minute=len(written) * 10 + n) for n in range(value % 4)]
        if op == "steps":
            head = log.record(head, own)
        elif op in ("save", "by hand"):
            by = "hand" if op == "by hand" else None
            head = log.checkpoint(head, numbered(value), records=own, by=by)
            checkpoints.append(head.entry.seq)
        elif op == "claim":
            log._claim(head.entry.attempt, fence=False)
            head = log.head()
            continue
        elif op == "revise":
            head = log.revise(lambda head: (head.state, [*head.records().values()]))
            continue
        else:
            told: list[list[Record]] = []
            head = log.rollback(checkpoints[value % len(checkpoints)], tell=told.append)
            written[head.entry.seq] = []
            lost |= {head.entry.seq: told[-1]} if told else {}
            head = log.attempt()
            continue
        written[head.entry.seq] = own
        order += len(own)

    newest, found = log.require_newest(), []
    for until in range(newest, -1, -count):
        found += recordings(log, until, count)

    by_seq = {each.entry.seq: each for each in found}
    assert [each.entry.seq for each in found] == sorted(by_seq, reverse=True)
    assert not any(each.entry.kind is Kind.CLAIM for each in found)
    assert {seq: list(by_seq[seq].records) for seq in written} == written
    assert {seq: list(by_seq[seq].forgotten) for seq in lost} == lost


def test_a_call_is_open_until_more_is_recorded_of_it(log: ExecutionLog) -> None:
    head = filled(log, 1)
    begun = call(1, outcome=Outcome.BEGUN)
    head = log.record(head, [begun, call(11, outcome=Outcome.BEGUN)])

    (before,) = recordings(log, head.entry.seq, 1)
    head = log.record(head, [call(1)])
    after, same = recordings(log, head.entry.seq, 2)

    assert before.open == {1, 11}
    assert (after.open, same.open) == ({1}, {11})


def test_a_page_takes_as_many_requests_however_long_the_log_is(
    log: ExecutionLog, store: Counting
) -> None:
    head = filled(log, 0)
    read = []
    for number in range(1, 600):
        head = log.record(head, [call(number)])
        if number in (100, 599):
            store.forget()
            found = recordings(log, head.entry.seq, 20)
            read.append(sum(store.rounds))
            assert [record.order for each in found for record in each.records] == [
                *range(number, number - 20, -1)
            ]

    few, many = read
    assert many <= few + 10


def test_what_is_left_of_a_pruned_log_is_shown(log: ExecutionLog) -> None:
    head = filled(log, 3)
    for number in range(1, 5):
        head = log.record(head, [call(number)])
    log.remove([7, 6, 5])  # entry 8 is made of 0 alone

    newest, *_, first = recordings(log, head.entry.seq, 10)

    assert (newest.entry.seq, first.entry.seq) == (8, 0)
    assert [record.order for record in newest.records] == [1, 2, 3, 4]
