"""The laws of the log under any schedule of writers, crashes, faults and interleavings."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from logs import ID, assert_linear
from prefect_executions.errors import ExecutionNotFound, StoreUnavailable, Superseded
from prefect_executions.log import claims, recorded
from prefect_executions.log.journal import Outcome, Record, decode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import ROW
from prefect_executions.log.reader import Head
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.s3 import S3Objects
from stores import Fault, Faulty
from strategies import examples

PROCESSES = 2
RIVAL = PROCESSES  # acts while the others are in the middle of something

processes = st.integers(0, PROCESSES - 1)
faults = st.lists(st.sampled_from(Fault), max_size=2) | st.lists(st.sampled_from(Fault))
steps = st.lists(st.booleans(), min_size=1, max_size=3)  # whether each can be undone


class LogMachine(RuleBasedStateMachine):
    """Processes that start, record, save and crash, a service that acts too, a store with faults.

    `acknowledged` is what the log has promised: the state of every checkpoint whose saving
    returned. It has promised, too, that the calls in `standing` are done in the newest journal, and
    those in `undone` are undone. Each rule may let another process act at the worst moment: after
    the first has read the head, and before its own entry is created.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = Faulty(self.objects())
        self.log = ExecutionLog(self.store, ID)
        self.heads: dict[int, Head] = {}
        self.fenced: set[int] = set()  # they must not write again
        self.doubtful: set[int] = set()  # they may be fenced, at once or when they meet a claim
        self.challenged = False  # all of them may be fenced at any moment
        self.acknowledged: dict[int, bytes] = {}
        self.counter = 0
        self.undoable: set[str] = set()  # of the calls that were acknowledged
        self.standing: set[str] = set()
        self.standing_at: dict[int, set[str]] = {0: set()}  # when a checkpoint was saved
        self.journals: dict[int, bytes] = {}  # of the checkpoints
        self.undone: set[str] = set()
        self.unsure: set[str] = set()  # calls that may be recorded as done, or undone, or not

    def objects(self) -> Objects:
        return MemoryObjects()

    @initialize()
    def create(self) -> None:
        self.log.create({"name": "task"}, b"{}")
        self._start(0)

    def _act(
        self,
        act: Callable[[], Head],
        faults: list[Fault],
        meanwhile: list[Callable[[], object]],
    ) -> Head | None:
        self.store.faults = faults
        self.store.meanwhile = meanwhile
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

    def _others(self, others: list[int]) -> list[Callable[[], object]]:
        """What other processes do at the worst moments: before each creation of the first."""
        choices: list[Callable[[], object]] = [
            lambda: self._save(RIVAL, 3),
            lambda: self._record(RIVAL, [True]),
            lambda: self._save_by_hand(5),
            lambda: self._start(RIVAL),
            lambda: self._roll_back(1),
        ]
        return [choices[other] for other in others]

    others = st.lists(st.integers(0, 4), max_size=1) | st.lists(st.integers(0, 2), max_size=12)

    def _stop(self, process: int) -> None:
        self.heads.pop(process, None)
        self.fenced.discard(process)
        self.doubtful.discard(process)

    def _start(self, process: int) -> None:
        self._stop(process)
        self._started(process, self.log.attempt())

    def _started(self, process: int, head: Head) -> None:
        self.fenced.update(self.heads)
        self.heads[process] = head

    def _calls(self, process: int, steps: list[bool]) -> list[Record]:
        """New calls after those that the process knows; their orders may be taken already."""
        records = decode(self.heads[process].journal)
        first = max([0, *(r.order for r in records.values() if r.outcome is Outcome.DONE)]) + 1
        made = []
        for order, undo in enumerate(steps, first):
            self.counter += 1
            at = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(milliseconds=self.counter)
            made.append(
                Record(
                    order=order,
                    parent=0,
                    key=f"{self.counter}",
                    step="step",
                    at=at,
                    outcome=Outcome.DONE,
                    undo=undo,
                    result=b"%d" % self.counter,
                )
            )
        return made

    def _write(
        self,
        process: int,
        state: bytes | None,
        records: list[Record],
        faults: list[Fault] | None = None,
        others: list[int] | None = None,
    ) -> None:
        """Save a checkpoint, or what steps have recorded alone."""
        head = self.heads[process]

        def write() -> Head:
            if state is None:
                return self.log.record(head, records)
            return self.log.checkpoint(head, state, records=records)

        keys = {record.key for record in records}
        try:
            meanwhile = self._others(others or [])
            written = write() if faults is None else self._act(write, faults, meanwhile)
        except Superseded:
            assert self.challenged or process in self.fenced | self.doubtful
            self._stop(process)
            return
        if written is None:
            self.unsure |= keys
            return
        assert process not in self.fenced
        self.unsure -= keys
        self.heads[process] = written
        if all(record.outcome is Outcome.DONE for record in records):
            self.undoable.update(record.key for record in records if record.undo)
            self.standing |= keys
        else:
            self.undone |= keys
        if state is not None:
            self._saved(written, state)

    def _saved(self, head: Head, state: bytes) -> None:
        self.acknowledged[head.entry.seq] = state
        self.standing_at[head.entry.seq] = set(self.standing)
        self.journals[head.entry.seq] = head.journal

    def _save(self, process: int, words: int) -> None:
        if process in self.heads:
            self._write(process, self._new_state(words), [])

    def _record(self, process: int, steps: list[bool]) -> None:
        if process in self.heads:
            self._write(process, None, self._calls(process, steps))

    def _save_by_hand(self, words: int) -> None:
        state = self._new_state(words)
        before = self.log.head()
        head = self.log.checkpoint(before, state)
        assert head.journal == before.journal
        self._saved(head, state)

    def _roll_back(self, index: int) -> None:
        known = [0, *sorted(self.acknowledged)]
        target = known[index % len(known)]
        before = self.log.head().entry
        head = self.log.rollback(target)
        assert head.state == self.acknowledged.get(target, b"{}")
        if head.entry != before:
            self.fenced.update(self.heads)
        self.standing = self.standing_at[target] - self.undone - self.unsure

    @rule(process=processes, faults=faults, others=others)
    def start(self, process: int, faults: list[Fault], others: list[int]) -> None:
        self._stop(process)
        head = self._challenge(self.log.attempt, faults, others)
        if head is not None:
            self._started(process, head)

    def _challenge(
        self, act: Callable[[], Head], faults: list[Fault], others: list[int]
    ) -> Head | None:
        """Do what fences all processes, unless it is in doubt."""
        self.challenged = True
        head = self._act(act, faults, self._others(others))
        self.challenged = False
        if head is None:
            self.doubtful.update(self.heads)
        else:
            self.fenced.update(self.heads)
        return head

    @rule(faults=faults, others=others)
    def bury(self, faults: list[Fault], others: list[int]) -> None:
        head = self.log.head()
        with suppress(Superseded):
            self._challenge(
                lambda: self.log.crash(head, answers="state", dead_seconds=1, reason="no sign"),
                faults,
                others,
            )
        self.challenged = False

    def _at_work(self) -> list[int]:
        return sorted(self.heads.keys() - {RIVAL})

    def _one_of(self, index: int) -> int:
        working = self._at_work()
        return working[index % len(working)]

    def _due(self, process: int) -> list[Record]:
        """What this process has to undo, the newest last."""
        records = decode(self.heads[process].journal).values()
        return [record for record in records if record.outcome is Outcome.UNDO]

    @precondition(lambda self: self._at_work())
    @rule(
        index=processes,
        words=st.integers(0, 200),
        steps=st.just([]) | steps,
        faults=faults,
        others=others,
    )
    def save(
        self, index: int, words: int, steps: list[bool], faults: list[Fault], others: list[int]
    ) -> None:
        process = self._one_of(index)
        records = self._calls(process, steps)
        self._write(process, self._new_state(words), records, faults, others)

    @precondition(lambda self: self._at_work())
    @rule(index=processes, steps=steps, faults=faults, others=others)
    def record(self, index: int, steps: list[bool], faults: list[Fault], others: list[int]) -> None:
        process = self._one_of(index)
        self._write(process, None, self._calls(process, steps), faults, others)

    @precondition(lambda self: any(map(self._due, self._at_work())))
    @rule(faults=faults, others=others)
    def undo(self, faults: list[Fault], others: list[int]) -> None:
        process = max(self._at_work(), key=lambda process: len(self._due(process)))
        undone = replace(self._due(process)[-1], outcome=Outcome.UNDONE)
        self._write(process, None, [undone], faults, others)

    @rule(words=st.integers(0, 200))
    def save_by_hand(self, words: int) -> None:
        self._save_by_hand(words)

    @rule(index=st.integers(0, 50), resumed_by=st.none() | processes, undoing=st.integers(0, 3))
    def roll_back(self, index: int, resumed_by: int | None, undoing: int) -> None:
        self._roll_back(index)
        if resumed_by is not None:
            self._start(resumed_by)
            for due in self._due(resumed_by)[::-1][:undoing]:
                self._write(resumed_by, None, [replace(due, outcome=Outcome.UNDONE)])

    @rule(
        ahead=st.lists(st.integers(1, 20), min_size=1, max_size=9) | st.just(list(range(1, 9))),
        fence=st.booleans(),
        places=st.sampled_from(["next", "base", "any"]),
    )
    def a_challenger_dies(self, ahead: list[int], fence: bool, places: str) -> None:
        """It leaves claims: anywhere, or all from the next number up to one, or to a base."""
        head = self.log.head()
        last = head.next_seq + max(ahead)
        seqs = [head.next_seq + place for place in ahead]
        if places != "any":
            last = last // ROW * ROW if places == "base" else last
            seqs = list(range(head.next_seq, last + 1))
        for seq in seqs:
            self.log._take(seq, head.entry.attempt, fence=fence)
        if fence:
            self.doubtful.update(self.heads)

    @rule(process=processes)
    def crash(self, process: int) -> None:
        self._stop(process)

    @invariant()
    def history_is_linear_and_complete(self) -> None:
        newest = self.log.head()
        history = self.log.read(checkpoints=None, journal=True)
        seqs = [seq for seq in sorted(history.entries) if seq <= newest.entry.seq]
        assert_linear([history.entries[seq] for seq in seqs])
        assert history.head.entry == newest.entry
        checkpoints = [history.state(entry.seq) for entry in history.checkpoints()]
        repeated = self.log.read(checkpoints=None)
        assert [repeated.state(seq) for seq in repeated.numbers] == checkpoints
        assert len(checkpoints) == len(set(checkpoints))  # states are all new
        assert newest.state == history.state(newest.entry.continues_from)
        for seq, state in self.acknowledged.items():
            assert history.state(seq) == state
            assert self.log.at_checkpoint(seq).state == state

    @invariant()
    def what_was_recorded_stands_until_it_is_rolled_back(self) -> None:
        records = decode(self.log.head().journal).values()
        calls = {
            outcome: {record.key for record in records if record.outcome is outcome}
            for outcome in (Outcome.DONE, Outcome.UNDO, Outcome.UNDONE)
        }
        assert len(records) == sum(map(len, calls.values()))  # none is there twice
        assert self.standing <= calls[Outcome.DONE] <= self.standing | self.unsure
        assert self.undone <= calls[Outcome.UNDONE]
        assert self.undoable <= set().union(*calls.values())
        for seq, journal in self.journals.items():
            assert self.log.at_checkpoint(seq).journal == journal


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are claimed after few tries, also where no attempt is to be fenced.

    And the journals of short logs are made as those of long ones.
    """
    monkeypatch.setattr(claims, "_PATIENT", 2)
    monkeypatch.setattr(recorded, "_MOST", 16)


class DirectoryLogMachine(LogMachine):
    """The same where the log is kept in a directory."""

    def objects(self) -> Objects:
        self.directory = TemporaryDirectory()
        return DirectoryObjects(Path(self.directory.name))

    def teardown(self) -> None:
        self.directory.cleanup()


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=examples(300), stateful_step_count=30, deadline=None
)

TestDirectoryLogMachine = DirectoryLogMachine.TestCase
TestDirectoryLogMachine.settings = settings(
    max_examples=examples(40), stateful_step_count=30, deadline=None
)


@pytest.mark.parametrize("backend", ["memory", "directory", "s3"])
def test_of_many_processes_one_extends_the_history(
    backend: str, request: pytest.FixtureRequest
) -> None:
    """Processes that start together and save as long as they may leave one linear history."""
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
    """A process that is at work when the tombstone is written stops, and leaves nothing."""
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
