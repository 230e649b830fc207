"""The REST service against Prefect's own API, and under load."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any
from uuid import UUID

import httpx
import orjson
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.sorting import FlowRunSort

from benchmarks.looks import Copies
from benchmarks.measure import Result, alternating, patiently
from benchmarks.serving import KEY
from benchmarks.steps import quiet
from benchmarks.workload import conversation
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.local import Process, Stack, free_ports
from prefect_executions.prefect.flow_runs import FlowRuns

PATH = "/v1/execution"
ROUNDS = 200
CREATIONS = 50
CHECKPOINTS = 10
MANY_CHECKPOINTS = 100
STATE_BYTES = 10_000
LISTED = 50
LOAD_SECONDS = 4.0
TURNS = 2
CLIENTS = (1, 8, 32)
READ = 10_000
LARGE, LARGE_BYTES = 1_000, 1_000_000
CACHE_BYTES = 64 << 20
AT_ONCE_BYTES = 64 << 20  # of memory that four reads at once may leave behind
TEXT = " ".join(message["content"] for message in conversation(50))[:STATE_BYTES]
META = {"description": None, "agent_id": None, "task_type": None, "config": {}}


def service(data: Path) -> Iterator[Result]:
    """All benchmarks of the service."""
    with Stack(data) as stack, quiet(stack), get_client(sync_client=True) as prefect:
        here = Executions(stack.s3.store().objects(), FlowRuns(prefect))
        with serving(stack, cache_bytes=0) as rest:
            ids = [create(rest) for _ in range(LISTED)]
            yield get_vs_prefect_read(rest, stack, ids[0], "cold", goal=2.0)
            many = create(rest, MANY_CHECKPOINTS, text="")
            name = f"cold, {MANY_CHECKPOINTS} small checkpoints"
            yield get_vs_prefect_read(rest, stack, many, name, goal=3.0)
            yield create_vs_prefect(rest, stack, prefect)
            yield put_vs_in_process(rest, here, ids[1])
        with serving(stack) as rest:
            yield get_vs_prefect_read(rest, stack, ids[0], "warm", goal=1.2)
            yield get_vs_its_parts(rest, here, ids[0])
            yield list_vs_prefect_filter(rest, stack)
            yield list_vs_prefect_client(rest, prefect)
            for clients in CLIENTS:
                yield from under_load(rest, stack, ids, clients)
        with serving(stack) as rest:
            yield memory_after_reading(rest, make_many(stack, here, READ, TEXT))
        with serving(stack) as rest:
            large = make_many(stack, here, LARGE, TEXT * (LARGE_BYTES // STATE_BYTES))
            yield memory_after_reading(rest, large, " large")


class Rest(httpx.Client):
    """A client of the service, which knows its process."""

    pid: int


@contextmanager
def serving(stack: Stack, *, cache_bytes: int = CACHE_BYTES) -> Iterator[Rest]:
    """The service, in a process of its own."""
    port = free_ports(1)
    process = Process(
        "the service",
        [sys.executable, "-m", "benchmarks.serving", str(port), str(cache_bytes)],
        log=stack.data / "serving.log",
        env=stack.env,
    )
    process.start()
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port}"
    try:
        with Rest(base_url=url, headers=headers, timeout=60) as rest:
            process.wait_until(lambda: is_up(rest))
            rest.pid = process.pid
            yield rest
    finally:
        process.stop()


def is_up(rest: httpx.Client) -> bool:
    try:
        return rest.get(PATH, params={"limit": 1}).is_success
    except httpx.TransportError:
        return False


def create(rest: httpx.Client, checkpoints: int = CHECKPOINTS, text: str = TEXT) -> str:
    """An execution of an agent outside Prefect, with some checkpoints."""
    made: str = ok(rest.post(PATH, json={"name": "read"}))["id"]
    for n in range(checkpoints):
        state = {"n": n, "text": text}
        ok(rest.put(f"{PATH}/{made}/checkpoint", json={"state": state}))
    return made


def ok(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


def get_vs_prefect_read(
    rest: httpx.Client, stack: Stack, id_: str, name: str, *, goal: float
) -> Result:
    """An execution with its checkpoints and their states, against Prefect's bare flow run.

    Cold: nothing of the store is kept in memory. Warm: what is immutable is.
    """
    with httpx.Client(base_url=stack.api_url) as prefect:
        path = f"/flow_runs/{id_[5:]}"
        ours, theirs = alternating(
            lambda _: ok(rest.get(f"{PATH}/{id_}")), lambda _: ok(prefect.get(path)), ROUNDS
        )
    return Result(
        f"get_vs_prefect_read {name}",
        ours,
        "s",
        baseline="GET /flow_runs/{id}",
        ratio=ours / theirs,
        goal=goal,
    )


def create_vs_prefect(rest: httpx.Client, stack: Stack, prefect: SyncPrefectClient) -> Result:
    """A creation in a deployment, against the creation of a bare flow run in it."""
    flow_id = prefect.create_flow_from_name("bench-create")
    deployment = f"{prefect.create_deployment(flow_id, 'bench', tags=['execution'])}"
    body = {"name": "new", "deployment": deployment}
    with httpx.Client(base_url=stack.api_url) as own:
        ours, theirs = alternating(
            lambda _: patiently(lambda: ok(rest.post(PATH, json=body))),
            lambda _: patiently(
                lambda: ok(own.post(f"/deployments/{deployment}/create_flow_run", json={}))
            ),
            CREATIONS,
        )
    baseline = "POST /deployments/{id}/create_flow_run"
    return Result("create_vs_prefect", ours, "s", baseline, ours / theirs, goal=1.5)


def get_vs_its_parts(rest: httpx.Client, here: Executions, id_: str) -> Result:
    """A warm read against what it can't do without, one after the other in this process.

    That is Prefect's client for the flow run, and boto3's LIST for the newest entry.
    """
    log = here.log(id_)
    ours, theirs = alternating(
        lambda _: ok(rest.get(f"{PATH}/{id_}")),
        lambda _: (here.run(id_), log.newest()),
        ROUNDS,
    )
    baseline = "Prefect's client + LIST"
    return Result("get_vs_its_parts warm", ours, "s", baseline=baseline, ratio=ours / theirs)


def list_vs_prefect_client(rest: httpx.Client, prefect: SyncPrefectClient) -> Result:
    """A page of 50 executions against 50 flow runs by Prefect's client, which parses them."""
    filter_ = FlowRunFilter(tags=FlowRunFilterTags(all_=["execution"]))
    sort = FlowRunSort.EXPECTED_START_TIME_DESC
    ours, theirs = alternating(
        lambda _: ok(rest.get(PATH, params={"limit": LISTED})),
        lambda _: prefect.read_flow_runs(flow_run_filter=filter_, sort=sort, limit=LISTED),
        ROUNDS,
    )
    return Result(
        f"list{LISTED}_vs_prefect_client",
        ours,
        "s",
        baseline="read_flow_runs",
        ratio=ours / theirs,
    )


def list_vs_prefect_filter(rest: httpx.Client, stack: Stack) -> Result:
    """A page of 50 executions against 50 flow runs from Prefect."""
    body = {
        "limit": LISTED,
        "sort": "EXPECTED_START_TIME_DESC",
        "flow_runs": {"tags": {"all_": ["execution"]}},
    }
    with httpx.Client(base_url=stack.api_url) as prefect:
        ours, theirs = alternating(
            lambda _: ok(rest.get(PATH, params={"limit": LISTED})),
            lambda _: ok(prefect.post("/flow_runs/filter", json=body)),
            ROUNDS,
        )
    return Result(
        f"list{LISTED}_vs_prefect_filter",
        ours,
        "s",
        baseline="POST /flow_runs/filter",
        ratio=ours / theirs,
        goal=1.2,
    )


def put_vs_in_process(rest: httpx.Client, here: Executions, id_: str) -> Result:
    """A checkpoint over REST against the same call without HTTP, in this process."""

    def state(n: int) -> dict[str, Any]:
        return {"n": n, "text": TEXT}

    ours, theirs = alternating(
        lambda n: ok(rest.put(f"{PATH}/{id_}/checkpoint", json={"state": state(n)})),
        lambda n: here.checkpoint(id_, state=state(-n)),
        ROUNDS,
    )
    return Result(
        "put_checkpoint_rest_vs_inprocess", ours, "s", baseline="in-process", ratio=ours / theirs
    )


def under_load(rest: Rest, stack: Stack, ids: list[str], clients: int) -> Iterator[Result]:
    """Reads by so many clients at once, and by as many of Prefect's own flow runs, in turn."""
    ours, theirs = list[Load](), list[Load]()
    for _ in range(TURNS):
        ours.append(Load.of(rest.base_url, rest.headers, [f"{PATH}/{id_}" for id_ in ids], clients))
        paths = [f"/flow_runs/{id_[5:]}" for id_ in ids]
        theirs.append(Load.of(httpx.URL(stack.api_url), httpx.Headers(), paths, clients))
    mine, prefects = (median(load.rate for load in loads) for loads in (ours, theirs))
    name = f"{clients} clients"
    yield Result(
        f"seconds_per_read {name}",
        1 / mine,
        "s",
        baseline=f"GET /flow_runs/{{id}}, {prefects:.0f} a second",
        ratio=prefects / mine,
        goal=1 / 0.6,
    )
    p99, own = (p99_over_median(loads) for loads in (ours, theirs))
    baseline = f"its median; Prefect's own: {own[1]:.1f} times"
    yield Result(f"read_p99 {name}", p99[0], "s", baseline=baseline, ratio=p99[1], goal=3)


def p99_over_median(loads: list["Load"]) -> tuple[float, float]:
    """The 99th percentile of how long reads took, and how many times the median that is."""
    times = [seconds for load in loads for seconds in load.times]
    p99 = quantiles(times, n=100)[98]
    return p99, p99 / median(times)


@dataclass(frozen=True)
class Load:
    """What several clients at once have read.

    Args:
        times: How long each read took, in seconds.
        rate: Reads a second.
    """

    times: list[float]
    rate: float

    @classmethod
    def of(cls, url: httpx.URL, headers: httpx.Headers, paths: list[str], clients: int) -> "Load":
        """Let so many clients read these paths for a while."""
        started = perf_counter()
        deadline = started + LOAD_SECONDS

        def read(client: int) -> list[float]:
            times = []
            with httpx.Client(base_url=url, headers=headers, timeout=60) as own:
                while (start := perf_counter()) < deadline:
                    own.get(paths[client % len(paths)]).raise_for_status()
                    times.append(perf_counter() - start)
            return times

        with ThreadPoolExecutor(clients) as pool:
            times = [seconds for each in pool.map(read, range(clients)) for seconds in each]
        return cls(times, len(times) / (perf_counter() - started))


def memory_after_reading(rest: Rest, ids: list[str], kind: str = "") -> Result:
    """What the service's memory has grown by when it has read many executions.

    What it keeps is bounded by its cache; what it needs for a moment, by what a read may answer.
    """
    for id_ in ids[:100]:
        ok(rest.get(f"{PATH}/{id_}", params={"states": "false"}))
    before = resident(rest.pid)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda id_: ok(rest.get(f"{PATH}/{id_}")), ids[100:]))
    allowed = before + CACHE_BYTES + AT_ONCE_BYTES
    return Result(
        f"service_memory_after {len(ids):,}{kind} executions",
        resident(rest.pid),
        "bytes",
        baseline=f"after 100 + cache + 64 MiB, {allowed:,}",
        ratio=resident(rest.pid) / allowed,
        goal=1,
    )


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )
    return int(line.split()[1]) * 1024


def make_many(stack: Stack, here: Executions, count: int, text: str) -> list[str]:
    """Executions with one checkpoint of a text each, whose runs are copies of one."""
    first = flow_run_id(Creation(here).create(name="many")[0].id)
    state = orjson.dumps({"text": text})

    def make(run_id: UUID) -> str:
        log = here.log(execution_id(run_id))
        log.checkpoint(log.create({"name": f"{run_id}", **META}, b"{}"), state)
        return log.execution_id

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, Copies(stack).add(first, count)))
