"""Reading a log: its head, its checkpoints and their states."""

from math import log2

import pytest

from logs import ID, META, call, filled, numbered, step_after
from prefect_executions.errors import (
    CorruptEntry,
    ExecutionDeleted,
)
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import bases
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting


@pytest.mark.parametrize("count", [1, 8, 255, 256, 1000])
def test_the_head_costs_one_listing_and_one_short_round(
    log: ExecutionLog, store: Counting, count: int
) -> None:
    head = filled(log, count)
    store.forget()

    loaded = log.head()

    assert loaded.state == head.state == numbered(count)
    assert store.scans == 1
    assert len(store.rounds) == 1
    assert store.rounds[0] <= log2(count + 2) + 6


def test_every_state_is_found_again(log: ExecutionLog) -> None:
    filled(log, 300)

    for number in (1, 2, 63, 64, 255, 300):
        assert log.at_checkpoint(number + 1).state == numbered(number)


def test_history_is_one_round_and_has_every_state(log: ExecutionLog, store: Counting) -> None:
    filled(log, 300)
    store.forget()

    history = log.read(checkpoints=100)

    entries = history.checkpoints()[:100]
    assert [entry.label for entry in entries] == [f"number {n}" for n in range(300, 200, -1)]
    assert [history.state(entry.seq) for entry in entries] == [
        numbered(number) for number in range(300, 200, -1)
    ]
    assert (store.scans, len(store.rounds)) == (1, 1)
    assert store.rounds[0] < 100 + 2 * log2(300)


def test_history_reaches_past_entries_of_other_kinds(log: ExecutionLog) -> None:
    filled(log, 3)
    for _ in range(10):
        log.attempt()

    assert [entry.label for entry in log.read(checkpoints=2).checkpoints()] == [
        "number 3",
        "number 2",
    ]
    assert len(log.read(checkpoints=None).checkpoints()) == 3
    assert len(log.read(checkpoints=99).checkpoints()) == 3
    assert log.read(checkpoints=0).head.state == numbered(3)


def test_history_of_a_log_full_of_attempts_takes_few_rounds(
    log: ExecutionLog, store: Counting
) -> None:
    """A flow that crashes whenever it starts makes such a log."""
    filled(log, 3)
    for _ in range(500):
        log.attempt()
    store.forget()

    assert len(log.read(checkpoints=1).checkpoints()) == 1
    assert len(store.rounds) <= log2(500) + 2


def test_checkpoints_among_many_steps_are_found_in_few_rounds() -> None:
    """A read does not fetch what steps have recorded in between."""
    counting = Counting(MemoryObjects())
    log = ExecutionLog(counting, ID)
    head = log.create({}, b"{}")
    for n in range(40):
        for _ in range(25):
            head = log.record(head, [step_after(head)])
        head = log.checkpoint(head, b'{"n":%d}' % n, label=f"{n}")
    counting.forget()

    history = log.read(checkpoints=30)

    assert [entry.label for entry in history.checkpoints()] == [f"{n}" for n in range(39, 9, -1)]
    assert history.state(history.numbers[-1]) == b'{"n":10}'
    assert len(counting.rounds) <= 4
    assert sum(counting.rounds) < 400


def test_the_entry_in_which_an_attempt_began_is_found(log: ExecutionLog) -> None:
    log.create(META, b"{}")
    assert log.begun(log.head()) is None
    log.attempt(config={"max_retries": 3})
    log.checkpoint(log.head(), numbered(1))

    begun = log.begun(log.head())

    assert begun is not None
    assert (begun.seq, begun.meta) == (1, {"config": {"max_retries": 3}})
    assert log.head().created.meta == META


def test_a_missing_base_is_noticed(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    head = filled(log, 30)
    missing = bases(head.entry.seq)[1]
    memory.delete([f"ef/{ID}/{999_999_999 - missing:09d}"])

    with pytest.raises(CorruptEntry, match=f"its base, entry {missing}, is missing"):
        log.head()


def test_a_journal_on_another_base_is_noticed(
    log: ExecutionLog, memory: MemoryObjects, head: Head
) -> None:
    """Its checksum is right, but what it goes on from was replaced."""
    other = ExecutionLog(MemoryObjects(), ID)
    other.create({"name": "a task"}, b'{"n": 0}')
    swapped = other.record(other.attempt(), [call(1, minute=2)])
    log.record(log.record(head, [call(1)]), [call(2)])
    key = f"ef/{ID}/{999_999_999 - swapped.entry.seq:09d}"
    memory.delete([key])
    memory.create(key, other.objects.get([key])[key])

    with pytest.raises(CorruptEntry, match="its lines have another CRC-32"):
        log.head().records()


def test_journals_that_were_not_read_are_not_taken_for_empty(log: ExecutionLog) -> None:
    head = filled(log, 2)
    log.record(head, [step_after(head)])

    history = log.read(checkpoints=None)

    assert len(log.read(checkpoints=None, journal=True).records(history.head.entry.seq)) == 1
    with pytest.raises(LookupError, match="was not read"):
        history.records(history.head.entry.seq)


def test_a_history_until_any_number_has_the_newest_checkpoints_up_to_it(
    log: ExecutionLog, store: Counting
) -> None:
    """Whatever stands at that number: steps, an attempt, a claim, nothing yet, or nothing more."""
    head = filled(log, 20)
    for _ in range(20):
        head = log.record(head, [step_after(head)])
        head = log.checkpoint(head, numbered(head.entry.seq))
    log._claim(head.entry.attempt, fence=False)
    head = log.checkpoint(log.head(), b"{}")
    log.mark_pruned()
    log.remove([7, 15])
    saved = [entry.seq for entry in log.read(checkpoints=None).checkpoints()]

    for seq in range(head.entry.seq + 30):
        history = log.read_until(seq, checkpoints=3)
        assert history.numbers == [number for number in saved if number <= seq][:3]
        assert all(history.state(number) for number in history.numbers)

    store.forget()
    log.read_until(14, checkpoints=1)
    assert (store.scans, len(store.rounds)) == (0, 1)
    log.delete()
    with pytest.raises(ExecutionDeleted):
        log.read_until(10**6, checkpoints=1)
