"""Steps against Prefect's own persisted tasks, and saving beside the flow against not saving."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import orjson
from prefect import flow, task
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket

from benchmarks.measure import Result
from benchmarks.slow import slowly
from benchmarks.workload import conversation
from prefect_executions import execution, step
from prefect_executions.local.stack import BUCKET, S3Server, Stack
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.objects import MemoryObjects

STEPS = 200
FLOWS = 9
REQUEST_SECONDS = 0.015
TURNS = 150
TURN_SECONDS = 0.02  # how long a turn of the loop takes by itself: half of it waits, half computes

MESSAGES = conversation()


def steps(data: Path) -> Iterator[Result]:
    """All benchmarks of steps."""
    yield from steps_bytes()
    with Stack(data) as stack, quiet(stack):
        yield step_vs_persisted_task(stack.s3)
        far = copy(stack.s3)
        with slowly(stack.s3.port, REQUEST_SECONDS) as port:
            far.endpoint = f"http://127.0.0.1:{port}"
            name = f", {REQUEST_SECONDS * 1000:.0f} ms a request"
            yield step_vs_persisted_task(far, name, flows=3)
        yield async_overhead(stack)


@contextmanager
def quiet(stack: Stack) -> Iterator[None]:
    """Run flows in this process, and say nothing of it."""
    with stack.settings(), temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        logging.disable(logging.WARNING)
        yield
        logging.disable(logging.NOTSET)


def step_vs_persisted_task(s3: S3Server, name: str = "", *, flows: int = FLOWS) -> Result:
    """A flow of 200 steps against one of 200 tasks whose results Prefect keeps on the same S3.

    What is measured is the flow's function: how long Prefect's server takes to make a flow run
    varies by seconds, as it is still writing the events of the run before.

    On loopback a request costs nothing but processor time; in a region of S3 the first byte takes
    some 15 ms. A persisted task waits for more than one of these, a step for one.
    """
    bucket = persisted_on(s3)

    @step
    def stepped(n: int) -> dict[str, str]:
        return MESSAGES[n]

    @task(persist_result=True, result_storage=bucket)
    def persisted(n: int) -> dict[str, str]:
        return MESSAGES[n]

    @flow
    @execution(store=s3.store())
    def of_steps() -> float:
        return seconds_of(stepped)

    @flow
    def of_tasks() -> float:
        return seconds_of(persisted)

    of_steps(), of_tasks()  # the first run of each makes connections
    ours, theirs = medians(lambda: (of_steps(), of_tasks()), flows)
    return Result(
        f"step_vs_persisted_task{name}",
        ours / STEPS,
        "s",
        "persist_result=True",
        ours / theirs,
        0.5,
    )


def seconds_of(call: Callable[[int], object]) -> float:
    """How long so many calls take."""
    began = perf_counter()
    for n in range(STEPS):
        call(n)
    return perf_counter() - began


def medians(pair: Callable[[], tuple[float, float]], rounds: int = FLOWS) -> tuple[float, float]:
    """The medians of two things that are measured in turn."""
    ours, theirs = zip(*(pair() for _ in range(rounds)), strict=True)
    return median(ours), median(theirs)


def persisted_on(s3: S3Server) -> Any:
    """Prefect's own place for results, on the same server."""
    credentials = AwsCredentials(
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,  # type: ignore[arg-type]
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(
            endpoint_url=s3.endpoint, config={"s3": {"addressing_style": "path"}}
        ),
    )
    bucket = S3Bucket(bucket_name=BUCKET, bucket_folder="results", credentials=credentials)
    bucket.save(f"results-{s3.endpoint.rpartition(':')[2]}", overwrite=True, _sync=True)
    return bucket


def async_overhead(stack: Stack) -> Result:
    """A loop that saves a growing conversation each turn, beside the flow, against a bare one."""

    @flow
    @execution(store=stack.s3.store(), durability="async")
    def saving(saves: bool) -> float:
        run = execution.current()
        run.state["messages"] = []
        turns = []
        for turn in range(TURNS):
            began = perf_counter()
            compute(TURN_SECONDS / 2)
            sleep(TURN_SECONDS / 2)
            run.state["messages"].append(MESSAGES[turn])
            if saves:
                run.checkpoint()
            turns.append(perf_counter() - began)
        return sum(turns)

    saving(True), saving(False)
    ours, bare = medians(lambda: (saving(True), saving(False)))
    return Result("async_overhead", ours / TURNS, "s", "the bare loop", ours / bare, 1.05)


def compute(seconds: float) -> None:
    """Keep the processor busy."""
    ends = perf_counter() + seconds
    while perf_counter() < ends:
        sum(range(200))


def steps_bytes() -> Iterator[Result]:
    """What 1,000 steps take in the store, with headers, against their results as JSON."""
    store = MemoryObjects()
    log = ExecutionLog(store, "exec_0123456789abcdef0123456789abcdef")
    log.create({"name": "benchmark"}, b"{}")
    head = log.attempt()
    results = journals = 0
    for n, message in enumerate(MESSAGES, start=1):
        record = recorded(n, message)
        results += len(record.result or b"")
        head = log.record(head, [record])
        journals += len(head.journal)
    entries = store.get(list(store.scan(""))).values()
    stored = sum(map(len, entries))
    yield Result(
        "steps_bytes 1,000 steps",
        stored,
        "bytes",
        f"results as JSON, {results:,}",
        stored / results,
    )
    yield Result("steps_bytes, the largest entry", max(map(len, entries)), "bytes")


def recorded(n: int, message: dict[str, str]) -> Record:
    """The record of one step."""
    return Record(
        order=n,
        parent=0,
        key=f"{n:032x}",
        step="stepped",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        outcome=Outcome.DONE,
        result=orjson.dumps(message),
    )
