"""Writing the log: checkpoints, attempts, retries, fencing, roll-backs, deletion."""

import pytest

from logs import ID, META, filled, numbered
from prefect_executions.errors import (
    AlreadyExists,
    CheckpointNotFound,
    ExecutionDeleted,
    ExecutionNotFound,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting, Fault, Faulty


def test_a_second_creation_is_refused(log: ExecutionLog) -> None:
    log.create(META, b"{}")

    with pytest.raises(AlreadyExists):
        log.create(META, b"{}")


def test_without_a_log_there_is_no_execution(log: ExecutionLog) -> None:
    for act in (log.head, log.attempt, log.delete, lambda: log.read(checkpoints=1)):
        with pytest.raises(ExecutionNotFound):
            act()


def test_a_checkpoint_costs_one_request(log: ExecutionLog, store: Counting) -> None:
    head = filled(log, 20)
    store.forget()

    log.checkpoint(head, numbered(21))

    assert len(store.created) == 1
    assert (store.scans, store.rounds) == (0, [])


def test_an_attempt_continues_from_the_newest_checkpoint(log: ExecutionLog) -> None:
    before = filled(log, 3)

    head = log.attempt()

    assert head.entry.kind is Kind.ATTEMPT
    assert head.entry.attempt == 2
    assert head.entry.continues_from == before.entry.seq
    assert head.state == before.state


def test_an_attempt_after_an_attempt_continues_from_the_same(log: ExecutionLog) -> None:
    before = filled(log, 3)
    log.attempt()

    head = log.attempt()

    assert head.entry.attempt == 3
    assert head.entry.continues_from == before.entry.seq


def test_an_older_attempt_may_not_write(log: ExecutionLog, store: Counting) -> None:
    old = filled(log, 3)
    log.attempt()
    keys = list(store.scan(""))

    with pytest.raises(Superseded) as fence:
        log.checkpoint(old, numbered(4))

    assert fence.value.attempt == 1
    assert list(store.scan("")) == keys


def test_a_checkpoint_of_somebody_else_is_no_fence(log: ExecutionLog) -> None:
    """A process goes on after a PUT over REST between two of its checkpoints."""
    head = filled(log, 3)
    for number in range(70, 80):
        log.checkpoint(log.head(), numbered(number))

    for number in range(4, 30):
        head = log.checkpoint(head, numbered(number))
        assert log.head().state == numbered(number)

    assert head.entry.seq == 4 + 10 + 26


def test_an_attempt_is_admitted_between_reading_and_writing(log: ExecutionLog) -> None:
    """So the highest attempt is always the one that was admitted last."""
    filled(log, 1)
    admitted = []

    def admit(_: Head) -> None:
        admitted.append(True)
        if len(admitted) == 1:
            log.attempt()  # another process is quicker

    head = log.attempt(admit)

    assert len(admitted) == 2
    assert head.entry.attempt == 3


def test_an_attempt_that_is_not_admitted_writes_nothing(log: ExecutionLog, store: Counting) -> None:
    filled(log, 1)
    keys = list(store.scan(""))

    def refuse(_: Head) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        log.attempt(refuse)

    assert list(store.scan("")) == keys


def test_a_rollback_lets_the_next_attempt_continue_from_there(log: ExecutionLog) -> None:
    filled(log, 9)

    rolled_back = log.rollback(4)
    head = log.attempt()

    assert rolled_back.state == head.state == numbered(3)
    assert head.entry.continues_from == 4
    assert log.checkpoint(head, numbered(50)).entry.seq == 13
    assert log.at_checkpoint(10).state == numbered(9)  # what was rolled back stays readable


def test_a_rollback_fences_the_attempt_that_still_runs(log: ExecutionLog) -> None:
    running = filled(log, 9)
    log.rollback(4)

    with pytest.raises(Superseded, match="rollback"):
        log.checkpoint(running, numbered(10))

    assert log.attempt().state == numbered(3)


def test_a_crash_fences_the_attempt_that_was_taken_for_dead(log: ExecutionLog) -> None:
    running = filled(log, 9)
    log.crash(log.head(), answers="a", dead_seconds=12.3456, reason="No heartbeat")

    with pytest.raises(Superseded, match="crash"):
        log.checkpoint(running, numbered(10))

    begun = log.attempt()
    assert begun.state == numbered(9)
    assert begun.entry.dead_seconds == 12.346
    later = log.crash(begun, answers="b", dead_seconds=1, reason="No heartbeat")
    assert later.entry.dead_seconds == 13.346


def test_a_retry_whose_answer_was_lost_is_counted_once(memory: MemoryObjects) -> None:
    faulty = Faulty(memory)
    log = ExecutionLog(faulty, ID)
    running = filled(log, 2)
    faulty.faults.append(Fault.ANSWER_LOST)
    with pytest.raises(StoreUnavailable):
        log.retry(running, answers="a", reason="RuntimeError: no luck")

    again = log.retry(running, answers="a", reason="RuntimeError: no luck")

    assert again.entry.retries == 1
    assert log.head().entry == again.entry


def test_retries_are_counted_from_entry_to_entry(log: ExecutionLog) -> None:
    known = filled(log, 2)
    log.checkpoint(log.head(), numbered(3))  # over REST, meanwhile
    head = log.retry(known, answers="a", reason="RuntimeError: no luck")
    assert (head.entry.answers, head.entry.reason) == ("a", "RuntimeError: no luck")
    assert head.state == numbered(3)

    assert log.retry(known, answers="a", reason="once more").entry == head.entry
    with pytest.raises(Superseded, match="retry"):
        log.retry(known, answers="b", reason="after another crash")

    head = log.checkpoint(log.attempt(), numbered(4))
    head = log.retry(head, answers="b", reason="again")
    assert log.head().entry.retries == head.entry.retries == 2
    assert head.entry.reason == "again"
    assert log.checkpoint(log.attempt(), numbered(5)).entry.reason is None


def test_only_a_retry_that_the_dead_attempt_counted_itself_is_taken_back(log: ExecutionLog) -> None:
    """Otherwise a process that always dies before its attempt begins is retried forever."""
    head = log.retry(filled(log, 1), answers="running 1", reason="RuntimeError")
    head = log.crash(head, answers="running 1", dead_seconds=1, reason="No heartbeat")
    assert head.entry.retries == 0
    head = log.retry(head, answers="crashed 1", reason="No heartbeat")
    head = log.crash(head, answers="running 2", dead_seconds=1, reason="No heartbeat")
    assert head.entry.retries == 1


def test_the_same_rollback_again_changes_nothing(log: ExecutionLog) -> None:
    filled(log, 9)

    assert log.rollback(4).entry == log.rollback(4).entry


def test_a_rollback_to_entry_0_starts_over(log: ExecutionLog) -> None:
    filled(log, 3)

    assert log.rollback(0).state == b"{}"


@pytest.mark.parametrize("seq", [1, 99, -1, 10**9])
def test_only_checkpoints_can_be_rolled_back_to(log: ExecutionLog, seq: int) -> None:
    filled(log, 3)
    before = log.head().entry

    with pytest.raises(CheckpointNotFound):
        log.rollback(seq)

    assert log.head().entry == before


def test_after_the_tombstone_nobody_extends_the_history(log: ExecutionLog) -> None:
    running = filled(log, 3)

    log.delete()
    log.delete()

    assert log.head().deleted
    assert (log.head().state, log.head().journal) == (b"", b"")
    for act in (
        log.attempt,
        lambda: log.rollback(2),
        lambda: log.checkpoint(running, numbered(4)),
    ):
        with pytest.raises(ExecutionNotFound):
            act()


def _purge_in_part(log: ExecutionLog, store: Counting) -> None:
    """What an interrupted purge leaves: the tombstone goes last."""
    store.delete(list(store.scan(""))[1:])


def test_an_interrupted_purge_leaves_the_tombstone(log: ExecutionLog, store: Counting) -> None:
    filled(log, 3)
    log.delete()
    deleted: list[list[str]] = []
    store.delete = lambda keys: deleted.append(list(keys))  # type: ignore[method-assign]

    log.purge()

    assert deleted[-1] == list(store.scan(""))[:1]
    assert [key for keys in reversed(deleted) for key in keys] == list(store.scan(""))


def test_a_purge_leaves_nothing(log: ExecutionLog, store: Counting) -> None:
    filled(log, 3)
    log.delete()
    _purge_in_part(log, store)

    assert log.exists()
    assert log.head().deleted
    log.purge()
    log.purge()
    assert not log.exists()
    assert list(store.scan("")) == []


def test_an_entry_of_a_process_that_outlived_the_purge_is_swept(
    log: ExecutionLog, store: Counting
) -> None:
    running = filled(log, 3)
    log.delete()
    log.purge()
    log.checkpoint(running, numbered(4))

    log.sweep()

    assert list(store.scan("")) == []


def test_a_sweep_leaves_a_living_log_alone(log: ExecutionLog, store: Counting) -> None:
    filled(log, 3)
    keys = list(store.scan(""))

    log.sweep()

    assert list(store.scan("")) == keys


def test_an_own_write_is_recognised_after_a_lost_answer(memory: MemoryObjects) -> None:
    """The client repeats the request, and meets its own entry."""
    store = Faulty(memory)
    log = ExecutionLog(store, ID)
    head = filled(log, 3)
    store.faults = [Fault.REPEATED]

    saved = log.checkpoint(head, numbered(4))

    assert saved.entry.seq == head.entry.seq + 1
    assert log.head().entry == saved.entry


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST])
def test_after_doubt_the_next_checkpoint_is_saved(memory: MemoryObjects, fault: Fault) -> None:
    store = Faulty(memory)
    log = ExecutionLog(store, ID)
    head = filled(log, 3)
    store.faults = [fault]
    with pytest.raises(StoreUnavailable):
        log.checkpoint(head, numbered(4))

    head = log.checkpoint(head, numbered(5))

    assert log.head().state == numbered(5)
    assert head.entry.seq == {Fault.LOST: 5, Fault.ANSWER_LOST: 6}[fault]


def test_a_process_far_behind_reads_no_more_than_it_needs(
    log: ExecutionLog, store: Counting
) -> None:
    old = filled(log, 1)
    head = log.attempt()
    for number in range(300):
        head = log.checkpoint(head, numbered(number))
    store.forget()

    with pytest.raises(Superseded):
        log.checkpoint(old, numbered(4))

    assert sum(store.rounds) <= 2


def test_a_process_behind_a_purged_log_soon_meets_the_tombstone(
    log: ExecutionLog, store: Counting
) -> None:
    """What it writes before that is deleted together with the tombstone."""
    old = filled(log, 3)
    log.checkpoint(log.head(), numbered(9))
    log.delete()
    _purge_in_part(log, store)

    behind = log.checkpoint(old, numbered(4))
    with pytest.raises(ExecutionDeleted):
        log.checkpoint(behind, numbered(5))

    assert log.head().deleted
    log.purge()
    assert list(store.scan("")) == []
