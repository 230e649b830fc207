"""The journal: its lines, what a roll-back makes of it, and how the log keeps it."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import START, call, large
from prefect_executions import serialization
from prefect_executions.errors import (
    CorruptEntry,
    ExecutionNotFound,
    Superseded,
)
from prefect_executions.log.entry import Kind
from prefect_executions.log.journal import (
    LARGE,
    PAUSE,
    Large,
    Outcome,
    Record,
    decode,
    encode,
    forgotten,
    note,
    rolled_back,
)
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.steps.records import Records
from stores import Counting
from strategies import JSON

TEXT = st.text(st.characters(codec="utf-8"))
RECORDS = st.builds(
    Record,
    order=st.integers(1, 10**6),
    parent=st.integers(0, 10**6),
    key=TEXT,
    step=TEXT,
    at=st.integers(0, 10**12).map(lambda n: START + timedelta(milliseconds=n)),
    outcome=st.sampled_from(Outcome),
    inputs=st.none() | TEXT,
    entry=st.none() | st.integers(0, 10**9),
    pause_key=st.none() | TEXT,
    child=st.none() | TEXT,
    undo=st.booleans(),
    function=st.none() | TEXT,
    undo_by=st.none() | TEXT,
    result=st.none() | JSON.map(serialization.dump),
    large=st.none()
    | st.builds(
        Large,
        seq=st.integers(0, 10**9),
        start=st.integers(0, 2**40),
        stored=st.integers(0, 2**40),
        size=st.integers(0, 2**40),
        sha256=TEXT,
    ),
)


def of(journal: bytes, outcome: Outcome) -> list[tuple[int, int]]:
    """The orders and minutes of the calls with this outcome in a journal, by their numbers."""
    return [
        (record.order, (record.at - START) // timedelta(minutes=1))
        for _, record in sorted(decode(journal).items())
        if record.outcome is outcome
    ]


def lost(head: bytes, target: bytes) -> list[Record]:
    """The completed steps that a roll-back forgets, newest first."""
    return forgotten(decode(head), decode(target))


# ---------------------------------------------------------------------- lines


@given(st.lists(RECORDS, unique_by=lambda record: record.order))
def test_what_is_written_is_read(records: list[Record]) -> None:
    read = decode(encode(records)).values()

    assert sorted(read, key=lambda record: record.order) == sorted(
        records, key=lambda record: record.order
    )


@given(RECORDS)
def test_a_record_is_one_line(record: Record) -> None:
    line = record.to_line()

    assert line.splitlines(keepends=True) == [line]
    head, tab, result = line.partition(b"\t")
    assert isinstance(json.loads(head), dict)
    assert (result.rstrip() if tab else None) == record.result


# A call whose result could not be kept never has another outcome, and a note is no call.
ENDS = [outcome for outcome in Outcome if outcome not in (Outcome.UNKEPT, Outcome.NOTE)]

CALLS = st.builds(
    call,
    st.integers(1, 4),
    minute=st.integers(1, 3),
    outcome=st.sampled_from(ENDS),
)


@given(st.lists(CALLS, max_size=12))
def test_of_each_call_there_is_one_record(records: list[Record]) -> None:
    """The last one, and only one of each order among calls that are not forgotten."""
    read = decode(encode(records))

    gone = {n for n, r in read.items() if r.outcome in (Outcome.UNDO, Outcome.UNDONE)}
    standing = read.keys() - gone
    assert all(read[n].order == n for n in standing)
    assert min(gone, default=5) > max(standing, default=0)
    under_way = (Outcome.BEGUN, Outcome.WAITING)
    last = {(r.order, r.at, r.outcome in under_way): r for r in records}
    assert all(last[r.order, r.at, r.outcome in under_way] == r for r in read.values())


@given(st.lists(CALLS, max_size=8), st.lists(CALLS, max_size=8))
def test_of_any_journals_a_rollback_loses_nothing_that_is_to_be_undone(
    at_head: list[Record], at_target: list[Record]
) -> None:
    head, target = encode(at_head), encode(at_target)

    after = rolled_back(head, target)

    assert rolled_back(after, target) == after
    before, now = (
        {o: set(of(journal, o)) for o in (Outcome.DONE, Outcome.UNDO, Outcome.UNDONE)}
        for journal in (head, after)
    )
    assert now[Outcome.UNDONE] == before[Outcome.UNDONE]
    assert now[Outcome.DONE] == set(of(target, Outcome.DONE)) - before[Outcome.UNDONE]
    kept = now[Outcome.DONE] | now[Outcome.UNDO]
    assert before[Outcome.DONE] | before[Outcome.UNDO] <= kept | now[Outcome.UNDONE]


def test_what_is_not_said_is_not_written() -> None:
    record = replace(call(7), undo=False, result=None)

    assert json.loads(record.to_line()) == {
        "n": 7,
        "what": "done",
        "step": "a step",
        "key": "key of 7",
        "at": "2026-11-24T10:07:00.000Z",
    }


def test_a_result_of_null_is_a_result() -> None:
    record = replace(call(1), result=b"null")

    assert decode(encode([record])) == {1: record}


def test_of_several_records_with_one_order_the_last_holds() -> None:
    begun = replace(call(2), outcome=Outcome.BEGUN, result=None)

    assert decode(encode([call(1), begun, call(2, minute=3)])) == {
        1: call(1),
        2: call(2, minute=3),
    }


def test_a_forgotten_call_is_not_replaced_by_the_one_with_its_order() -> None:
    undone = call(2, outcome=Outcome.UNDONE)

    for records in ([undone, call(2, minute=5)], [call(2, minute=5), undone]):
        assert decode(encode([call(1), *records])) == {
            1: call(1),
            2: call(2, minute=5),
            3: undone,
        }


def test_a_call_that_was_undone_is_not_to_be_undone_any_more() -> None:
    due, undone = call(1, outcome=Outcome.UNDO), call(1, outcome=Outcome.UNDONE)

    assert list(decode(encode([due, undone])).values()) == [undone]
    assert list(decode(encode([call(1), due])).values()) == [due]
    assert list(decode(encode([due, call(1)])).values()) == [call(1)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"large"',
        b"{}",
        call(1).to_line().replace(b'"done"', b'"gone"'),
        call(1).to_line().replace(b"2026", b"20x6"),
        replace(
            call(1), result=None, large=Large(seq=1, start=2, stored=3, size=4, sha256="")
        ).to_line()[:-6]
        + b"]}",
    ],
)
def test_a_line_that_is_none_is_noticed(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(line.rstrip() + b"\n")


# ---------------------------------------------------------------------- roll-backs


def test_a_rollback_forgets_what_was_done_behind_its_checkpoint() -> None:
    plain = replace(call(4), undo=False)
    head, target = encode([call(1), call(2), call(3), plain]), encode([call(1), call(2)])

    after = rolled_back(head, target)

    assert lost(head, target) == [plain, call(3)]
    assert of(after, Outcome.DONE) == [(1, 1), (2, 2)]
    assert of(after, Outcome.UNDO) == [(3, 3)]
    assert len(decode(after)) == 3


def test_what_had_not_returned_is_forgotten_and_not_undone() -> None:
    begun = [call(1, outcome=Outcome.BEGUN), call(2, outcome=Outcome.WAITING)]
    target = encode([begun[0]])
    head = encode([*begun, call(3, outcome=Outcome.BEGUN)])

    assert lost(head, target) == []
    assert rolled_back(head, target) == target


def test_what_had_only_begun_at_the_checkpoint_has_begun_and_is_undone() -> None:
    begun = call(1, minute=1, outcome=Outcome.BEGUN)
    target = encode([begun])

    for minute in (1, 2):  # it may have returned within the same millisecond
        head = encode([begun, call(1, minute=minute)])
        after = rolled_back(head, target)
        assert lost(head, target) == [call(1, minute=minute)]
        assert of(after, Outcome.BEGUN) == [(1, 1)]
        assert of(after, Outcome.UNDO) == [(1, minute)]


def test_the_same_rollback_again_changes_nothing() -> None:
    head, target = encode([call(1), call(2), call(3)]), encode([call(1)])

    once = rolled_back(head, target)

    assert rolled_back(once, target) == once
    assert lost(once, target) == []


def test_a_rollback_behind_a_rollback_undoes_the_newest_last() -> None:
    """The result is that of a single roll-back."""
    head, middle, target = (encode(call(n) for n in range(1, end)) for end in (6, 4, 2))

    twice = rolled_back(rolled_back(head, middle), target)

    assert of(twice, Outcome.DONE) == [(1, 1)]
    assert of(twice, Outcome.UNDO) == [(2, 2), (3, 3), (4, 4), (5, 5)]
    assert twice == rolled_back(head, target)


def test_a_rollback_forward_takes_back_what_has_not_been_undone_yet() -> None:
    early, late = encode([call(1)]), encode([call(1), call(2), call(3)])
    back = rolled_back(late, early)

    assert rolled_back(back, late) == late
    # and back again, to a journal in which it was due
    assert lost(late, back) == [call(3), call(2)]
    assert rolled_back(late, back) == back


def test_what_was_undone_is_not_done_by_a_rollback_forward() -> None:
    early, late = encode([call(1)]), encode([call(1), call(2), call(3)])
    undone = call(3, outcome=Outcome.UNDONE)
    back = rolled_back(late, early) + encode([undone])

    forward = rolled_back(back, late)

    assert of(forward, Outcome.DONE) == [(1, 1), (2, 2)]
    assert of(forward, Outcome.UNDONE) == [(3, 3)]
    assert of(forward, Outcome.UNDO) == []
    assert of(rolled_back(forward, early), Outcome.UNDO) == [(2, 2)]


def test_calls_of_two_branches_with_the_same_orders_are_not_taken_for_each_other() -> None:
    start, old = encode([call(1)]), encode([call(1), call(2), call(3)])
    back = rolled_back(old, start)
    new = back + encode([call(2, minute=8), call(3, minute=9)])

    again = rolled_back(new, start)
    other = rolled_back(new, old)

    assert of(new, Outcome.DONE) == [(1, 1), (2, 8), (3, 9)]
    assert of(new, Outcome.UNDO) == [(2, 2), (3, 3)]
    assert of(again, Outcome.DONE) == [(1, 1)]
    assert of(again, Outcome.UNDO) == [(2, 2), (3, 3), (2, 8), (3, 9)]
    assert of(other, Outcome.DONE) == [(1, 1), (2, 2), (3, 3)]
    assert of(other, Outcome.UNDO) == [(2, 8), (3, 9)]


# ---------------------------------------------------------------------- in the log


def test_a_record_costs_one_request(log: ExecutionLog, store: Counting, head: Head) -> None:
    store.forget()

    head = log.record(head, [call(1), call(2)])

    assert len(store.created) == 1
    assert (store.scans, store.rounds) == (0, [])
    assert (head.entry.kind, head.entry.continues_from) == (Kind.STEPS, 0)
    assert head.state == b'{"n": 0}'
    assert decode(head.journal) == {1: call(1), 2: call(2)}
    loaded = log.head()
    assert (loaded.entry, loaded.state, loaded.journal) == (head.entry, head.state, head.journal)


def test_every_entry_carries_the_journal_and_stores_its_end(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    store.forget()
    journals = {}
    for order in range(1, 1001):
        if order % 10:
            head = log.record(head, [call(order)])
        else:
            head = log.checkpoint(head, b"[%d]" % order, records=[call(order)])
            journals[head.entry.seq] = head.journal

    assert len(head.journal) > 100_000
    assert sorted(store.created)[len(store.created) // 2] < 700
    assert sum(store.created) < 1000 * 800
    assert log.head().journal == head.journal == encode(call(n) for n in range(1, 1001))
    assert all(log.at_checkpoint(seq).journal == journal for seq, journal in journals.items())
    store.forget()
    log.attempt()
    log.head()
    assert store.created[0] < 700
    assert store.scans == 2
    assert len(store.rounds) == 2
    assert max(store.rounds) <= 15


def test_a_log_without_steps_has_no_journal(log: ExecutionLog, head: Head) -> None:
    head = log.checkpoint(head, b'{"n": 1}')

    assert (head.entry.journal, head.journal, log.head().journal) == (None, b"", b"")


def test_entries_of_all_kinds_carry_the_journal_on(log: ExecutionLog, head: Head) -> None:
    head = log.record(head, [call(1)])
    head = log.checkpoint(log.head(), b'{"n": 1}')  # over REST
    head = log.crash(head, answers="a", dead_seconds=1, reason="No heartbeat")
    head = log.retry(head, answers="b", reason="Crashed")
    head = log.attempt()

    assert log.head().journal == head.journal == encode([call(1)])


def test_what_others_have_saved_meanwhile_is_no_obstacle_to_a_record(
    log: ExecutionLog, head: Head
) -> None:
    by_hand = log.checkpoint(log.head(), b'{"n": 7}')

    head = log.record(head, [call(1)])
    by_hand = log.checkpoint(by_hand, b'{"n": 8}')

    assert head.state == b'{"n": 7}'
    assert head.entry.continues_from == 2
    assert by_hand.entry.seq == 4
    assert by_hand.journal == head.journal == encode([call(1)])


def test_a_superseded_attempt_may_not_record(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    newer = log.attempt()
    keys = list(store.scan(""))

    with pytest.raises(Superseded):
        log.record(head, [large(LARGE)])

    assert list(store.scan("")) == keys
    log.delete()
    with pytest.raises(ExecutionNotFound):
        log.record(newer, [call(1)])


def test_a_rollback_goes_back_to_the_journal_of_its_checkpoint(
    log: ExecutionLog, head: Head
) -> None:
    head = log.record(head, [call(1)])
    saved = log.checkpoint(head, b'{"n": 1}', records=[call(2)])
    head = log.record(saved, [call(3), replace(call(4), undo=False)])
    head = log.checkpoint(head, b'{"n": 2}')

    back = log.rollback(saved.entry.seq)
    again = log.attempt()

    assert back.journal == rolled_back(head.journal, saved.journal)
    assert (again.state, again.journal) == (saved.state, back.journal)
    assert of(again.journal, Outcome.UNDO) == [(3, 3)]
    forward = log.rollback(head.entry.seq)
    assert (forward.state, decode(forward.journal)) == (head.state, decode(head.journal))
    assert decode(log.rollback(0).journal).keys() == {1, 2, 3}


# ---------------------------------------------------------------------- damage


def test_a_rollback_of_a_journal_that_is_none_is_refused(log: ExecutionLog, head: Head) -> None:
    head = log.record(head, [replace(call(1), result=b'{\n"pretty": true}')])

    with pytest.raises(CorruptEntry, match="its journal, or that of entry 0, is none"):
        log.rollback(0)

    assert log.head().entry == head.entry


def test_an_execution_that_was_begun_before_the_checkpoint_is_the_same_after_a_roll_back() -> None:
    begun = replace(call(1, outcome=Outcome.WAITING), child="exec_1")
    behind = replace(call(2, outcome=Outcome.WAITING), child="exec_2")
    target = encode([begun])

    assert decode(rolled_back(target + encode([behind]), target)) == {1: begun}


def test_going_back_to_an_answered_question_asks_anew_and_to_a_pause_goes_on() -> None:
    asked = replace(call(1, outcome=Outcome.WAITING), pause_key="ask")
    paused = replace(call(2, outcome=Outcome.WAITING), pause_key="pause", step=PAUSE)
    target = encode([asked, paused])
    head = target + encode(
        [
            replace(call(1, minute=5), pause_key="ask", undo=False, result=b"{}"),
            replace(call(2, minute=6), pause_key="pause", step=PAUSE, undo=False, result=None),
        ]
    )

    assert decode(rolled_back(head, target)) == {2: paused}
    assert decode(rolled_back(target, target)) == {2: paused}  # even if it was answered
    assert lost(head, target) == []


def test_notes_are_no_calls_and_none_replaces_another(log: ExecutionLog, head: Head) -> None:
    head = log.record(head, [note(b'"a"', "an adapter"), call(1)])
    head = log.checkpoint(head, b"{}", records=[note(b'"b"'), note(b'"b"')])

    notes = [one for one in log.head().records().values() if one.outcome is Outcome.NOTE]

    assert [(one.result, one.entry) for one in notes] == [(b'"a"', 2), (b'"b"', 3), (b'"b"', 3)]
    assert Records(log.head().records()).last == 1


def test_a_roll_back_forgets_the_notes_behind_it(log: ExecutionLog, head: Head) -> None:
    head = log.checkpoint(head, b'{"n": 1}', records=[note(b'"before"')])
    log.checkpoint(head, b'{"n": 2}', records=[note(b'"behind"')])
    told: list[Record] = []

    log.rollback(head.entry.seq, tell=told.extend)

    notes = [one.result for one in log.head().records().values()]
    assert notes == [b'"before"']
    assert told == []


def test_a_revised_journal_takes_the_place_of_the_old_one(log: ExecutionLog, head: Head) -> None:
    head = log.checkpoint(head, b'{"n": 1}', records=[note(b'"a"'), note(b'"b"')])

    log.revise(lambda head: (b'{"n": 3}', [*head.records().values()][1:]))

    head = log.checkpoint(head, b'{"n": 4}', records=[note(b'"c"')])  # the attempt goes on
    assert [one.result for one in log.head().records().values()] == [b'"b"', b'"c"']
    assert log.states_at([2, 3, 4, 99]) == {2: b'{"n": 1}', 3: b'{"n": 3}', 4: b'{"n": 4}'}
