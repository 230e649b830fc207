"""The laws of the log under any schedule of writers, crashes, faults and interleavings."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from prefect_executions.entry import Entry, Kind
from prefect_executions.errors import ExecutionNotFound, StoreUnavailable, Superseded
from prefect_executions.log import ExecutionLog, Head
from prefect_executions.objects import MemoryObjects, Objects
from prefect_executions.s3 import S3Objects
from stores import Fault, Faulty

ID = "exec_0123456789abcdef0123456789abcdef"
PROCESSES = 2
RIVAL = PROCESSES  # acts while the others are in the middle of something

processes = st.integers(0, PROCESSES - 1)
faults = st.lists(st.sampled_from(Fault), max_size=2)


def assert_linear(entries: list[Entry]) -> None:
    """The numbers have no gap, and no attempt writes after a later one, or after a roll-back."""
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    fenced = 0
    for before, entry in pairwise(entries):
        if entry.kind is Kind.ATTEMPT:
            assert entry.attempt == before.attempt + 1
            assert entry.source == before.continues_from
        else:
            assert entry.attempt == before.attempt
        fenced = max(fenced, entry.attempt)
        assert entry.attempt == fenced


class LogMachine(RuleBasedStateMachine):
    """Processes that start, save, crash; a service that saves, rolls back; a store with faults.

    `acknowledged` is what the log has promised: the state of every checkpoint whose saving
    returned. Each rule may also let another process act at the worst moment: after it has read the
    head, and before its own creation arrives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = Faulty(MemoryObjects())
        self.log = ExecutionLog(self.store, ID)
        self.heads: dict[int, Head] = {}
        self.fenced: set[int] = set()  # they must not write again
        self.doubtful: set[int] = set()  # they may find themselves fenced, or not
        self.acknowledged: dict[int, bytes] = {}
        self.counter = 0

    @initialize()
    def create(self) -> None:
        self.log.create({"name": "task"}, b"{}")

    def _act(
        self,
        act: Callable[[], Head],
        faults: list[Fault],
        meanwhile: Callable[[], object] | None,
    ) -> Head | None:
        self.store.faults = faults
        self.store.meanwhile = [meanwhile] if meanwhile else []
        try:
            return act()
        except StoreUnavailable:
            return None  # in doubt: nothing was promised
        finally:
            self.store.faults = []
            self.store.meanwhile = []

    def _new_state(self, words: int) -> bytes:
        self.counter += 1
        return json.dumps({"n": self.counter, "words": ["word"] * words}).encode()

    def _other(self, other: int | None) -> Callable[[], object] | None:
        """What another process does at the worst moment."""
        if other is None:
            return None
        choices: list[Callable[[], object]] = [
            lambda: self._start(RIVAL),
            lambda: self._save(RIVAL, 3),
            lambda: self._save_by_hand(5),
            lambda: self._roll_back(0),
        ]
        return choices[other]

    others = st.none() | st.integers(0, 3)

    def _start(self, process: int) -> None:
        self.heads.pop(process, None)
        self._started(process, self.log.attempt())

    def _started(self, process: int, head: Head) -> None:
        self.fenced.update(self.heads)
        self.fenced.discard(process)
        self.doubtful.discard(process)
        self.heads[process] = head

    def _save(self, process: int, words: int) -> None:
        if process not in self.heads:
            return
        state = self._new_state(words)
        try:
            head = self.log.checkpoint(self.heads[process], state)
        except Superseded:
            assert process in self.fenced | self.doubtful
            return
        self._saved(process, head, state)

    def _saved(self, process: int, head: Head, state: bytes) -> None:
        assert process not in self.fenced
        self.doubtful.discard(process)
        self.heads[process] = head
        self.acknowledged[head.entry.seq] = state

    def _save_by_hand(self, words: int) -> None:
        state = self._new_state(words)
        head = self.log.checkpoint(self.log.head(), state)
        self.acknowledged[head.entry.seq] = state

    def _roll_back(self, index: int) -> None:
        known = [0, *sorted(self.acknowledged)]
        target = known[index % len(known)]
        before = self.log.head().entry
        head = self.log.rollback(target)
        assert head.state == self.acknowledged.get(target, b"{}")
        if head.entry != before:
            self.fenced.update(self.heads)

    @rule(process=processes, faults=faults, other=others)
    def start(self, process: int, faults: list[Fault], other: int | None) -> None:
        self.heads.pop(process, None)
        head = self._act(self.log.attempt, faults, self._other(other))
        if head is None:
            self.doubtful.update(self.heads)
        else:
            self._started(process, head)

    @rule(process=processes, words=st.integers(0, 200), faults=faults, other=others)
    def save(self, process: int, words: int, faults: list[Fault], other: int | None) -> None:
        if process not in self.heads:
            return
        state = self._new_state(words)
        head = self.heads[process]
        try:
            saved = self._act(lambda: self.log.checkpoint(head, state), faults, self._other(other))
        except Superseded:
            assert process in self.fenced | self.doubtful
            return
        if saved is not None:
            self._saved(process, saved, state)

    @rule(words=st.integers(0, 200))
    def save_by_hand(self, words: int) -> None:
        self._save_by_hand(words)

    @rule(index=st.integers(0, 50))
    def roll_back(self, index: int) -> None:
        self._roll_back(index)

    @rule(process=processes)
    def crash(self, process: int) -> None:
        self.heads.pop(process, None)
        self.fenced.discard(process)
        self.doubtful.discard(process)

    @invariant()
    def history_is_linear_and_complete(self) -> None:
        newest = self.log.head()
        history = self.log.read(checkpoints=None)
        assert_linear([history.entries[seq] for seq in sorted(history.entries)])
        assert history.head.entry == newest.entry
        checkpoints = [entry.sha256 for entry in history.checkpoints()]
        assert len(checkpoints) == len(set(checkpoints))  # every state is new: none is doubled
        assert newest.state == history.state(newest.entry.continues_from)
        for seq, state in self.acknowledged.items():
            assert history.state(seq) == state
            assert self.log.checkpoint_state(seq) == state


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("backend", ["memory", "s3"])
def test_of_many_processes_one_extends_the_history(
    backend: str, request: pytest.FixtureRequest
) -> None:
    """Processes that start at once, and save as long as they may, leave one line of history."""
    objects: Objects = request.getfixturevalue(backend)
    ExecutionLog(objects, ID).create({"name": "task"}, b"{}")
    together = Barrier(4)

    def process(number: int) -> dict[int, bytes]:
        log, saved = ExecutionLog(objects, ID), {}
        together.wait()
        head = log.attempt()
        for n in range(10):
            state = json.dumps({"process": number, "n": n}).encode()
            try:
                head = log.checkpoint(head, state)
            except Superseded:
                return saved
            saved[head.entry.seq] = state
        return saved

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(process, range(4)))

    history = ExecutionLog(objects, ID).read(checkpoints=None)
    assert_linear([history.entries[seq] for seq in sorted(history.entries)])
    acknowledged = {seq: state for saved in results for seq, state in saved.items()}
    assert sum(len(saved) for saved in results) == len(acknowledged)
    assert max(len(saved) for saved in results) == 10
    for seq, state in acknowledged.items():
        assert history.state(seq) == state


def test_a_deletion_ends_every_writer(s3: S3Objects) -> None:
    """Whoever is at work when the tombstone comes stops without a trace."""
    log = ExecutionLog(s3, ID)
    log.create({"name": "task"}, b"{}")
    head = log.attempt()
    started = Barrier(2)

    def work() -> None:
        nonlocal head
        for number in range(1000):
            head = log.checkpoint(head, b"%d" % number)
            if number == 3:
                started.wait()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        started.wait()
        log.delete()
        with pytest.raises(ExecutionNotFound):
            working.result()
    assert log.head().deleted
    log.purge()

    assert list(s3.scan("")) == []
