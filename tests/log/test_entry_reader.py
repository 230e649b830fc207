"""Reading stored entries by their numbers: keys, outlines, large results, damage."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from secrets import token_hex

import pytest

from logs import ID, META, call, filled, large
from prefect_executions.errors import (
    CorruptEntry,
    ExecutionDeleted,
    ExecutionNotFound,
)
from prefect_executions.log.entry import Kind
from prefect_executions.log.journal import (
    LARGE,
    decode,
)
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting


def test_keys_run_downwards_in_the_shard_of_the_id(log: ExecutionLog, store: Counting) -> None:
    filled(log, 1)

    assert list(store.scan("")) == [
        f"ef/{ID}/999999997",
        f"ef/{ID}/999999998",
        f"ef/{ID}/999999999",
    ]


def _incompressible(size: int, seed: int) -> bytes:
    """A state that has this size when it is compressed."""
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
    assert (store.scans, store.rounds) == (1, [4, 3])


@pytest.mark.parametrize("kept", [0, 50, 1000, 2 << 20, 3 << 20, -1])
def test_an_entry_without_its_end_is_noticed(memory: MemoryObjects, kept: int) -> None:
    """It may be longer or shorter than what is read at first, or just as long."""
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
    filled(log, 3)
    key = next(memory.scan(""))
    data = memory.get([key])[key]
    memory.delete([key])
    memory.create(key, data + b"0")

    with pytest.raises(CorruptEntry, match="it is entry 4, of"):
        log.head()


def test_a_damaged_bit_is_noticed(memory: MemoryObjects) -> None:
    """It may be anywhere in the header or in the payload."""
    log = ExecutionLog(memory, ID)
    filled(log, 3)
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


def test_a_damaged_bit_of_an_entry_with_a_journal_is_noticed_or_changes_nothing(
    log: ExecutionLog, memory: MemoryObjects, head: Head
) -> None:
    """A bit of a zstd frame may say how much memory is needed at the most, and so on."""
    log.record(log.record(head, [call(1)]), [call(2)])
    key = next(memory.scan(""))
    data = memory.get([key])[key]
    noticed = 0

    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        memory.delete([key])
        memory.create(key, bytes(damaged))
        try:
            records = log.head().records()
        except CorruptEntry:
            noticed += 1
        else:
            assert records == {1: call(1), 2: call(2)}
    assert noticed > 0.95 * len(data)


def test_an_entry_in_the_place_of_another_is_noticed(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    filled(log, 3)
    first, second = list(memory.scan(""))[:2]
    data = memory.get([second])[second]
    memory.delete([first])
    memory.create(first, data)

    with pytest.raises(CorruptEntry, match="it is entry 3"):
        log.head()


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
    states = {seq: entry.state for seq, entry in whole.items() if entry.state is not None}
    assert checkpoints == {
        seq: replace(whole[seq], state=replace(states[seq], payload=b""), journal=None)
        for seq in (2, 3, 4)
    }
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


def test_a_result_is_in_the_journal_unless_it_is_large(log: ExecutionLog, head: Head) -> None:
    just, over = b'"%s"' % (b"a" * (LARGE - 2)), b'"%s"' % (b"a" * (LARGE - 1))

    head = log.record(head, [replace(call(1), result=just), replace(call(2), result=over)])

    one, two = decode(head.journal).values()
    assert (one.result, one.large) == (just, None)
    assert two.result is None
    assert two.large is not None
    assert log.large_result(two.large) == over


def test_a_large_result_is_read_by_nothing_but_its_replay(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    store.forget()
    head = log.record(head, [large(10 << 20)])
    after = [
        log.checkpoint(head, b'{"n": 1}', records=[call(2)]),
        log.attempt(),
        log.rollback(2 + 1),
        log.attempt(),
    ]

    assert store.created[0] > 10 << 20
    assert all(size < 1500 for size in store.created[1:])
    assert sum(store.received) < (2 << 20) * (len(after) + 1)
    assert max(store.rounds) <= 6
    store.forget()
    where = decode(log.head().journal)[1].large
    assert where is not None
    assert (store.scans, len(store.rounds)) == (1, 1)
    assert sum(store.received) < (2 << 20) + 4096
    store.forget()
    assert log.large_result(where) == large(10 << 20).result
    assert (store.scans, store.rounds, store.received) == (0, [1], [where.stored])


def test_several_large_results_are_found_again(log: ExecutionLog, head: Head) -> None:
    """They are in the entry of their records, even when another writer took the first number."""
    results = [large(LARGE, order) for order in (1, 2, 3)]
    log.checkpoint(log.head(), b'{"n": 7}')
    head = log.checkpoint(head, b'{"n": 8}', records=[*results[:2], call(9), results[2]])

    places = [record.large for record in decode(log.head().journal).values() if record.large]

    assert [where.seq for where in places] == [3, 3, 3]
    assert places[0].start % 64 == 0
    assert [b.start - a.start for a, b in pairwise(places)] == [a.stored for a in places[:2]]
    assert [log.large_result(where) for where in places] == [record.result for record in results]


def test_entries_that_do_not_fit_are_read_without_their_large_results(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    state = json.dumps(random.Random(0).randbytes(3 << 20).hex()).encode()
    head = log.checkpoint(head, state, records=[large(12 << 20)])
    store.forget()

    assert log.head().state == state
    assert store.rounds == [3, 1]
    assert sum(store.received) < (2 << 20) + (4 << 20)


@pytest.mark.parametrize("at", [1, 1 << 19, (1 << 20) + 10])
def test_a_damaged_large_result_is_noticed(
    log: ExecutionLog, memory: MemoryObjects, head: Head, at: int
) -> None:
    """Only its own reader notices."""
    head = log.record(head, [large(LARGE)])
    where = decode(head.journal)[1].large
    assert where is not None
    key = next(memory.scan(""))
    data = bytearray(memory.get([key])[key])
    data[-at] ^= 1
    memory.delete([key])
    memory.create(key, bytes(data))

    with pytest.raises(CorruptEntry, match="a large result is damaged") as damage:
        log.large_result(where)

    assert damage.value.key == key
    assert log.head().journal == head.journal


@pytest.mark.parametrize("kept", [0, 10, 2000, LARGE, -1])
def test_a_large_result_without_its_end_is_noticed(
    log: ExecutionLog, memory: MemoryObjects, head: Head, kept: int
) -> None:
    where = decode(log.record(head, [large(LARGE)]).journal)[1].large
    assert where is not None
    key = next(memory.scan(""))
    data = memory.get([key])[key]
    memory.delete([key])
    memory.create(key, data[:kept])

    with pytest.raises(CorruptEntry):
        log.large_result(where)


def test_where_no_large_result_is_that_is_noticed(log: ExecutionLog, head: Head) -> None:
    head = log.record(head, [large(LARGE)])
    where = decode(head.journal)[1].large
    assert where is not None

    for elsewhere in (
        replace(where, seq=1),
        replace(where, start=where.start + 1),
        replace(where, start=where.start + where.stored),
        replace(where, stored=where.stored - 1),
        replace(where, size=where.size + 1),
        replace(where, sha256="0" * 64),
    ):
        with pytest.raises(CorruptEntry, match="a large result is damaged"):
            log.large_result(elsewhere)
    with pytest.raises(CorruptEntry, match="it is missing, and with it a large result"):
        log.large_result(replace(where, seq=99))


def test_a_large_result_of_a_purged_log_is_gone(log: ExecutionLog, head: Head) -> None:
    where = decode(log.record(head, [large(LARGE)]).journal)[1].large
    assert where is not None
    log.delete()
    log.purge()

    with pytest.raises(ExecutionDeleted):
        log.large_result(where)
