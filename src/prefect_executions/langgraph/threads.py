"""Threads without Prefect: each is a log, found by an object that is named by the thread's id."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from threading import RLock
from typing import TypeVar
from uuid import uuid4

from prefect_executions import serialization
from prefect_executions.errors import AlreadyExists, ExecutionNotFound, Superseded
from prefect_executions.langgraph.gathering import Gathering
from prefect_executions.langgraph.index import STATE, GraphCheckpoint, Index, Writes, told
from prefect_executions.langgraph.slots import Slot, Slots, joined, stays
from prefect_executions.log import ExecutionLog
from prefect_executions.log.claims import SETTLES
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.pruning import prune
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import Objects
from prefect_executions.storage.probe import probe

T = TypeVar("T")

_NAMES = "threads/"
_HELD = 64  # threads whose heads a process keeps


class LogThread:
    """A thread whose log this process reads and writes.

    Args:
        log: Its log.
        head: The log's head.
        is_claimed: Whether it may write only while its attempt is the newest.

    Attributes:
        index: What the thread has.
        slots: The newest checkpoints, by namespace.
    """

    def __init__(self, log: ExecutionLog, head: Head, *, is_claimed: bool = False) -> None:
        self.log = log
        self._lock = RLock()
        self._gathering = Gathering()
        self._attempt = head.entry.attempt if is_claimed else None
        self._is_current = True
        self._load(head)

    def _load(self, head: Head) -> None:
        self._head = head
        self.index = Index.of(map(self.log.with_result, head.records().values()))
        self.slots: Slots = serialization.load(head.state).get(STATE, {})
        self._is_current = True

    def refresh(self) -> None:
        """Take in what others have written: one LIST, and more only if there is anything.

        Raises:
            ExecutionNotFound: the thread has been deleted.
        """
        with self._lock:
            if not self._is_current or self.log.newest() != self._head.next_seq - 1:
                self._load(self.log.living_head())

    def require_owner(self) -> None:
        """Check that a claimed thread is still this writer's.

        Raises:
            Superseded: another has claimed it since.
        """
        self.refresh()
        self._require_attempt()

    def _require_attempt(self) -> None:
        newest = self._head.entry.attempt
        if self._attempt not in (None, newest):
            raise Superseded(self.log.execution_id, self._attempt or 0, f"attempt {newest}")

    def slots_at(self, entries: Iterable[int]) -> dict[int, Slots]:
        """The newest checkpoints after some entries: a round of GETs, unless it is the newest."""
        asked = set(entries)
        with self._lock:
            found = {self._head.entry.continues_from: self.slots}
        if rest := asked - found.keys():
            states = self.log.states_at(rest)
            found |= {at: serialization.load(data).get(STATE, {}) for at, data in states.items()}
        return found

    @contextmanager
    def putting(self) -> Iterator[Callable[[GraphCheckpoint, Slot, str], None]]:
        """Put one checkpoint: nothing else is written from when its slot is made from the last."""
        with self._lock:
            yield self._put

    def _put(self, saved: GraphCheckpoint, slot: Slot, label: str) -> None:
        with self._gathering.taken() as gathered:
            notes, slot = joined(gathered, saved, slot)
            slots = {ns: at for ns, at in self.slots.items() if stays(ns, saved.ns)}
            slots[saved.ns] = slot
            state = serialization.dump({STATE: slots})
            self._write(notes, partial(self.log.checkpoint, self._head, state, label=label))
            self.slots = slots

    def put_writes(self, writes: Writes) -> None:
        """Store the writes of a task, in the next entry."""

        def write() -> None:
            with self._lock, self._gathering.taken() as gathered:
                if gathered:
                    notes = [writes.note() for writes in gathered]
                    self._write(notes, partial(self.log.record, self._head))

        self._gathering.add(writes, write)

    def _write(self, notes: list[Record], append: Callable[..., Head]) -> None:
        """Append an entry with these notes, and take them into the index."""
        self._require_attempt()
        before = self._head.next_seq
        try:
            self._head = head = append(records=notes)
        except BaseException:
            self._is_current = False  # it is not known what is in the log now
            raise
        if head.entry.seq != before:  # others have written in between
            self.index = Index.of(map(self.log.with_result, head.records().values()))
            return
        for note in notes:
            self.index.add(note, head.entry.seq)

    def keep_only(self, keeps: Callable[[GraphCheckpoint], bool]) -> None:
        """Drop all checkpoints but those that `keeps` chooses and that these are made from.

        Their entries are removed, but for those that others are made of, and the newest.
        """
        kept: set[int] = set()

        def change(head: Head) -> tuple[bytes, Collection[Record]]:
            self._load(head)
            chosen = [saved for saved in self.index.newest_first(None) if keeps(saved)]
            needed = self.index.needed_for(chosen)
            index = Index()
            records = [record for record in head.records().values() if _is_of(record, needed)]
            for record in map(self.log.with_result, records):
                index.add(record)
            newest = {ns: saved for ns in index.saved if (saved := index.find(ns, None))}
            kept.update(saved.entry for saved in index.newest_first(None))
            kept.update(w.at[0] for to in index.writes.values() for w in to.values() if w.at)
            there = self.slots_at(saved.entry for saved in newest.values())
            slots = {ns: there[saved.entry][ns] for ns, saved in newest.items() if ns in self.slots}
            return serialization.dump({STATE: slots}), records

        with self._lock:
            self._is_current = False
            self._load(self.log.revise(change))
            before = self.log.clock() - SETTLES
            prune(self.log, newest=1, labelled=False, also=kept, before=before)


def _is_of(record: Record, places: set[tuple[str, str]]) -> bool:
    """Whether a record stays when only these checkpoints do."""
    if record.outcome is not Outcome.NOTE:
        return True
    match told(record):
        case GraphCheckpoint(ns=ns, id=id_):
            return (ns, id_) in places
        case Writes(to, _):
            return to in places
    return True


class LogThreads:
    """The threads in a store.

    Args:
        objects: The store.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._held: OrderedDict[str, LogThread] = OrderedDict()
        self._lock = RLock()
        self._is_suitable = False

    def open(self, thread_id: str) -> LogThread | None:
        """A thread as it is now; None when there is none."""
        thread = self._here(thread_id)
        if thread is not None:
            with suppress(ExecutionNotFound):
                thread.refresh()
                return thread
        self._let_go(thread_id)
        log = self._log(thread_id)
        if log is None:
            return None
        with suppress(ExecutionNotFound):
            return self._hold(thread_id, LogThread(log, log.living_head()))
        return None

    def made(self, thread_id: str) -> LogThread:
        """A thread to write to: as this process has last seen it, or a new one."""
        return self._here(thread_id) or self.open(thread_id) or self._create(thread_id)

    def claim(self, thread_id: str) -> LogThread:
        """A thread whose earlier writers may write no more."""
        log = self.made(thread_id).log
        return LogThread(log, log.attempt(), is_claimed=True)

    def delete(self, thread_id: str) -> None:
        """Remove a thread and its log."""
        self._let_go(thread_id)
        if (log := self._log(thread_id)) is not None:
            log.purge()
            self.objects.delete([_name(thread_id)])

    def copy(self, source: str, target: str) -> None:
        """Copy a thread, with all that it has, to a new one.

        Raises:
            ValueError: the target exists.
        """
        if self.open(target) is not None:
            raise ValueError(f"target_thread_id: there is a thread {target!r}; delete it first.")
        thread = self.open(source)
        if thread is None:
            return
        log, copy = thread.log, ExecutionLog(self.objects, _new_id())
        oldest_first = sorted(log.numbers())
        for seqs in _batches(oldest_first):
            data = self.objects.get([log.key(seq) for seq in seqs])
            for seq in seqs:
                copy.objects.create(copy.key(seq), data[log.key(seq)])
        self.objects.create(_name(target), _named(target, copy))

    def ids(self) -> Iterator[str]:
        """The ids of all threads: a LIST per 1,000 of them, and a GET each."""
        for names in _batches(self.objects.scan(_NAMES)):
            for data in self.objects.get(names).values():
                yield serialization.load(data)["thread_id"]

    def _create(self, thread_id: str) -> LogThread:
        if not self._is_suitable:
            probe(self.objects)
            self._is_suitable = True
        with suppress(AlreadyExists):
            named = _named(thread_id, ExecutionLog(self.objects, _new_id()))
            self.objects.create(_name(thread_id), named)
        log = self._log(thread_id)
        if log is None:
            raise ExecutionNotFound(thread_id)  # it has just been deleted
        with suppress(AlreadyExists):
            state = serialization.dump({STATE: {}})
            return self._hold(
                thread_id, LogThread(log, log.create({"thread_id": thread_id}, state))
            )
        return self._hold(thread_id, LogThread(log, log.living_head()))

    def _log(self, thread_id: str) -> ExecutionLog | None:
        name = _name(thread_id)
        data = self.objects.get([name]).get(name)
        return (data and ExecutionLog(self.objects, serialization.load(data)["log"])) or None

    def _here(self, thread_id: str) -> LogThread | None:
        with self._lock:
            if thread_id in self._held:
                self._held.move_to_end(thread_id)
            return self._held.get(thread_id)

    def _hold(self, thread_id: str, thread: LogThread) -> LogThread:
        with self._lock:
            thread = self._held.setdefault(thread_id, thread)
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
            return thread

    def _let_go(self, thread_id: str) -> None:
        with self._lock:
            self._held.pop(thread_id, None)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, 64)):
        yield batch


def _new_id() -> str:
    return f"thread_{uuid4().hex}"


def _name(thread_id: str) -> str:
    return f"{_NAMES}{serialization.digest(thread_id)}"


def _named(thread_id: str, log: ExecutionLog) -> bytes:
    return serialization.dump({"thread_id": thread_id, "log": log.execution_id}, at="thread_id")
