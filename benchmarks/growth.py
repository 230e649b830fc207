"""What a log costs as journals, results and states grow; in memory, so that it is ours alone."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import process_time
from uuid import uuid4

from benchmarks.measure import Result
from prefect_executions import serialization
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import bases
from prefect_executions.log.reader import Head
from prefect_executions.steps.replay import Replay
from prefect_executions.storage.objects import MemoryObjects

RECORDS = (100, 1_000, 10_000)
RECORD = 10_000  # bytes of a result
LARGE_RESULTS = (10, 20, 40)
STATES = (1, 10, 100)  # MB
EDITS = 10
EDIT = 500  # bytes
CHECKPOINTS = 16
ID = "exec-0123456789abcdef0123456789abcdef"  # as the name of a file
JOURNAL_MB = 40
STATE_MB = 50
CONSTANT = 64_000_000  # bytes


class Discarding(MemoryObjects):
    """Counts what is stored, and keeps nothing."""

    stored = 0

    def create(self, _: str, data: bytes) -> None:
        """Count the bytes."""
        self.stored += len(data)


class Reading(MemoryObjects):
    """Counts what is read."""

    received = 0

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        """Count the bytes."""
        found = super().get(keys, first=first, skip=skip)
        self.received += sum(map(len, found.values()))
        return found


def noise(size: int, source: random.Random) -> bytes:
    """JSON of about so many bytes, of which three quarters stay when it is compressed."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
    return b'"%s"' % source.randbytes(size).translate(letters * 4)


def recorded(order: int, result: bytes) -> Record:
    """A step that has returned."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    key, done = f"{order:064x}", Outcome.DONE
    return Record(order=order, parent=0, key=key, step="s", at=at, outcome=done, result=result)


def begin(objects: MemoryObjects, state: bytes = b"{}") -> tuple[ExecutionLog, Head]:
    """A new log with its first attempt."""
    log = ExecutionLog(objects, f"exec_{uuid4().hex}")
    log.create({"name": "growth"}, state)
    return log, log.attempt()


def journals() -> Iterator[Result]:
    """CPU and bytes of a step, the mean of all of a log, against those of a short log."""
    source, store = random.Random(1), Discarding()
    log, head = begin(MemoryObjects())
    log = replace(log, objects=store)
    cpu, means = 0.0, dict[int, tuple[float, float]]()
    for order in range(1, RECORDS[-1] + 1):
        record = recorded(order, noise(RECORD, source))
        began = process_time()
        head = log.record(head, [record])
        cpu += process_time() - began
        if order in RECORDS:
            means[order] = cpu / order, store.stored / order
    baseline = f"of {RECORDS[0]} records"
    for at, unit in enumerate(("s", "bytes")):
        name = ("step_cpu", "step_bytes")[at]
        for count, mean in means.items():
            ratio, value = mean[at] / means[RECORDS[0]][at], mean[at]
            yield Result(f"{name} of {count:,} records", value, unit, baseline, ratio, 2)


def replays() -> Iterator[Result]:
    """Reading a journal, and matching and decoding each call; without Prefect's task engine."""
    for count in RECORDS:
        store, source = MemoryObjects(), random.Random(1)
        log, head = begin(store)
        for start in range(1, count + 1, 10):
            some = range(start, start + 10)
            head = log.record(head, [recorded(order, noise(RECORD, source)) for order in some])
        began = process_time()
        head = log.head()
        replay = Replay(head.records(), head.state)
        with replay.flow():
            for order in range(1, count + 1):
                call = replay.begin("s", f"{order:064x}")
                assert call.record is not None
                serialization.load(call.record.result or b"")
                replay.given(call, in_turn=True)
        yield Result(f"replay of {count:,} steps", process_time() - began, "s", goal=2)


def large_results() -> Iterator[Result]:
    """What a replay reads for results of 1 MB, against what they take in the store."""
    for count in LARGE_RESULTS:
        store, source = Reading(), random.Random(1)
        log, head = begin(store)
        for order in range(1, count + 1):
            head = log.record(head, [recorded(order, noise(1_100_000, source))])
        records = log.head().records().values()
        store.received = taken = 0
        for record in records:
            assert record.large is not None
            taken += record.large.stored
            log.large_result(record.large)
        ratio = store.received / taken
        name = f"large_result_reads of {count} results"
        yield Result(name, store.received / count, "bytes", "their own bytes", ratio, 1)


def states() -> Iterator[Result]:
    """Checkpoints of large states, each after ten edits of 500 bytes at random places.

    Goals are for ten edits: for entries whose base is the entry before. Those whose base is further
    back have the edits of all entries between (see `log.states`). What an entry costs with a state
    of 2 kB is no matter of the state's size, and subtracted. The whole processor time of all
    entries is beside it.
    """
    entry = checkpoint_of_2_kb()
    yield Result("checkpoint_cpu of 2 kB", entry, "s")
    for size in STATES:
        source, store = random.Random(size), Discarding()
        text = bytearray(prose(size * 1_000_000, source))
        log, head = begin(MemoryObjects(), bytes(text))
        log = replace(log, objects=store)
        cpu, hashing = dict[int, float](), dict[int, float]()
        stored = 0
        for _ in range(CHECKPOINTS):
            for _ in range(EDITS):
                at = source.randrange(len(text) - EDIT)
                text[at : at + EDIT] = prose(EDIT, source)[:EDIT]
            state, before = bytes(text), store.stored
            hashed = seconds(lambda state=state: sha256(state))  # type: ignore[misc]
            began = process_time()
            head = log.checkpoint(head, state)
            took, seq = process_time() - began, head.entry.seq
            cpu[seq], hashing[seq] = took, hashed
            if bases(seq)[1] == seq - 1:
                stored = max(stored, store.stored - before)
        allowed = 3 * EDITS * EDIT + 4096
        baseline, ratio = f"3 times the change + 4 kB, {allowed:,}", stored / allowed
        yield Result(f"state_change_bytes of {size} MB", stored, "bytes", baseline, ratio, 1)
        ten = [seq for seq in cpu if bases(seq)[1] == seq - 1]
        of_ten, hashing_ten = sum(cpu[seq] for seq in ten), sum(hashing[seq] for seq in ten)
        name = f"state_change_cpu of {size} MB"
        of_state = of_ten - len(ten) * entry
        yield Result(name, of_state / len(ten), "s", "SHA-256 of it", of_state / hashing_ten, 1.5)
        ratio = sum(cpu.values()) / sum(hashing.values())
        name = f"checkpoint_cpu of {size} MB, all entries"
        yield Result(name, sum(cpu.values()) / len(cpu), "s", "SHA-256 of it", ratio)


def checkpoint_of_2_kb() -> float:
    """The processor time of a checkpoint with a change of a small state."""
    source = random.Random(1)
    log, head = begin(MemoryObjects(), prose(2_000, source))
    log = replace(log, objects=Discarding())
    took = list[float]()
    for _ in range(100):
        state, began = prose(2_000, source), process_time()
        head = log.checkpoint(head, state)
        took.append(process_time() - began)
    return median(took)


def prose(size: int, source: random.Random) -> bytes:
    """Words of a language that nobody speaks."""
    words = [b"%x" % source.getrandbits(40) for _ in range(3000)]
    lines = [b" ".join(source.choices(words, k=40)) for _ in range(max(size // 2_000_000, 1) * 100)]
    made, length = list[bytes](), 0
    while length < size:
        line = source.choice(lines) + b" %x" % source.getrandbits(256)
        made.append(line)
        length += len(line)
    return b"".join(made)[:size]


def seconds(act: Callable[[], object]) -> float:
    """The seconds of processor time that it takes."""
    began = process_time()
    act()
    return process_time() - began


def memory(data: Path) -> Iterator[Result]:
    """The most memory of a process with a large journal and state, more than of one with none."""
    few, many = (in_its_own_process("use", data / f"{size}") for size in (0, 1))
    used, taken = many["peak"] - few["peak"], many["compressed"]
    name, allowed = f"memory, {JOURNAL_MB} MB journal, {STATE_MB} MB state", 4 * taken + CONSTANT
    baseline = f"4 times compressed + 64 MB, {allowed:,}"
    yield Result(name, used, "bytes", baseline, used / allowed, 1)


def in_its_own_process(act: str, directory: Path) -> dict[str, int]:
    """What `fill` or `use` says in a process of its own."""
    for name in ("fill", act):
        command = [sys.executable, "-m", "benchmarks.growth", name, str(directory)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, int] = json.loads(said)
    return found


def fill(directory: Path) -> dict[str, int]:
    """Write a log with a large journal and state; a small one where the directory is called 0."""
    size, source = int(directory.name), random.Random(1)
    directory.mkdir(parents=True)
    log = ExecutionLog(FileObjects(directory), ID)
    log.create({"name": "growth"}, noise(size * STATE_MB * 1_000_000, source))
    head = log.attempt()
    for order in range(1, size * JOURNAL_MB * 100 + 1):
        head = log.record(head, [recorded(order, noise(RECORD, source))])
    return {}


def use(directory: Path) -> dict[str, int]:
    """Go on with the log: load it, match its journal, record steps, save a changed state."""
    source, log = random.Random(2), ExecutionLog(FileObjects(directory), ID)
    head = log.attempt()
    compressed = len(head.created.state.payload) if head.created.state else 0
    compressed += sum(len(piece.payload) for piece in head.require_recorded().pieces.values())
    replay = Replay(head.records())
    for order in range(10**6, 10**6 + 20):
        head = log.record(head, [recorded(order, noise(RECORD, source))])
        state = b'"%020d%s' % (order, memoryview(head.state)[21:])
        head = log.checkpoint(head, state)
        del state
    assert replay is not None
    status = Path("/proc/self/status").read_text()
    return {"peak": int(status.partition("VmHWM:")[2].split()[0]) << 10, "compressed": compressed}


class FileObjects(MemoryObjects):
    """Objects in files, so that they are not in the memory that is measured."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._data = Files(directory)  # type: ignore[assignment]


class Files(MutableMapping[str, bytes]):
    """Bytes by their names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __getitem__(self, key: str) -> bytes:
        return (self.directory / key.replace("/", "_")).read_bytes()

    def __setitem__(self, key: str, data: bytes) -> None:
        (self.directory / key.replace("/", "_")).write_bytes(data)

    def __delitem__(self, key: str) -> None:
        (self.directory / key.replace("/", "_")).unlink()

    def __contains__(self, key: object) -> bool:
        return (self.directory / str(key).replace("/", "_")).exists()

    def __iter__(self) -> Iterator[str]:
        return (file.name.replace("_", "/") for file in self.directory.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self)


if __name__ == "__main__":
    print(json.dumps({"fill": fill, "use": use}[sys.argv[1]](Path(sys.argv[2]))))
