"""Claims: whoever comes from outside gets its turn, and nothing that was acknowledged is lost."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from logs import ID, META, assert_linear, call, filled, numbered
from prefect_executions.errors import ExecutionDeleted, StoreUnavailable, Superseded
from prefect_executions.log import claims
from prefect_executions.log.entry import Kind
from prefect_executions.log.journal import decode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.s3 import S3Objects
from stores import Counting, Fault, Faulty

WRITERS = 16

# What ends the right of an attempt to write, and what does not.
FENCES: dict[str, Callable[[ExecutionLog, Head], Head]] = {
    "attempt": lambda log, _: log.attempt(),
    "rollback": lambda log, _: log.rollback(2),
    "crash": lambda log, head: log.crash(head, answers="a", dead_seconds=1, reason="No sign"),
    "retry": lambda log, head: log.retry(head, answers="a", reason="RuntimeError"),
    "result": lambda log, head: log.result(head, 42),
}
ADDITIONS: dict[str, Callable[[ExecutionLog, Head], Head]] = {
    "checkpoint": lambda log, head: log.checkpoint(head, b'{"by": "hand"}', label="by hand"),
    "steps": lambda log, head: log.record(head, [call(1)]),
}


@dataclass
class Beside:
    """A store beside a process that saves so many checkpoints before each request."""

    inner: Objects
    head: Head
    speed: int
    saved: dict[int, bytes] = field(default_factory=dict)
    superseded: bool = False
    requests: int = 0

    def _save(self) -> None:
        self.requests += 1
        for _ in range(0 if self.superseded else self.speed):
            state = numbered(1000 + len(self.saved))
            try:
                self.head = ExecutionLog(self.inner, ID).checkpoint(self.head, state)
            except Superseded:
                self.superseded = True
                return
            self.saved[self.head.entry.seq] = state

    def create(self, key: str, data: bytes) -> None:
        self._save()
        self.inner.create(key, data)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        self._save()
        return self.inner.get(keys, first=first, skip=skip)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        self._save()
        return self.inner.scan(prefix, limit=limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def assert_all_there(log: ExecutionLog, saved: dict[int, bytes]) -> None:
    history = log.read(checkpoints=None)
    assert saved.keys() <= {*history.numbers}
    for seq, state in saved.items():
        assert history.state(seq) == state


@pytest.mark.parametrize("speed", [1, 3, 10])
@pytest.mark.parametrize("act", FENCES)
def test_whoever_fences_wins_beside_a_process_that_never_pauses(
    memory: MemoryObjects, act: str, speed: int
) -> None:
    """The faster the process, the farther ahead: a few requests more for each doubling."""
    running = filled(ExecutionLog(memory, ID), 3)
    store = Beside(memory, running, speed)

    made = FENCES[act](ExecutionLog(store, ID), running)

    assert store.requests <= 40
    assert store.superseded
    log = ExecutionLog(memory, ID)
    assert log.head().entry == made.entry
    assert_all_there(log, store.saved)
    newest = max(store.saved)
    assert made.entry.continues_from == (2 if act == "rollback" else newest)
    assert made.state == (numbered(1) if act == "rollback" else store.saved[newest])
    assert made.entry.begun == (made.entry.seq if act == "attempt" else 1)
    assert log.checkpoint(log.attempt(), numbered(7)).entry.seq == made.entry.seq + 2


@pytest.mark.parametrize("act", FENCES)
def test_on_a_real_server_a_challenger_wins_beside_sixteen_writers(s3: S3Objects, act: str) -> None:
    log = ExecutionLog(s3, ID)
    running = filled(log, 3)
    counting = Counting(s3)

    made, saved = _beside_writers(
        log, running, WRITERS, lambda: FENCES[act](ExecutionLog(counting, ID), running)
    )

    # Two that it lost, the farthest claim, those down to the newest entry, and once more for each
    # of those who had just read the head.
    assert len(counting.created) <= 2 + 2 * claims._AHEAD + WRITERS
    assert_all_there(log, saved)
    assert log.head().entry == made.entry
    assert made.entry.seq > max(saved)


@pytest.mark.parametrize("act", ADDITIONS)
def test_on_a_real_server_who_adds_something_gets_its_turn_and_the_writer_goes_on(
    s3: S3Objects, act: str
) -> None:
    log = ExecutionLog(s3, ID)
    running = filled(log, 3)

    def add() -> Head:
        made = ADDITIONS[act](log, running)
        while log.newest() == made.entry.seq:
            pass
        return made

    made, saved = _beside_writers(log, running, 1, add)

    assert_all_there(log, saved)
    assert log.head().entry.seq == max(saved) > made.entry.seq
    assert log.read(checkpoints=None, journal=True).entries[made.entry.seq] == made.entry
    assert list(decode(log.head().journal)) == ([1] if act == "steps" else [])


def _beside_writers(
    log: ExecutionLog, running: Head, writers: int, act: Callable[[], Head]
) -> tuple[Head, dict[int, bytes]]:
    """Act while others save without pause; what was made, and what they have saved."""
    under_way, stop = Event(), Event()

    def save(number: int) -> dict[int, bytes]:
        head, saved = running, dict[int, bytes]()
        while not stop.is_set():
            state = json.dumps({"writer": number, "n": len(saved)}).encode()
            try:
                head = log.checkpoint(head, state)
            except Superseded:
                break
            saved[head.entry.seq] = state
            if len(saved) == 3:
                under_way.set()
        return saved

    with ThreadPoolExecutor(writers) as pool:
        saving = [pool.submit(save, number) for number in range(writers)]
        assert under_way.wait(60)
        try:
            made = act()
        finally:
            stop.set()
        return made, {seq: state for done in saving for seq, state in done.result().items()}


def _die_after(memory: MemoryObjects, creations: int, running: Head) -> dict[int, bytes]:
    """Let a process that begins an attempt die after so many creations of its own."""
    beside = Beside(memory, running, 1)
    store = Faulty(beside, [Fault.LOST] + [Fault.NONE] * creations)
    with pytest.raises(StoreUnavailable):
        ExecutionLog(store, ID).attempt()
    return beside.saved


@pytest.fixture(params=range(3, 6))
def left(request: pytest.FixtureRequest, memory: MemoryObjects) -> tuple[Head, dict[int, bytes]]:
    """A log with the claims of a process that has died, and what was saved meanwhile."""
    running = filled(ExecutionLog(memory, ID), 3)
    return running, _die_after(memory, request.param, running)


Left = tuple[Head, dict[int, bytes]]


def test_claims_that_are_left_hide_nothing(memory: MemoryObjects, left: Left) -> None:
    log, (_, saved) = ExecutionLog(memory, ID), left

    head = log.head()

    assert head.entry.seq == max(saved)
    assert head.state == saved[max(saved)]
    assert log.read(checkpoints=2).numbers == sorted(saved)[:-3:-1]
    assert_all_there(log, saved)


def test_the_next_attempt_goes_on_over_claims_that_are_left(
    memory: MemoryObjects, left: Left
) -> None:
    log, (_, saved) = ExecutionLog(memory, ID), left

    head = log.attempt()
    for number in range(20):
        head = log.checkpoint(head, numbered(number))
        saved[head.entry.seq] = numbered(number)
        assert log.head().entry == head.entry

    assert_all_there(log, saved)
    seqs = {*log.numbers()}
    assert {*range(head.entry.seq + 1)} <= seqs


def test_a_checkpoint_by_hand_goes_on_over_claims_that_are_left(
    memory: MemoryObjects, left: Left
) -> None:
    """Its process may have been superseded, but whoever reads the log may write."""
    log, (_, saved) = ExecutionLog(memory, ID), left

    for number in range(20):
        while True:
            try:
                head = log.checkpoint(log.head(), numbered(number))
            except Superseded:  # a claim is the very next, which the next head shows
                continue
            break
        saved[head.entry.seq] = numbered(number)

    assert_all_there(log, saved)


def test_what_is_claimed_is_not_claimed_again(memory: MemoryObjects) -> None:
    """But claims that stop nobody, or only an older attempt, are not enough to fence."""
    log = ExecutionLog(memory, ID)
    filled(log, 3)
    claimed: list[int] = []
    for attempt, fence in [(0, False), (0, False), (0, True), (0, True), (0, False), (1, True)]:
        log._claim(attempt, fence=fence)
        claimed.append(len(list(log.numbers())) - 5)
    assert claimed == [8, 8, 16, 16, 16, 24]

    log.delete()
    log._claim(1, fence=True)

    assert log.read_entries([log.require_newest()]).popitem()[1].kind is Kind.DELETED


def test_who_follows_others_fills_the_gap_before_a_claim(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    head = running = filled(log, 3)
    log._take(running.entry.seq + 5, 0, fence=True)
    log.checkpoint(log.head(), b'"by hand"')

    for number in range(8):
        head = log.checkpoint(head, numbered(number))

    assert head.entry.seq == running.entry.seq + 10
    assert [*log.numbers()][::-1] == list(range(head.entry.seq + 1))


@dataclass
class OneByOne:
    """A store that reads the objects of one call one after another, and others act in between."""

    inner: Objects
    before: dict[str, Callable[[], object]] = field(default_factory=dict)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for key in keys:
            self.before.pop(key, lambda: None)()
            found |= self.inner.get([key], first=first, skip=skip)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("act", [*FENCES, *ADDITIONS])
def test_an_entry_is_not_followed_without_those_that_were_created_just_before_it(
    memory: MemoryObjects, act: str
) -> None:
    """A claim lies ahead; while the numbers before it are read, others fill them."""
    store = OneByOne(memory)
    log, rival = ExecutionLog(store, ID), ExecutionLog(memory, ID)
    head = filled(log, 1)
    first = head.next_seq
    rival._take(first + 4, head.entry.attempt, fence=False)
    others = rival.checkpoint(head, numbered(2))

    def fill() -> None:  # `first + 1` was just read, and was not there
        made = (FENCES | ADDITIONS)[act](rival, others)
        made = rival.attempt() if act in FENCES and act != "attempt" else made
        assert rival.checkpoint(made, numbered(3)).entry.seq >= first + 2

    store.before[log.key(first + 2)] = fill

    if act in FENCES:
        with pytest.raises(Superseded):
            log.checkpoint(head, numbered(4))
        assert rival.head().state == numbered(3)
    else:
        saved = log.checkpoint(head, numbered(4))
        assert rival.head().entry == saved.entry
    history = rival.read(checkpoints=None, journal=True)
    newest = history.head.entry.seq
    assert_linear([history.entries[seq] for seq in range(newest + 1)])
    assert numbered(3) in [history.state(entry.seq) for entry in history.checkpoints()]


def test_a_process_that_meets_a_claim_of_its_own_attempt_writes_no_more(
    memory: MemoryObjects, left: Left
) -> None:
    log, (running, saved) = ExecutionLog(memory, ID), left
    head = log.at_checkpoint(max(saved)) if saved else running

    def save_on() -> None:
        nonlocal head
        for number in range(20):
            head = log.checkpoint(head, numbered(number))
            saved[head.entry.seq] = numbered(number)

    with pytest.raises(Superseded, match="claim"):
        save_on()
    assert_all_there(log, saved)


def test_what_has_claims_can_be_deleted(memory: MemoryObjects, left: Left) -> None:
    log = ExecutionLog(memory, ID)
    log.delete()
    assert log.head().deleted
    log.purge()
    assert list(memory.scan("")) == []


def test_a_tombstone_below_claims_is_one(memory: MemoryObjects) -> None:
    """A challenger had read the head before."""
    log = ExecutionLog(memory, ID)
    running = filled(log, 3)
    log.delete()
    log._take(running.entry.seq + 4, 1, fence=True)

    assert log.head().deleted
    for act in (log.attempt, lambda: log.read(checkpoints=1), lambda: log.rollback(2)):
        with pytest.raises(ExecutionDeleted):
            act()
    removed: list[list[str]] = []
    store = Counting(memory)
    store.delete = lambda keys: removed.append(list(keys))  # type: ignore[method-assign]
    ExecutionLog(store, ID).purge()
    assert ExecutionLog(memory, ID).read_entries([log.newest() or 0]).popitem()[1].kind is (
        Kind.DELETED
    )
    assert removed[-1] == [next(memory.scan(""))]
    log.purge()
    assert list(memory.scan("")) == []


def test_a_log_with_nothing_but_claims_is_deleted(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    log._take(4, 1, fence=True)

    for act in (log.head, log.attempt):
        with pytest.raises(ExecutionDeleted):
            act()


def test_claims_are_pruned_and_no_text_is_made_from_them(memory: MemoryObjects) -> None:
    """Also where the number of a claim is that of the base of many entries."""
    log = ExecutionLog(memory, ID)
    head = log.record(filled(log, 28), [call(1)])  # 31 entries
    for seq in range(31, 34):
        log._take(seq, 0, fence=True)
    for number in range(60):
        head = log.checkpoint(head, numbered(number), label="after", records=[call(number + 2)])
        assert log.head().state == numbered(number)
        assert len(log.head().records()) == number + 2
    history = log.read(checkpoints=100, journal=True)
    assert len(history.numbers) == 88
    assert all(history.state(entry.seq) for entry in history.checkpoints())
    assert [len(history.records(seq)) for seq in history.numbers] == [*range(61, 1, -1)] + [0] * 28

    prune(log, newest=5, labelled=False, also=(), before=head.entry.at.replace(year=9999))

    kept = log.read(checkpoints=None, journal=True)
    assert kept.numbers[:5] == list(range(head.entry.seq, head.entry.seq - 5, -1))
    for seq in kept.numbers:
        assert (kept.state(seq), kept.records(seq)) == (history.state(seq), history.records(seq))


def test_without_rivals_nothing_is_claimed(memory: MemoryObjects) -> None:
    log = ExecutionLog(memory, ID)
    log.create(META, b"{}")
    store = Faulty(memory)
    store.meanwhile = [lambda: log.attempt()]

    ExecutionLog(store, ID).attempt()

    assert Kind.CLAIM not in {entry.kind for entry in log.outlines(100)}
