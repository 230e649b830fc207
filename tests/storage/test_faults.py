"""Nothing is lost or doubled, whatever happens between this process and S3."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, pairwise
from random import Random
from typing import Any

import pytest

from fault_proxy import Fault, FaultProxy
from prefect_executions.errors import AlreadyExists, StoreUnavailable, Superseded
from prefect_executions.local import S3Server
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head, History
from prefect_executions.storage.s3 import S3Objects

SEED = 1
OPERATIONS = 10_000
FAULT_RATE = 0.09
EXECUTIONS = 32
TURNS = 80  # of each
THREADS = 16
CLIENTS = 4  # each with its own connections, and with its own budget of retries
TRIES = 2  # few, so that some operations fail for good
READ_SECONDS = 0.5
HIDDEN_SUCCESSES = [Fault.UNANSWERED, Fault.LATE, Fault.ERROR_AFTER, Fault.RESET_AFTER]
ID = "exec_0123456789abcdef0123456789abcdef"


@dataclass(kw_only=True)
class Act:
    """One call that writes an entry, and its outcome, which is in doubt until the call returns."""

    name: str
    kind: Kind
    state: bytes | None = None  # for an attempt or a roll-back it is known afterwards
    after: int = -1  # the newest entry that a checkpoint's writer knew
    entry: Entry | None = None  # what was acknowledged
    refused: bool = False  # the call raised that it wrote nothing

    @property
    def in_doubt(self) -> bool:
        return self.entry is None and not self.refused


class LogWriter:
    """A process of one execution, and a rival that rolls back and saves beside it.

    `acts` are all their attempts to write. The nonce of an entry names the act that wrote it.

    Args:
        log: The execution's log, as the process sees it.
        rival: The same log, as the rival sees it.
        random: Decides what they do.
    """

    def __init__(self, log: ExecutionLog, rival: ExecutionLog, random: Random) -> None:
        self.log = log
        self.acts: list[Act] = []
        self._rival = rival
        self._random = random
        self._created = False
        self._head: Head | None = None  # None: the process has to begin an attempt
        self._fenced = self._perhaps_fenced = False

    def turn(self) -> None:
        """Do one thing, like a process that begins again whenever it is fenced or in doubt."""
        if not self._created:
            self._create()
        elif self._head is None:
            self._attempt()
        else:
            turns = [self._save, self._save_beside, self._roll_back, self._look, self._read]
            self._random.choices(turns, weights=[70, 8, 6, 8, 8])[0]()

    def _create(self) -> None:
        try:
            head = self._act(Kind.CREATED, lambda log, name: log.create({"name": name}, b"[0]"))
        except AlreadyExists:
            assert any(act.in_doubt for act in self.acts)
            self._created = True
        else:
            self._created = head is not None

    def _attempt(self) -> None:
        self._head = self._act(Kind.ATTEMPT, lambda log, _: log.attempt())
        self._fenced = self._perhaps_fenced = False

    def _save(self) -> None:
        assert self._head is not None
        self._head = self._checkpoint(self.log, self._head)
        assert self._head is None or not self._fenced

    def _save_beside(self) -> None:
        if head := _unless_unavailable(self._rival.head):
            self._checkpoint(self._rival, head)

    def _checkpoint(self, log: ExecutionLog, head: Head) -> Head | None:
        state = self._next_state(head.state)
        try:
            return self._act(
                Kind.CHECKPOINT,
                lambda log, name: log.checkpoint(head, state, label=name),
                log=log,
                state=state,
                after=head.entry.seq,
            )
        except Superseded:
            assert self._perhaps_fenced
            return None

    def _roll_back(self) -> None:
        saved = [act.entry.seq for act in self._acknowledged() if act.kind is Kind.CHECKPOINT]
        to = self._random.choice([0, *saved])
        self._perhaps_fenced = True
        head = self._act(Kind.ROLLBACK, lambda log, _: log.rollback(to), log=self._rival)
        self._fenced |= head is not None

    def _look(self) -> None:
        if head := _unless_unavailable(self.log.head):
            assert head.entry.seq >= max(act.entry.seq for act in self._acknowledged())

    def _read(self) -> None:
        checkpoints = self._random.randrange(1, 20)
        if history := _unless_unavailable(
            lambda: self._rival.read(checkpoints=checkpoints, journal=True)
        ):
            acts = list(self._acknowledged())
            assert_kept(history, [act for act in acts if act.entry.seq in history.entries])
            oldest = min(history.numbers, default=history.head.entry.seq)
            saved = {act.entry.seq for act in acts if act.kind is Kind.CHECKPOINT}
            assert {seq for seq in saved if seq >= oldest} <= {*history.numbers}

    def _acknowledged(self) -> Iterator[Act]:
        return (act for act in self.acts if act.entry is not None)

    def _act(
        self,
        kind: Kind,
        write: Callable[[ExecutionLog, str], Head],
        *,
        log: ExecutionLog | None = None,
        state: bytes | None = None,
        after: int = -1,
    ) -> Head | None:
        """Write, and remember the outcome. Returns None when it is in doubt."""
        act = Act(name=f"{kind} {len(self.acts)}", kind=kind, state=state, after=after)
        self.acts.append(act)
        nonces = (f"{act.name}: {number}" for number in count())
        try:
            head = write(replace(log or self.log, new_nonce=nonces.__next__), act.name)
        except StoreUnavailable:
            return None
        except (AlreadyExists, Superseded):
            act.refused = True
            raise
        act.entry = head.entry
        act.state = head.state if state is None else state
        return head

    def _next_state(self, state: bytes) -> bytes:
        """A state with a few more bytes, and sometimes a new one, which may be large."""
        if self._random.random() < 0.05:
            return b'["%s"]' % self._random.randbytes(self._random.randrange(10_000)).hex().encode()
        more = self._random.randbytes(self._random.randrange(40)).hex()
        return b'%s,"%s"]' % (state[:-1], more.encode())


def _unless_unavailable(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except StoreUnavailable:
        return None


def assert_kept(history: History, acts: list[Act]) -> None:
    """Check that what was acknowledged is there, byte for byte."""
    for act in acts:
        assert act.entry is not None
        assert act.entry.kind is act.kind
        assert history.entries[act.entry.seq] == act.entry
        assert history.state(act.entry.seq) == act.state


def assert_only(history: History, acts: list[Act]) -> None:
    """Check that each entry was written by an act that may have done so, at most one per act."""
    possible = {act.name: act for act in acts if not act.refused}
    fences = [seq for seq, e in history.entries.items() if e.kind in (Kind.ATTEMPT, Kind.ROLLBACK)]
    for seq, entry in history.entries.items():
        act = possible.pop(_author(entry), None)
        assert act is not None, f"entry {seq} was written by no act, or twice: {entry.nonce!r}"
        assert entry.kind is act.kind
        if entry.kind is Kind.CHECKPOINT:
            assert entry.label == act.name
            assert history.state(seq) == act.state
            assert not any(act.after < fence < seq for fence in fences)


def _author(entry: Entry) -> str:
    """The name of the act that wrote it."""
    return entry.nonce.partition(":")[0]


def assert_linear(history: History) -> None:
    """Check that numbers have no gap, and that each attempt continues from the one before."""
    entries = [entry for _, entry in sorted(history.entries.items())]
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert entries[0].attempt == 0
    for before, entry in pairwise(entries):
        assert entry.attempt == before.attempt + (entry.kind is Kind.ATTEMPT)
        if entry.kind is Kind.ATTEMPT:
            assert entry.source == before.continues_from
        assert history.state(entry.seq) == history.state(entry.continues_from)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy without faults, unless they are forced."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy
    assert proxy.errors == []


@pytest.fixture
def objects(proxy: FaultProxy, s3: S3Objects) -> S3Objects:
    """An empty place on a real S3 server, behind the proxy."""
    # So long that only a fault delays a response beyond it.
    return replace(s3, endpoint=proxy.endpoint, read_timeout=3)


@pytest.mark.long
def test_of_ten_thousand_operations_under_faults_nothing_is_lost_and_nothing_doubled(
    s3_server: S3Server,
) -> None:
    direct = s3_server.objects(prefix="faults")  # always the same: the plan depends on it

    with FaultProxy(s3_server.endpoint, rate=FAULT_RATE, seed=SEED) as proxy:
        writers = _writers(replace(direct, endpoint=proxy.endpoint, read_timeout=READ_SECONDS))
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(_work, writers))
    histories = [
        replace(writer.log, objects=direct).read(checkpoints=None, journal=True)
        for writer in writers
    ]

    for writer, history in zip(writers, histories, strict=True):
        assert_linear(history)
        assert_kept(history, [act for act in writer.acts if act.entry])
        assert_only(history, writer.acts)
    assert len(list(direct.scan(""))) == sum(len(history.entries) for history in histories)
    assert proxy.errors == []
    assert proxy.requests >= OPERATIONS
    assert min(proxy.faults[fault] for fault in Fault) >= 15
    doubts = [doubt for pair in zip(writers, histories, strict=True) for doubt in _doubts(*pair)]
    assert min(doubts.count(True), doubts.count(False)) >= 5


def _writers(objects: S3Objects) -> list[LogWriter]:
    clients = [replace(objects, tries=TRIES) for _ in range(CLIENTS)]
    writers = []
    for number in range(EXECUTIONS):
        log, rival = (
            ExecutionLog(clients[client % CLIENTS], f"exec_{number:032x}")
            for client in (number, number + 1)
        )
        writers.append(LogWriter(log, rival, Random(f"{SEED} {number}")))
    return writers


def _work(writer: LogWriter) -> None:
    for _ in range(TURNS):
        writer.turn()


def _doubts(writer: LogWriter, history: History) -> list[bool]:
    """Whether each act that is in doubt was done."""
    authors = {_author(entry) for entry in history.entries.values()}
    return [act.name in authors for act in writer.acts if act.in_doubt]


@pytest.mark.parametrize("fault", HIDDEN_SUCCESSES)
def test_a_write_whose_answer_was_lost_is_acknowledged_once(
    objects: S3Objects, proxy: FaultProxy, fault: Fault
) -> None:
    """The client repeats the request, meets its own write, and recognises it."""
    log = ExecutionLog(objects, ID)
    log.create({"name": "task"}, b"[0]")
    head = log.attempt()
    proxy.force([fault])

    saved = log.checkpoint(head, b"[1]", label="one")

    history = log.read(checkpoints=None, journal=True)
    assert proxy.faults == {fault: 1}
    assert history.checkpoints() == [saved.entry]
    assert history.state(saved.entry.seq) == b"[1]"


@pytest.mark.parametrize("fault", [Fault.ERROR_AFTER, Fault.RESET_AFTER])
def test_a_write_whose_answers_were_lost_for_good_is_the_same_when_it_is_tried_again(
    objects: S3Objects, proxy: FaultProxy, fault: Fault
) -> None:
    """The client gives up; who tries again knows the entry by its nonce."""
    log = ExecutionLog(replace(objects, tries=TRIES), ID)
    log.create({"name": "task"}, b"[0]")
    head = log.attempt()
    proxy.force([fault] * TRIES)
    with pytest.raises(StoreUnavailable):
        log.checkpoint(head, b"[1]", label="one", nonces=["first"])
    proxy.force([fault] * TRIES)
    with pytest.raises(StoreUnavailable):
        log.checkpoint(head, b"[2]", label="two", nonces=["first", "second"])

    found = log.checkpoint(head, b"[2]", label="two", nonces=["first", "second"])
    saved = log.checkpoint(found, b"[2]", label="two", nonces=["second"])

    history = log.read(checkpoints=None)
    assert proxy.faults == {fault: 2 * TRIES}
    assert [entry.label for entry in history.checkpoints()] == ["two", "one"]
    assert history.checkpoints() == [saved.entry, found.entry]


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.CUT, Fault.STALLED])
def test_an_answer_that_comes_in_pieces_or_breaks_off_is_read_to_its_end(
    objects: S3Objects, proxy: FaultProxy, fault: Fault
) -> None:
    data = Random(SEED).randbytes(300_000)
    objects.create("a", data)
    proxy.force([fault])

    found = objects.get(["a"])

    assert proxy.faults == {fault: 1}
    assert found == {"a": data}


def test_a_write_that_met_another_is_repeated(objects: S3Objects, proxy: FaultProxy) -> None:
    proxy.force([Fault.CONFLICT, Fault.CONFLICT])

    objects.create("a", b"data")

    assert proxy.faults == {Fault.CONFLICT: 2}
    assert objects.get(["a"]) == {"a": b"data"}


def test_a_write_that_lost_against_another_says_so(objects: S3Objects, proxy: FaultProxy) -> None:
    objects.create("a", b"data")
    proxy.force([Fault.CONFLICT])

    with pytest.raises(AlreadyExists):
        objects.create("a", b"other")

    assert proxy.faults == {Fault.CONFLICT: 1}
    assert objects.get(["a"]) == {"a": b"data"}
