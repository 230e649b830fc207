"""When saved checkpoints become durable: at once, beside the flow, or at its end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_executions import serialization
from prefect_executions.errors import ExecutionNotFound, StoreUnavailable, Superseded
from prefect_executions.log.journal import Outcome, Record, decode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.runtime.writer import IN_FLIGHT, Durability, LogWriter
from prefect_executions.storage.objects import MemoryObjects
from stores import Fault, Faulty
from strategies import examples

ID = "exec_0123456789abcdef0123456789abcdef"


@dataclass
class Gated:
    """A store that creates no object until its gate is open."""

    inner: Any
    open: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def create(self, key: str, data: bytes) -> None:
        self.arrived.release()
        assert self.open.wait(20)
        self.inner.create(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


Make = Callable[..., LogWriter]


@pytest.fixture
def memory() -> Faulty:
    return Faulty(MemoryObjects())


@pytest.fixture
def make(memory: Faulty) -> Iterator[Make]:
    writers: list[LogWriter] = []

    def writer(durability: str = "sync", objects: Any = None, **options: Any) -> LogWriter:
        plain = ExecutionLog(memory, ID)
        if not plain.exists():
            plain.create({}, b"0")
        log = ExecutionLog(objects or memory, ID)
        writers.append(LogWriter(log, plain.attempt(), Durability(durability), **options))
        return writers[-1]

    yield writer
    for made in writers:
        made.close()


def record(order: int, outcome: Outcome = Outcome.DONE) -> Record:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Record(
        order=order, parent=0, key=f"{order}", step="s", at=at, outcome=outcome, result=b"1"
    )


def one(order: int) -> list[Record]:
    return [record(order)]


def written(memory: Faulty) -> list[tuple[str, str | None]]:
    """The kinds and labels of the log's entries after the attempt."""
    history = ExecutionLog(memory, ID).read(checkpoints=None)
    entries = [entry for _, entry in sorted(history.entries.items())]
    start = max(n for n, entry in enumerate(entries) if entry.kind.value == "attempt")
    return [(entry.kind.value, entry.label) for entry in entries[start + 1 :]]


def recorded(memory: Faulty) -> list[int]:
    return list(decode(ExecutionLog(memory, ID).head().journal))


# ---------------------------------------------------------------------- fenced


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_who_has_counted_a_retry_writes_no_more(
    make: Make, memory: Faulty, durability: str
) -> None:
    """A timed checkpoint would write while the process still reports to Prefect that it ends."""
    writer = make(durability)
    writer.append(lambda head: writer.log.retry(head, answers="state", reason="it failed"))

    def save() -> None:
        writer.checkpoint(b"2")
        writer.flush()

    with pytest.raises(Superseded):
        save()

    assert writer.lost
    assert written(memory) == [("retry", None)]


# ---------------------------------------------------------------------- sync


def test_what_is_saved_is_durable_when_the_call_returns(make: Make, memory: Faulty) -> None:
    writer = make()
    writer.record(lambda: [record(1)])
    assert recorded(memory) == [1]
    seq = writer.checkpoint(b"1", label="one")
    assert seq == ExecutionLog(memory, ID).head().entry.seq
    assert written(memory) == [("steps", None), ("checkpoint", "one")]


def test_what_ends_together_shares_an_entry(make: Make, memory: Faulty) -> None:
    gated = Gated(memory)
    writer = make(objects=gated)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(writer.record, lambda: [record(1)])
        assert gated.arrived.acquire(timeout=10)
        others = [pool.submit(writer.record, partial(one, n)) for n in range(2, 10)]
        while len(writer._waiting) < 9:
            assert not first.done()
        gated.open.set()
        for done in (first, *others):
            done.result(timeout=10)
    assert written(memory) == [("steps", None)] * 2
    assert sorted(recorded(memory)) == list(range(1, 10))


def test_a_note_waits_for_something_of_use(make: Make, memory: Faulty) -> None:
    writer = make()
    writer.record(lambda: [record(1, Outcome.BEGUN)])
    assert written(memory) == []
    assert writer.is_idle
    writer.record(lambda: [record(2)])
    assert written(memory) == [("steps", None)]
    assert recorded(memory) == [1, 2]


def test_records_stand_with_the_checkpoint_after_them(make: Make, memory: Faulty) -> None:
    writer = make()
    writer.record(lambda: [record(1, Outcome.BEGUN)])
    writer.checkpoint(b"1", take=lambda: [record(2)])
    assert written(memory) == [("checkpoint", None)]
    assert recorded(memory) == [1, 2]


def test_who_saves_learns_that_it_failed_and_nobody_saves_it_later(
    make: Make, memory: Faulty
) -> None:
    writer = make()
    memory.faults = [Fault.LOST]
    with pytest.raises(StoreUnavailable):
        writer.checkpoint(b"1", label="lost")
    assert writer.is_idle
    writer.checkpoint(b"2", label="kept")
    assert written(memory) == [("checkpoint", "kept")]


def test_a_record_that_failed_is_written_by_the_next_flush(make: Make, memory: Faulty) -> None:
    writer = make()
    memory.faults = [Fault.LOST]
    with pytest.raises(StoreUnavailable):
        writer.record(lambda: [record(1)])
    writer.flush()
    assert recorded(memory) == [1]


def test_two_that_save_at_once_are_told_of_their_own_failures_only(
    make: Make, memory: Faulty
) -> None:
    """When one thread writes for another and fails, the other one tries itself."""
    gated = Gated(memory)
    writer = make(objects=gated)
    memory.faults = [Fault.LOST]  # the first creation
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(writer.record, lambda: [record(1)])
        assert gated.arrived.acquire(timeout=10)
        second = pool.submit(writer.checkpoint, b"1")
        while len(writer._waiting) < 2:
            assert not second.done()
        gated.open.set()
        with pytest.raises(StoreUnavailable):
            first.result(timeout=10)
        assert second.result(timeout=10) is not None
    assert recorded(memory) == [1]
    assert written(memory) == [("checkpoint", None)]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_writer_whose_log_was_taken_over_writes_nothing_more(
    make: Make, memory: Faulty, durability: str
) -> None:
    old = make(durability)
    make()  # another attempt

    def save(act: Callable[[], object]) -> None:
        act()
        old.flush()

    for act in (lambda: old.checkpoint(b"1"), lambda: old.record(lambda: [record(1)])) * 2:
        with pytest.raises(Superseded):
            save(act)
        assert old.lost
    assert written(memory) == []


def test_a_writer_whose_execution_was_deleted_is_lost(make: Make, memory: Faulty) -> None:
    writer = make()
    ExecutionLog(memory, ID).delete()
    with pytest.raises(ExecutionNotFound):
        writer.checkpoint(b"1")
    assert writer.lost


# ---------------------------------------------------------------------- async


def test_saving_beside_the_flow_returns_at_once_and_keeps_the_order(
    make: Make, memory: Faulty
) -> None:
    gated = Gated(memory)
    writer = make("async", gated)
    for n in range(5):
        assert writer.checkpoint(b"%d" % n, label=f"{n}") is None
        writer.record(partial(one, n + 1))
    assert gated.arrived.acquire(timeout=10)
    assert written(memory) == []
    assert writer.is_saved(b"4", "4")  # for all that a saving thread needs
    gated.open.set()
    writer.flush()

    kinds = written(memory)
    assert [label for kind, label in kinds if kind == "checkpoint"] == [f"{n}" for n in range(5)]
    assert recorded(memory) == [1, 2, 3, 4, 5]
    assert writer.is_idle


def test_no_more_are_in_flight_than_a_few(make: Make, memory: Faulty) -> None:
    gated = Gated(memory)
    writer = make("async", gated)
    for n in range(IN_FLIGHT):
        writer.checkpoint(b"%d" % n)
    with ThreadPoolExecutor(1) as pool:
        one_more = pool.submit(writer.checkpoint, b"more")
        with pytest.raises(TimeoutError):
            one_more.result(timeout=0.3)
        gated.open.set()
        one_more.result(timeout=10)
    writer.flush()
    assert len(written(memory)) == IN_FLIGHT + 1


@pytest.mark.parametrize(
    ("limit", "most"), [("RECORDS_IN_FLIGHT", 3), ("BYTES_IN_FLIGHT", 2)], ids=["many", "large"]
)
def test_no_more_records_are_in_flight_than_some(
    make: Make, memory: Faulty, limit: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"prefect_executions.runtime.writer.{limit}", most)
    gated = Gated(memory)
    writer = make("async", gated)
    for n in range(2):
        writer.record(partial(one, n + 1))
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(writer.record, partial(one, 3))
        with pytest.raises(TimeoutError):
            third.result(timeout=0.3)
        gated.open.set()
        third.result(timeout=10)
    writer.flush()
    assert recorded(memory) == [1, 2, 3]


def test_a_failure_beside_the_flow_surfaces_at_the_next_call_and_loses_nothing(
    make: Make, memory: Faulty
) -> None:
    failed = threading.Event()

    def once(act: Callable[[], None]) -> None:
        try:
            act()
        except StoreUnavailable:
            failed.set()
            raise

    writer = make("async", patiently=once)
    memory.faults = [Fault.LOST]
    writer.checkpoint(b"1", label="one")
    assert failed.wait(10)
    while writer._failure is None:
        assert not writer.is_idle

    with pytest.raises(StoreUnavailable):
        writer.checkpoint(b"2", label="two")
    writer.checkpoint(b"3", label="three")
    writer.flush()
    assert written(memory) == [("checkpoint", "one"), ("checkpoint", "three")]


def test_a_failure_beside_the_flow_surfaces_at_the_end(make: Make, memory: Faulty) -> None:
    writer = make("async")
    memory.faults = [Fault.LOST] * 3
    writer.checkpoint(b"1")

    def end() -> None:
        for _ in range(3):  # the thread may have used up one or two of the faults
            writer.flush()

    with pytest.raises(StoreUnavailable):
        end()
    memory.faults = []
    writer.flush()
    assert written(memory) == [("checkpoint", None)]


# ---------------------------------------------------------------------- in doubt


def test_a_failure_whose_answer_was_lost_saves_nothing_twice(make: Make, memory: Faulty) -> None:
    writer = make()
    memory.faults = [Fault.REPEATED]
    writer.checkpoint(b"1", label="one")
    assert written(memory) == [("checkpoint", "one")]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_save_that_is_tried_again_is_the_same_save(
    make: Make, memory: Faulty, durability: str, lost: int
) -> None:
    """Whoever tries again: the thread that writes, the end of the attempt, or the caller."""
    writer = make(durability, patiently=_again)
    memory.faults = [Fault.ANSWER_LOST] * lost
    records = one(1)

    def take() -> list[Record]:
        return [records.pop()] if records else []

    def save() -> int | None:
        if not writer.is_saved(b"1", "one"):
            writer.checkpoint(b"1", label="one", take=take)
        writer.flush()
        return writer.head.entry.seq

    seq = _again(save)

    assert written(memory) == [("checkpoint", "one")]
    assert recorded(memory) == [1]
    assert ExecutionLog(memory, ID).head().entry == writer.head.entry
    assert seq == writer.head.entry.seq


def _again(act: Callable[[], Any]) -> Any:
    """Like `patiently`, without the pauses."""
    while True:
        try:
            return act()
        except StoreUnavailable:
            pass


def test_a_caller_that_saves_again_is_told_the_number_of_the_first_entry(
    make: Make, memory: Faulty
) -> None:
    writer = make()
    memory.faults = [Fault.ANSWER_LOST]
    with pytest.raises(StoreUnavailable):
        writer.checkpoint(b"1", label="one")
    with_more = writer.checkpoint(b"1", label="one", take=partial(one, 1))
    assert with_more == 2
    assert written(memory) == [("checkpoint", "one"), ("steps", None)]
    assert recorded(memory) == [1]


def test_after_an_answer_that_was_lost_for_good_the_next_checkpoint_follows(
    make: Make, memory: Faulty
) -> None:
    """What was recorded with the first is not recorded again."""
    told: list[int] = []
    writer = make(tell=lambda head, _: told.append(head.entry.seq))
    memory.faults = [Fault.ANSWER_LOST]
    with pytest.raises(StoreUnavailable):
        writer.checkpoint(b"1", label="one", take=partial(one, 1))
    writer.checkpoint(b"2", label="two", take=partial(one, 2))

    first, second = ExecutionLog(memory, ID).read(checkpoints=None).checkpoints()[::-1]
    assert (first.label, second.label) == ("one", "two")
    assert told == [first.seq, second.seq]
    assert recorded(memory) == [1, 2]
    assert len(ExecutionLog(memory, ID).head().journal.splitlines()) == 2


def test_what_is_in_doubt_is_found_after_what_others_have_saved(make: Make, memory: Faulty) -> None:
    """The first try came after a checkpoint over REST, and the next one begins before that."""
    writer = make()
    log = ExecutionLog(memory, ID)
    log.checkpoint(log.head(), b"7", label="by hand")
    memory.faults = [Fault.ANSWER_LOST, Fault.NONE]
    with pytest.raises(StoreUnavailable):
        writer.checkpoint(b"1", label="one")
    log.checkpoint(log.head(), b"8", label="by hand")

    assert writer.checkpoint(b"1", label="one") == 3
    writer.checkpoint(b"2", label="two")

    labels = [label for _, label in written(memory)]
    assert labels == ["by hand", "one", "by hand", "two"]


def test_a_save_in_doubt_is_known_even_if_another_attempt_has_begun_since(
    make: Make, memory: Faulty
) -> None:
    writer = make()
    memory.faults = [Fault.ANSWER_LOST]
    with pytest.raises(StoreUnavailable):
        writer.checkpoint(b"1", label="one")
    make()  # another attempt

    assert writer.checkpoint(b"1", label="one") == 2
    with pytest.raises(Superseded):
        writer.checkpoint(b"2")


def test_states_in_doubt_are_not_kept_forever(make: Make, memory: Faulty) -> None:
    writer = make()
    memory.faults = [Fault.LOST] * 20
    for n in range(20):
        with pytest.raises(StoreUnavailable):
            writer.checkpoint(b"[%d]" % n)
    kept = [item for tried in writer._tried.values() for item in tried]
    assert sum(len(item.state) for item in kept if not isinstance(item, Record)) == len(b"[19]")


def test_the_same_work_has_one_nonce_however_often_it_is_tried(make: Make, memory: Faulty) -> None:
    writer = make()
    memory.faults = [Fault.LOST] * 20
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            writer.checkpoint(b"1", label="one")
    (nonce,) = writer._tried

    writer.checkpoint(b"1", label="one")

    assert writer.head.entry.nonce == nonce


@given(
    durability=st.sampled_from(["sync", "async", "exit"]),
    acts=st.lists(st.sampled_from(["save", "record", "flush", "by hand"]), max_size=12),
    faults=st.lists(st.sampled_from(Fault), max_size=20),
    again=st.lists(st.booleans(), min_size=12, max_size=12),
)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_is_lost_each_save_is_stored_once_and_in_its_order(
    durability: str, acts: list[str], faults: list[Fault], again: list[bool]
) -> None:
    """A caller that hears of a failure saves the same again, or goes on with the next state."""
    memory = Faulty(MemoryObjects())
    log = ExecutionLog(memory.inner, ID)
    log.create({}, b"0")
    writer = LogWriter(ExecutionLog(memory, ID), log.attempt(), Durability(durability))
    memory.faults = faults
    kept: list[bytes] = []  # saved for sure
    orders = 0
    for number, (act, repeats) in enumerate(zip(acts, again, strict=False), 1):
        state = b"[%d]" % number

        def save(state: bytes = state) -> None:
            writer.checkpoint(state)

        try:
            if act == "save":
                (_again if repeats else lambda do: do())(save)
                kept.append(state)
            elif act == "record":
                orders += 1
                writer.record(partial(one, orders))
            elif act == "flush":
                writer.flush()
            else:
                log.checkpoint(log.head(), b'"%d"' % number)
        except StoreUnavailable:
            pass
    memory.faults = []
    _again(writer.flush)
    writer.close()

    history = log.read(checkpoints=None, journal=True)
    states = [history.state(entry.seq) for entry in history.checkpoints()[::-1]]
    own = [state for state in states if state.startswith(b"[")]
    assert own == sorted(set(own), key=lambda state: int(state[1:-1]))
    if durability != "exit":
        assert set(kept) <= set(own)
    elif kept:
        assert own[-1] == kept[-1] or own[-1] not in kept
    records = history.head.journal
    assert list(decode(records)) == list(range(1, orders + 1))
    assert len(records.splitlines()) == orders  # none is there twice


# ---------------------------------------------------------------------- exit


def test_at_exit_the_newest_state_and_all_records_are_written_in_one_entry(
    make: Make, memory: Faulty
) -> None:
    writer = make("exit")
    for n in range(5):
        writer.record(partial(one, n + 1))
        assert writer.checkpoint(b"%d" % n, label=f"{n}") is None
    assert written(memory) == []
    writer.flush()
    assert written(memory) == [("checkpoint", "4")]
    assert recorded(memory) == [1, 2, 3, 4, 5]
    assert serialization.load(ExecutionLog(memory, ID).head().state) == 4


def test_what_is_appended_comes_after_all_that_was_taken_down(make: Make, memory: Faulty) -> None:
    writer = make("exit")
    writer.checkpoint(b"1", label="one")
    writer.append(lambda head: writer.log.retry(head, answers="id", reason="why"))
    assert written(memory) == [("checkpoint", "one"), ("retry", None)]
    assert writer.head.entry.retries == 1


def test_what_was_recorded_when_an_earlier_failure_surfaces_is_not_lost(
    make: Make, memory: Faulty
) -> None:
    writer = make("async")
    memory.faults = [Fault.LOST]

    def surfaces(n: int) -> bool:
        try:
            writer.record(partial(one, n))
        except StoreUnavailable:
            return True
        return False

    at_once = surfaces(1)  # where the thread was quick
    while not at_once and writer._failure is None:
        assert not writer.is_idle

    assert surfaces(2) is not at_once
    writer.flush()
    assert recorded(memory) == [1, 2]


def test_a_writer_whose_thread_dies_says_so(make: Make, memory: Faulty) -> None:
    class Death(BaseException): ...

    def die(act: Callable[[], None]) -> None:
        raise Death

    writer = make("async", patiently=die)
    writer.checkpoint(b"0")

    def save_on() -> None:
        for n in range(1, 2 * IN_FLIGHT):
            writer.checkpoint(b"%d" % n)

    with pytest.raises(Death):
        save_on()
