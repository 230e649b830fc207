"""The execution log: numbers, deltas, attempts, fencing, loading."""

import json
import random
from dataclasses import replace
from hashlib import sha256
from math import log2
from secrets import token_hex
from zlib import crc32

import pytest

from conftest import Clock
from prefect_executions.errors import (
    AlreadyExists,
    CheckpointNotFound,
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.log.deltas import bases
from prefect_executions.log.entry import RUNS, Entry, Kind
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting, Fault, Faulty

ID = "exec_0123456789abcdef0123456789abcdef"
META = {"name": "a task", "config": {}}


@pytest.fixture
def store(memory: MemoryObjects) -> Counting:
    return Counting(memory)


@pytest.fixture
def log(store: Counting, clock: Clock) -> ExecutionLog:
    return ExecutionLog(store, ID, clock=clock)


def _state(number: int) -> bytes:
    return json.dumps({"n": number, "text": "some words that stay"}).encode()


def _filled(log: ExecutionLog, checkpoints: int) -> Head:
    """A log with an attempt that has saved so many checkpoints; entry 2 has state 1."""
    log.create(META, b"{}")
    head = log.attempt()
    for number in range(1, checkpoints + 1):
        head = log.checkpoint(head, _state(number), label=f"number {number}")
    return head


def test_keys_run_downwards_in_the_shard_of_the_id(log: ExecutionLog, store: Counting) -> None:
    _filled(log, 1)

    assert list(store.scan("")) == [
        f"ef/{ID}/999999997",
        f"ef/{ID}/999999998",
        f"ef/{ID}/999999999",
    ]


def test_an_entry_is_a_line_of_json_and_the_payload(log: ExecutionLog, store: Counting) -> None:
    head = _filled(log, 1)
    key = f"ef/{ID}/999999997"

    line, payload = store.get([key])[key].split(b"\n", 1)

    part = head.entry.state
    assert part is not None
    header = json.loads(line)
    assert header == {
        "v": 1,
        "seq": 2,
        "kind": "checkpoint",
        "at": "2026-11-24T10:00:03.000Z",
        "attempt": 1,
        "nonce": head.entry.nonce,
        "label": "number 1",
        "begun": 1,
        "runs": [0, 1, 2],
        "codec": "zstd",
        "state": {
            "base": None,
            "size": len(_state(1)),
            "sha256": sha256(_state(1)).hexdigest(),
            "bytes": len(payload),
        },
        "crc32": f"{crc32(payload, crc32(line.rpartition(b',')[0] + b'}')):08x}",
    }
    assert payload == part.payload


def test_a_second_creation_is_refused(log: ExecutionLog) -> None:
    log.create(META, b"{}")

    with pytest.raises(AlreadyExists):
        log.create(META, b"{}")


def test_without_a_log_there_is_no_execution(log: ExecutionLog) -> None:
    for act in (log.head, log.attempt, log.delete, lambda: log.read(checkpoints=1)):
        with pytest.raises(ExecutionNotFound):
            act()


def test_a_checkpoint_costs_one_request(log: ExecutionLog, store: Counting) -> None:
    head = _filled(log, 20)
    store.forget()

    log.checkpoint(head, _state(21))

    assert len(store.created) == 1
    assert (store.scans, store.rounds) == (0, [])


@pytest.mark.parametrize("count", [1, 8, 255, 256, 1000])
def test_the_head_costs_one_listing_and_one_short_round(
    log: ExecutionLog, store: Counting, count: int
) -> None:
    head = _filled(log, count)
    store.forget()

    loaded = log.head()

    assert loaded.state == head.state == _state(count)
    assert store.scans == 1
    assert len(store.rounds) == 1
    assert store.rounds[0] <= log2(count + 2) + 1


def test_bases_clear_the_lowest_bit() -> None:
    assert bases(1000) == [1000, 992, 960, 896, 768, 512, 0]
    assert bases(0) == [0]


def test_every_state_is_found_again(log: ExecutionLog) -> None:
    _filled(log, 300)

    for number in (1, 2, 63, 64, 255, 300):
        assert log.at_checkpoint(number + 1).state == _state(number)


def test_history_is_one_round_and_has_every_state(log: ExecutionLog, store: Counting) -> None:
    _filled(log, 300)
    store.forget()

    history = log.read(checkpoints=100)

    entries = history.checkpoints()[:100]
    assert [entry.label for entry in entries] == [f"number {n}" for n in range(300, 200, -1)]
    assert [history.state(entry.seq) for entry in entries] == [
        _state(number) for number in range(300, 200, -1)
    ]
    assert (store.scans, len(store.rounds)) == (1, 1)
    assert store.rounds[0] < 100 + 2 * log2(300)


def test_history_reaches_past_entries_of_other_kinds(log: ExecutionLog) -> None:
    _filled(log, 3)
    for _ in range(10):
        log.attempt()

    assert [entry.label for entry in log.read(checkpoints=2).checkpoints()] == [
        "number 3",
        "number 2",
    ]
    assert len(log.read(checkpoints=None).checkpoints()) == 3
    assert len(log.read(checkpoints=99).checkpoints()) == 3
    assert log.read(checkpoints=0).head.state == _state(3)


def test_history_of_a_log_full_of_attempts_takes_few_rounds(
    log: ExecutionLog, store: Counting
) -> None:
    """A flow that crashes whenever it starts makes such a log."""
    _filled(log, 3)
    for _ in range(500):
        log.attempt()
    store.forget()

    assert len(log.read(checkpoints=1).checkpoints()) == 1
    assert len(store.rounds) <= log2(500) + 2


def test_a_wholly_new_state_is_written_in_full(log: ExecutionLog) -> None:
    head = _filled(log, 4)
    other = json.dumps([f"{n * n:x}" for n in range(1000)]).encode()

    head = log.checkpoint(head, other)

    assert head.entry.state is not None
    assert head.entry.state.base is None
    assert log.head().state == other


def test_states_too_large_to_keep_decoded_are_saved_and_found(log: ExecutionLog) -> None:
    head = _filled(log, 0)
    texts = [f"{n:040x}" for n in range(150_000)]
    for number in range(6):
        texts[number] = "changed"
        state = json.dumps(texts).encode()
        head = log.checkpoint(head, state)

    assert head.entry.size > 4 << 20
    assert head.entry.state is not None
    assert len(head.entry.state.payload) < 1000
    assert log.head().state == state


def _incompressible(size: int, seed: int) -> bytes:
    """A state that is as large as this when it is compressed."""
    return json.dumps(random.Random(seed).randbytes(size).hex()).encode()


def test_what_is_too_long_to_be_read_at_once_is_read_in_one_more_round(
    log: ExecutionLog, store: Counting
) -> None:
    log.create(META, _incompressible(3 << 20, 0))
    head = log.attempt()
    for seq in (2, 3):
        head = log.checkpoint(head, _incompressible(3 << 20, seq))
    store.forget()

    assert log.head().state == head.state
    assert (store.scans, store.rounds) == (1, [3, 3])


@pytest.mark.parametrize("kept", [0, 50, 1000, 2 << 20, 3 << 20, -1])
def test_an_entry_without_its_end_is_noticed(memory: MemoryObjects, kept: int) -> None:
    """Whether it is longer than what is read at once, shorter, or just as long."""
    log = ExecutionLog(memory, ID)
    log.create(META, _incompressible(4 << 20, 0))
    key = next(memory.scan(""))
    data = memory.get([key])[key]
    memory.delete([key])
    memory.create(key, data[:kept])

    with pytest.raises(CorruptEntry, match="its end is missing") as damage:
        log.head()

    assert damage.value.key == key


def test_an_entry_with_something_after_its_end_is_noticed(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    _filled(log, 3)
    key = next(memory.scan(""))
    data = memory.get([key])[key]
    memory.delete([key])
    memory.create(key, data + b"0")

    with pytest.raises(CorruptEntry, match="it is entry 4, of"):
        log.head()


def test_an_attempt_continues_from_the_newest_checkpoint(log: ExecutionLog) -> None:
    before = _filled(log, 3)

    head = log.attempt()

    assert head.entry.kind is Kind.ATTEMPT
    assert head.entry.attempt == 2
    assert head.entry.continues_from == before.entry.seq
    assert head.state == before.state


def test_an_attempt_after_an_attempt_continues_from_the_same(log: ExecutionLog) -> None:
    before = _filled(log, 3)
    log.attempt()

    head = log.attempt()

    assert head.entry.attempt == 3
    assert head.entry.continues_from == before.entry.seq


def test_an_older_attempt_may_not_write(log: ExecutionLog, store: Counting) -> None:
    old = _filled(log, 3)
    log.attempt()
    keys = list(store.scan(""))

    with pytest.raises(Superseded) as fence:
        log.checkpoint(old, _state(4))

    assert fence.value.attempt == 1
    assert list(store.scan("")) == keys


def test_a_checkpoint_of_somebody_else_is_no_fence(log: ExecutionLog) -> None:
    """A PUT over REST comes between two checkpoints of a process, which goes on after it."""
    head = _filled(log, 3)
    for number in range(70, 80):
        log.checkpoint(log.head(), _state(number))

    for number in range(4, 30):
        head = log.checkpoint(head, _state(number))
        assert log.head().state == _state(number)

    assert head.entry.seq == 4 + 10 + 26


def test_an_attempt_is_admitted_between_reading_and_writing(log: ExecutionLog) -> None:
    """So the highest attempt is the one that was admitted last, whatever happens meanwhile."""
    _filled(log, 1)
    admitted = []

    def admit(_: Head) -> None:
        admitted.append(True)
        if len(admitted) == 1:
            log.attempt()  # another process is quicker

    head = log.attempt(admit)

    assert len(admitted) == 2
    assert head.entry.attempt == 3


def test_an_attempt_that_is_not_admitted_writes_nothing(log: ExecutionLog, store: Counting) -> None:
    _filled(log, 1)
    keys = list(store.scan(""))

    def refuse(_: Head) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        log.attempt(refuse)

    assert list(store.scan("")) == keys


def test_a_rollback_lets_the_next_attempt_continue_from_there(log: ExecutionLog) -> None:
    _filled(log, 9)

    rolled_back = log.rollback(4)
    head = log.attempt()

    assert rolled_back.state == head.state == _state(3)
    assert head.entry.continues_from == 4
    assert log.checkpoint(head, _state(50)).entry.seq == 13
    assert log.at_checkpoint(10).state == _state(9)  # what was rolled back stays readable


def test_a_rollback_fences_the_attempt_that_still_runs(log: ExecutionLog) -> None:
    running = _filled(log, 9)
    log.rollback(4)

    with pytest.raises(Superseded, match="rollback"):
        log.checkpoint(running, _state(10))

    assert log.attempt().state == _state(3)


def test_a_crash_fences_the_attempt_that_was_taken_for_dead(log: ExecutionLog) -> None:
    running = _filled(log, 9)
    log.crash(log.head(), answers="a", dead_seconds=12.3456, reason="No heartbeat")

    with pytest.raises(Superseded, match="crash"):
        log.checkpoint(running, _state(10))

    begun = log.attempt()
    assert begun.state == _state(9)
    assert begun.entry.dead_seconds == 12.346
    later = log.crash(begun, answers="b", dead_seconds=1, reason="No heartbeat")
    assert later.entry.dead_seconds == 13.346


def test_a_retry_whose_answer_was_lost_is_counted_once(memory: MemoryObjects) -> None:
    faulty = Faulty(memory)
    log = ExecutionLog(faulty, ID)
    running = _filled(log, 2)
    faulty.faults.append(Fault.ANSWER_LOST)
    with pytest.raises(StoreUnavailable):
        log.retry(running, answers="a", reason="RuntimeError: no luck")

    again = log.retry(running, answers="a", reason="RuntimeError: no luck")

    assert again.entry.retries == 1
    assert log.head().entry == again.entry


def test_retries_are_counted_from_entry_to_entry(log: ExecutionLog) -> None:
    known = _filled(log, 2)
    log.checkpoint(log.head(), _state(3))  # over REST, meanwhile
    head = log.retry(known, answers="a", reason="RuntimeError: no luck")
    assert (head.entry.answers, head.entry.reason) == ("a", "RuntimeError: no luck")
    assert head.state == _state(3)

    assert log.retry(known, answers="a", reason="once more").entry == head.entry
    with pytest.raises(Superseded, match="retry"):
        log.retry(known, answers="b", reason="after another crash")

    head = log.checkpoint(log.attempt(), _state(4))
    head = log.retry(head, answers="b", reason="again")
    assert log.head().entry.retries == head.entry.retries == 2
    assert head.entry.reason == "again"
    assert log.checkpoint(log.attempt(), _state(5)).entry.reason is None


def test_only_a_retry_that_the_dead_attempt_counted_itself_is_taken_back(log: ExecutionLog) -> None:
    """Else a process that always dies before its attempt begins would be tried for ever."""
    head = log.retry(_filled(log, 1), answers="running 1", reason="RuntimeError")
    head = log.crash(head, answers="running 1", dead_seconds=1, reason="No heartbeat")
    assert head.entry.retries == 0
    head = log.retry(head, answers="crashed 1", reason="No heartbeat")
    head = log.crash(head, answers="running 2", dead_seconds=1, reason="No heartbeat")
    assert head.entry.retries == 1


def test_the_entry_in_which_an_attempt_began_is_found(log: ExecutionLog) -> None:
    log.create(META, b"{}")
    assert log.begun(log.head()) is None
    log.attempt(config={"max_retries": 3})
    log.checkpoint(log.head(), _state(1))

    begun = log.begun(log.head())

    assert begun is not None
    assert (begun.seq, begun.meta) == (1, {"config": {"max_retries": 3}})
    assert log.head().created.meta == META


def test_the_same_rollback_again_changes_nothing(log: ExecutionLog) -> None:
    _filled(log, 9)

    assert log.rollback(4).entry == log.rollback(4).entry


def test_a_rollback_to_entry_0_starts_over(log: ExecutionLog) -> None:
    _filled(log, 3)

    assert log.rollback(0).state == b"{}"


@pytest.mark.parametrize("seq", [1, 99, -1, 10**9])
def test_only_checkpoints_can_be_rolled_back_to(log: ExecutionLog, seq: int) -> None:
    _filled(log, 3)
    before = log.head().entry

    with pytest.raises(CheckpointNotFound):
        log.rollback(seq)

    assert log.head().entry == before


def test_after_the_tombstone_nobody_extends_the_history(log: ExecutionLog) -> None:
    running = _filled(log, 3)

    log.delete()
    log.delete()

    assert log.head().deleted
    for act in (
        log.attempt,
        lambda: log.rollback(2),
        lambda: log.checkpoint(running, _state(4)),
    ):
        with pytest.raises(ExecutionNotFound):
            act()


def _purge_in_part(log: ExecutionLog, store: Counting) -> None:
    """What an interrupted purge leaves: the tombstone goes last."""
    store.delete(list(store.scan(""))[1:])


def test_an_interrupted_purge_leaves_the_tombstone(log: ExecutionLog, store: Counting) -> None:
    _filled(log, 3)
    log.delete()
    deleted: list[list[str]] = []
    store.delete = lambda keys: deleted.append(list(keys))  # type: ignore[method-assign]

    log.purge()

    assert deleted[-1] == list(store.scan(""))[:1]
    assert [key for keys in reversed(deleted) for key in keys] == list(store.scan(""))


def test_a_purge_leaves_nothing(log: ExecutionLog, store: Counting) -> None:
    _filled(log, 3)
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
    running = _filled(log, 3)
    log.delete()
    log.purge()
    log.checkpoint(running, _state(4))

    log.sweep()

    assert list(store.scan("")) == []


def test_a_sweep_leaves_a_living_log_alone(log: ExecutionLog, store: Counting) -> None:
    _filled(log, 3)
    keys = list(store.scan(""))

    log.sweep()

    assert list(store.scan("")) == keys


def test_an_own_write_is_recognised_after_a_lost_answer(memory: MemoryObjects) -> None:
    """The client repeats the request, and meets what it wrote itself."""
    store = Faulty(memory)
    log = ExecutionLog(store, ID)
    head = _filled(log, 3)
    store.faults = [Fault.REPEATED]

    saved = log.checkpoint(head, _state(4))

    assert saved.entry.seq == head.entry.seq + 1
    assert log.head().entry == saved.entry


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST])
def test_after_doubt_the_next_checkpoint_is_saved(memory: MemoryObjects, fault: Fault) -> None:
    store = Faulty(memory)
    log = ExecutionLog(store, ID)
    head = _filled(log, 3)
    store.faults = [fault]
    with pytest.raises(StoreUnavailable):
        log.checkpoint(head, _state(4))

    head = log.checkpoint(head, _state(5))

    assert log.head().state == _state(5)
    assert head.entry.seq == {Fault.LOST: 5, Fault.ANSWER_LOST: 6}[fault]


def test_a_damaged_bit_is_noticed(memory: MemoryObjects) -> None:
    """Wherever it is, in the header or in the payload."""
    log = ExecutionLog(memory, ID)
    _filled(log, 3)
    key = next(memory.scan(""))
    data = memory.get([key])[key]

    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        memory.delete([key])
        memory.create(key, bytes(damaged))
        with pytest.raises(CorruptEntry) as damage:
            log.head()
        assert damage.value.key == key


def test_an_entry_in_the_place_of_another_is_noticed(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    _filled(log, 3)
    first, second = list(memory.scan(""))[:2]
    data = memory.get([second])[second]
    memory.delete([first])
    memory.create(first, data)

    with pytest.raises(CorruptEntry, match="it is entry 3"):
        log.head()


def test_a_process_far_behind_reads_no_more_than_it_needs(
    log: ExecutionLog, store: Counting
) -> None:
    old = _filled(log, 1)
    head = log.attempt()
    for number in range(300):
        head = log.checkpoint(head, _state(number))
    store.forget()

    with pytest.raises(Superseded):
        log.checkpoint(old, _state(4))

    assert sum(store.rounds) <= 2


def test_a_process_behind_a_purged_log_soon_meets_the_tombstone(
    log: ExecutionLog, store: Counting
) -> None:
    """What it writes before that lies behind the tombstone, and goes with it."""
    old = _filled(log, 3)
    log.checkpoint(log.head(), _state(9))
    log.delete()
    _purge_in_part(log, store)

    behind = log.checkpoint(old, _state(4))
    with pytest.raises(ExecutionDeleted):
        log.checkpoint(behind, _state(5))

    assert log.head().deleted
    log.purge()
    assert list(store.scan("")) == []


def test_a_missing_base_is_noticed(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    head = _filled(log, 30)
    missing = bases(head.entry.seq)[1]
    memory.delete([f"ef/{ID}/{999_999_999 - missing:09d}"])

    with pytest.raises(CorruptEntry, match=f"its base, entry {missing}, is missing"):
        log.head()


def test_an_entry_of_a_newer_format_is_refused() -> None:
    with pytest.raises(CorruptEntry, match="this version reads format 1"):
        Entry.from_bytes(b'{"v":2}\n', key="a key", seq=0)


def _record(head: Head) -> Record:
    return Record(
        order=head.entry.seq,
        parent=0,
        key="key",
        step="step",
        at=head.entry.at,
        outcome=Outcome.DONE,
        result=b"1",
    )


def test_checkpoints_among_many_steps_are_found_in_few_rounds() -> None:
    """A read does not fetch what steps have recorded in between."""
    counting = Counting(MemoryObjects())
    log = ExecutionLog(counting, ID)
    head = log.create({}, b"{}")
    for n in range(40):
        for _ in range(25):
            head = log.record(head, [_record(head)])
        head = log.checkpoint(head, b'{"n":%d}' % n, label=f"{n}")
    counting.forget()

    history = log.read(checkpoints=30)

    assert [entry.label for entry in history.checkpoints()] == [f"{n}" for n in range(39, 9, -1)]
    assert history.state(history.numbers[-1]) == b'{"n":10}'
    assert len(counting.rounds) <= 4
    assert sum(counting.rounds) < 400


def test_an_entry_knows_which_of_the_newest_entries_are_checkpoints() -> None:
    log = ExecutionLog(MemoryObjects(), ID)
    head, kinds = log.create({}, b"{}"), [Kind.CREATED]
    for n, kind in enumerate("CSCCSSSCSCCCSSC" * 3):
        saves = kind == "C"
        head = log.checkpoint(head, b"%d" % n) if saves else log.record(head, [_record(head)])
        kinds.append(head.entry.kind)
        known = list(head.entry.checkpoints_before())
        newest = [seq for seq, kind in enumerate(kinds) if kind is Kind.CHECKPOINT][::-1]
        assert known == newest[: len(known)]
        assert len(known) >= min(len(newest), RUNS // 2 - 1)


# ------------------------------------------------------------------ outlines


def test_outlines_tell_what_was_recorded_without_reading_the_texts(
    log: ExecutionLog, store: Counting
) -> None:
    log.create({"name": "x" * 20_000}, b"{}")
    head = log.attempt()
    for number in range(3):
        state = json.dumps({"n": number, "noise": token_hex(200_000)}).encode()
        head = log.checkpoint(head, state, label=f"number {number}")
    whole = log.read(checkpoints=None).entries

    outlines = log.outlines(100)

    assert [entry.seq for entry in outlines] == [0, 1, 2, 3, 4]
    assert outlines[0].meta == {"name": "x" * 20_000}
    checkpoints = {entry.seq: entry for entry in outlines if entry.kind is Kind.CHECKPOINT}
    assert checkpoints == {seq: replace(whole[seq], state=None, journal=None) for seq in (2, 3, 4)}
    assert [entry.seq for entry in log.outlines(2)] == [3, 4]


def test_a_damaged_outline_says_where(log: ExecutionLog, store: Counting) -> None:
    log.create({}, b"{}")
    (key,) = store.scan("")
    for data in (b"", b"{", b"x" * 10_000, b"{}\n", b'{"v": 99}\n'):
        store.delete([key])
        store.create(key, data)

        with pytest.raises(CorruptEntry, match=key):
            log.outlines(1)


def test_no_log_has_no_outlines(log: ExecutionLog) -> None:
    with pytest.raises(ExecutionNotFound):
        log.outlines(1)
