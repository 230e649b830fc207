"""Executions against plain flow runs, and how what they cost grows."""

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from benchmarks.deaths import deaths
from benchmarks.looks import looks
from benchmarks.measure import Result, patiently
from benchmarks.service import PATH, Rest, ok, serving
from benchmarks.steps import quiet
from prefect_executions import serialization
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.local import S3Server, Stack
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects

FLOWS = Path(__file__).parent / "flows"
PAIRS = 12
TURNS = (10, 1010)  # checkpoints of two runs, whose difference is what 1,000 cost
MANY_CHECKPOINTS = (10, 100, 1_000, 10_000)
MANY_EXECUTIONS = (10, 50, 200)
TIMES = 30


def scaling(data: Path) -> Iterator[Result]:
    """All benchmarks of many checkpoints and many executions."""
    with Stack(data) as stack, quiet(stack), get_client(sync_client=True) as prefect:
        stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=FLOWS)
        yield execution_vs_flow_run(prefect)
        with serving(stack) as rest:
            yield first_checkpoint_vs_first_log_line(rest, prefect)
        yield from costs(stack)
        yield from of_many_checkpoints(stack.s3)
        yield from of_many_executions(stack, prefect)
        yield from looks(stack, prefect)
        yield from deaths(stack, prefect)


def execution_vs_flow_run(prefect: SyncPrefectClient) -> Result:
    """From the creation of a run to its end, through a worker that starts a process for it."""

    def seconds_of(name: str) -> float:
        deployment = prefect.read_deployment_by_name(f"{name}/bench")
        run = ended(prefect, prefect.create_flow_run_from_deployment(deployment.id))
        assert run.state is not None
        assert run.state.is_completed(), run.state.message
        assert run.end_time is not None
        assert run.created is not None
        return (run.end_time - run.created).total_seconds()

    durable, plain = in_pairs(lambda: seconds_of("durable"), lambda: seconds_of("plain"))
    return Result("execution_vs_flow_run", durable, "s", "plain flow run", durable / plain, 1.15)


def first_checkpoint_vs_first_log_line(rest: Rest, prefect: SyncPrefectClient) -> Result:
    """From POST to the first checkpoint, against the first line that a plain flow logs."""
    logged = prefect.read_deployment_by_name("logged/bench").id

    def durable() -> float:
        began = datetime.now(UTC)
        made = ok(rest.post(PATH, json={"name": "first", "deployment": "durable/bench"}))
        ended(prefect, prefect.read_flow_run(UUID(made["prefect"]["flow_run_id"])))
        told = ok(rest.get(f"{PATH}/{made['id']}", params={"checkpoints": "all"}))
        first = datetime.fromisoformat(told["checkpoints"][-1]["timestamp"])
        return (first - began).total_seconds()

    def plain() -> float:
        began = datetime.now(UTC)
        run = ended(prefect, prefect.create_flow_run_from_deployment(logged))
        return (first_line(prefect, run) - began).total_seconds()

    ours, theirs = in_pairs(durable, plain)
    name = "first_checkpoint_vs_first_log_line"
    return Result(name, ours, "s", "of a plain flow run", ours / theirs, 1.1)


def in_pairs(durable: Callable[[], float], plain: Callable[[], float]) -> tuple[float, float]:
    """The medians of the seconds that two things say, done in turn."""
    times: dict[Callable[[], float], list[float]] = {durable: [], plain: []}
    for pair in range(PAIRS):
        for act in (plain, durable) if pair % 2 else (durable, plain):
            times[act].append(act())
    return median(times[durable]), median(times[plain])


def first_line(prefect: SyncPrefectClient, run: FlowRun) -> datetime:
    """When a flow has logged its line, which reaches Prefect by and by."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    while True:
        for line in prefect.read_logs(of_run):
            if line.message == "It has begun.":
                return line.timestamp
        sleep(0.2)


def ended(prefect: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """The run, when it has ended."""
    while not (run.state and run.state.is_final()):
        sleep(0.1)
        run = prefect.read_flow_run(run.id)
    return run


def costs(stack: Stack) -> Iterator[Result]:
    """Requests, rows in Prefect's database and memory: of an execution, and of each checkpoint."""
    plain, _ = counted(stack, "plain", 10)
    few, few_rows = counted(stack, "durable", TURNS[0])
    many, many_rows = counted(stack, "durable", TURNS[1])
    apart = TURNS[1] - TURNS[0]
    yield Result("prefect_requests of an execution", few["prefect"], "requests", "plain flow run")
    yield Result("prefect_requests of a plain flow run", plain["prefect"], "requests")
    each = (many["prefect"] - few["prefect"]) / apart
    yield Result("prefect_requests of a checkpoint", each, "requests", goal=0.01)
    for table, count in sorted((many_rows - few_rows).items()):
        yield Result(f"rows of a checkpoint in `{table}`", count / apart, "rows")
    requests = few["s3"] - TURNS[0]
    yield Result("s3_requests of an execution beside its checkpoints", requests, "requests")
    each = (many["s3"] - few["s3"]) / apart
    yield Result("s3_requests of a checkpoint", each, "requests", goal=1)
    memory, baseline = few["kilobytes"] / 1024, plain["kilobytes"] / 1024
    yield Result("memory of an execution", memory, "MiB", "plain flow run", memory / baseline)
    grown = (many["kilobytes"] - few["kilobytes"]) / apart
    yield Result("memory of a checkpoint", grown, "kiB")


def counted(stack: Stack, flow: str, turns: int) -> tuple[Counter[str], Counter[str]]:
    """What a flow has asked for, and the rows that it has left in Prefect's database."""
    before = rows(stack)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.counting", flow, f"{turns}"],
        env={**os.environ, **stack.env, "PREFECT_LOGGING_TO_API_ENABLED": "true"},
        cwd=FLOWS.parent.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return Counter(json.loads(done.stdout.splitlines()[-1])), settled(stack) - before


def rows(stack: Stack) -> Counter[str]:
    """How many rows each table of Prefect's database has."""
    with closing(sqlite3.connect(stack.data / "prefect" / "prefect.db", timeout=60)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return Counter(
            {
                name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
                for (name,) in names
            }
        )


def settled(stack: Stack) -> Counter[str]:
    """The rows, when no more come: events and logs are written by and by."""
    last, since = rows(stack), monotonic()
    while monotonic() - since < 12:
        sleep(1)
        if (now := rows(stack)) != last:
            last, since = now, monotonic()
    return last


def of_many_checkpoints(s3: S3Server) -> Iterator[Result]:
    """A checkpoint and a beginning behind so many others, and what all of them take."""
    for count in MANY_CHECKPOINTS:
        memory = MemoryObjects()
        log = ExecutionLog(memory, f"exec_{uuid4().hex}")
        log.create({"name": "benchmark"}, b"{}")
        head = log.attempt()
        for number in range(count):
            head = log.checkpoint(head, state(number))
        stored = log.cost()[1] / count
        objects = s3.objects(prefix=uuid4().hex)
        for key, data in memory.get(list(memory.scan(""))).items():
            objects.create(key, data)
        there = ExecutionLog(objects, log.execution_id)

        def save(turn: int, there: ExecutionLog = there, count: int = count) -> None:
            nonlocal head
            head = there.checkpoint(head, state(count + turn))

        yield Result(f"checkpoint behind {count:,}", typical(save), "s")
        yield Result(f"load behind {count:,}", typical(lambda _, there=there: there.head()), "s")
        yield Result(f"stored_bytes behind {count:,}", stored, "bytes")


def state(number: int) -> bytes:
    return serialization.dump({"n": number, "text": f"word {number} " * 200})


def of_many_executions(stack: Stack, prefect: SyncPrefectClient) -> Iterator[Result]:
    """A creation and a reading, among so many that run."""
    flow_runs = FlowRuns(prefect, store=uuid4().hex)
    executions = Executions(stack.s3.store().objects(), flow_runs)
    creations = Creation(executions)
    last = creations.create(name="first")[0]
    there = 1
    for count in MANY_EXECUTIONS:
        while there < count:
            last = patiently(lambda: creations.create(name="benchmark")[0])
            there += 1
        yield Result(
            f"create among {count}", typical(lambda _: creations.create(name="more"), 5), "s"
        )
        yield Result(f"get among {count}", typical(lambda _, id_=last.id: executions.get(id_)), "s")
        there += 5


def typical(act: Callable[[int], Any], times: int = TIMES) -> float:
    """The median seconds that something takes."""
    taken = []
    for turn in range(times):
        start = perf_counter()
        act(turn)
        taken.append(perf_counter() - start)
    return median(taken)
