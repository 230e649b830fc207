"""What entries repeat of those before them: that it is the same, and that reading it is cheap."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import ID, META, START, filled, numbered
from prefect_executions.errors import ExecutionDeleted
from prefect_executions.log.entry import Entry
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.log.repeats import REACH, between, repeated
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting

FEW = 24  # requests


@pytest.mark.parametrize("count", [100, 127, 128, 1000, 1027, 3000])
def test_the_newest_100_checkpoints_cost_as_few_requests_as_the_head(
    log: ExecutionLog, store: Counting, count: int
) -> None:
    filled(log, count)
    store.forget()

    history = log.read(checkpoints=100)

    assert (store.scans, len(store.rounds)) == (1, 1)
    assert sum(store.rounds) <= FEW
    assert [history.state(seq) for seq in history.numbers] == [
        numbered(seq - 1) for seq in range(count + 1, count - 99, -1)
    ]


def test_all_checkpoints_cost_a_request_for_128_and_the_head(
    log: ExecutionLog, store: Counting
) -> None:
    filled(log, 1000)
    store.forget()

    history = log.read(checkpoints=None)

    assert len(history.numbers) == 1000
    assert sum(store.rounds) <= FEW + 1000 // REACH
    assert history.state(500) == numbered(499)


def test_a_page_of_older_checkpoints_costs_few_requests(log: ExecutionLog, store: Counting) -> None:
    filled(log, 1000)
    store.forget()

    history = log.read_before(500, checkpoints=50)

    assert history.numbers == [*range(499, 449, -1)]
    assert sum(store.rounds) <= FEW


def test_large_states_are_not_repeated(log: ExecutionLog, store: Counting) -> None:
    log.create(META, b"{}")
    head = log.attempt()
    states = [b'"%s"' % Random(n).randbytes(2000).hex().encode() for n in range(40)]
    for state in states:
        head = log.checkpoint(head, state)

    history = log.read(checkpoints=None)

    assert [history.state(seq) for seq in reversed(history.numbers)] == states
    repeats = [[*repeated(entry)] for entry in log.read_entries(range(42)).values()]
    assert {seq for each in repeats for seq in each} == {1}


@pytest.mark.parametrize("ahead", [0, 3, 200])
def test_whoever_goes_on_repeats_the_same(log: ExecutionLog, store: Counting, ahead: int) -> None:
    """Also one that has to read what is there, and one that others have written after."""
    head = filled(log, 150)
    other = log.head()
    for number in range(ahead):
        head = log.checkpoint(head, numbered(number))
    for number in range(150):
        other = log.checkpoint(other, numbered(number))

    assert_repeated(log)
    newest = other.entry.seq
    entry = log.read_entries([newest - newest % 128])[newest - newest % 128]
    assert [*repeated(entry)] == [*between(entry.seq)]


@given(
    st.lists(
        st.sampled_from(["small", "large", "by hand", "attempt", "steps", "claim", "back", "head"]),
        max_size=80,
    )
)
def test_reading_what_is_repeated_is_reading_the_entries(acts: list[str]) -> None:
    log = ExecutionLog(MemoryObjects(), ID, clock=lambda: START)
    head = filled(log, 3)
    for number, act in enumerate(acts):
        if act == "small":
            head = log.checkpoint(head, numbered(number))
        elif act == "large":
            head = log.checkpoint(head, b'"%s"' % (b"%08x" % (number * 7919) * 300), label=act * 80)
        elif act == "by hand":
            log.checkpoint(log.head(), numbered(number), by="somebody")
        elif act == "attempt":
            head = log.attempt()
        elif act == "steps":
            head = log.record(head, [])
        elif act == "claim":
            log._take(log.head().next_seq, 0, fence=False)
        elif act == "back":
            log.rollback(2)
            head = log.attempt()
        else:
            head = log.head()

    assert_repeated(log)
    history = log.read(checkpoints=None)
    slowly = log.read(checkpoints=None, journal=True)
    assert history.numbers == slowly.numbers
    for seq in history.numbers:
        assert history.state(seq) == slowly.state(seq)
        assert bare(history.entries[seq]) == bare(slowly.entries[seq])


def bare(entry: Entry) -> Entry:
    return replace(entry, journal=None, repeats=b"")


def assert_repeated(log: ExecutionLog) -> None:
    """Each entry that another repeats is as it is in the store."""
    entries = log.read_entries(log.numbers())
    for entry in entries.values():
        for seq, data in repeated(entry).items():
            there = Entry.beginning_from_bytes(data, key=log.key(seq), seq=seq)
            assert there == bare(entries[seq])


def test_what_was_removed_is_not_read_from_those_that_repeat_it(
    log: ExecutionLog, store: Counting
) -> None:
    filled(log, 100)
    prune(log, newest=3, labelled=False, also=(), before=log.clock() + timedelta(days=1))

    history = log.read(checkpoints=None)

    assert log.is_pruned()
    assert set(history.numbers) == set(log.numbers()) - {0, 1}
    assert len(history.numbers) < 20
    page = log.read_before(history.numbers[0], checkpoints=50)
    assert page.numbers == history.numbers[1:]


def test_nothing_is_left_of_a_pruned_log_that_is_purged(log: ExecutionLog, store: Counting) -> None:
    filled(log, 100)
    prune(log, newest=3, labelled=False, also=(), before=log.clock() + timedelta(days=1))

    log.purge()

    assert [*store.scan("")] == []
    with pytest.raises(ExecutionDeleted):
        log.mark_pruned()
    assert [*store.scan("")] == []
    assert not log.exists()


def test_entries_are_read_themselves_where_what_repeats_them_is_damaged() -> None:
    store = MemoryObjects()
    log = ExecutionLog(store, ID)
    filled(log, 20)
    entry = log.read_entries([16])[16]
    store.delete([log.key(16)])
    damaged = replace(entry, repeats=entry.repeats[:-9] + b"damaged!!")
    store.create(log.key(16), damaged.to_bytes())

    history = log.read(checkpoints=20)

    assert [history.state(seq) for seq in history.numbers] == [*map(numbered, range(20, 0, -1))]
    assert log.attempt().state == numbered(20)
