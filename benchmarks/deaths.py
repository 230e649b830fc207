"""How soon a death is noticed while 1,000 are deleted over REST, and 10,000 by retention.

The dead are agents outside Prefect that have reported once, and never again. What is deleted are
copies of an execution that has completed: rows in Prefect's SQLite database, with a log each.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import sleep
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Completed

from benchmarks.looks import Copies
from benchmarks.measure import Result, patiently
from benchmarks.service import META, PATH, Rest, serving
from prefect_executions.config import ExecutionConfig
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.local import Process, Stack
from prefect_executions.prefect.flow_runs import FlowRuns

BY_REST, BY_RETENTION = 1_000, 10_000
DEATHS = 5
APART = 7.0  # seconds
SETTLES = 45.0  # seconds after which a supervisor that has just begun knows who is silent
NOTICED = 60  # seconds after its last report
LONGEST = 300  # seconds that are waited for the last to be noticed

_SUPERVISE = (
    "from threading import Event; "
    "from prefect_executions.supervisor.supervisor import supervise; supervise(Event())"
)


def deaths(
    stack: Stack,
    prefect: SyncPrefectClient,
    *,
    by_rest: int = BY_REST,
    by_retention: int = BY_RETENTION,
) -> Iterator[Result]:
    """The longest time from the last report of one that dies until it is declared crashed."""
    here = Executions(stack.s3.store().objects(), FlowRuns(prefect))
    doomed = ended(stack, here, by_rest, ExecutionConfig())
    expired = ended(stack, here, by_retention, ExecutionConfig(delete_after_seconds=1))
    supervisor = Process(
        "the supervisor",
        [sys.executable, "-c", _SUPERVISE],
        log=stack.data / "supervisor.log",
        env=stack.env,
    )
    with serving(stack) as rest, ThreadPoolExecutor(4) as pool:
        supervisor.start()
        try:
            sleep(SETTLES)
            deletions = [pool.submit(delete, rest, id_) for id_ in doomed]
            noticed = list(noticing(here, [*dying(here)]))
            done = sum(deletion.done() for deletion in deletions)
            for deletion in deletions:
                deletion.cancel()
        finally:
            supervisor.stop()
    left = sum(here.log(id_).exists() for id_ in expired)
    load = f"{done:,} deletions over REST, {len(expired) - left:,} by retention meanwhile"
    yield Result("death_noticed_seconds", max(noticed), "seconds", load, goal=NOTICED)


def ended(stack: Stack, here: Executions, count: int, config: ExecutionConfig) -> list[str]:
    """So many executions that completed hours ago, with this config."""
    first = flow_run_id(Creation(here).create(name="ended", config=config)[0].id)
    here.flow_runs.client.set_flow_run_state(first, Completed(), force=True)
    meta = {**META, "config": config.model_dump(mode="json")}

    def make(run_id: UUID) -> str:
        log = here.log(execution_id(run_id))
        log.create({"name": f"{run_id}", **meta}, b"{}")
        return log.execution_id

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, Copies(stack).add(first, count)))


def delete(rest: Rest, id_: str) -> None:
    """Delete one over REST."""
    rest.delete(f"{PATH}/{id_}").raise_for_status()


def dying(here: Executions) -> Iterator[tuple[str, datetime]]:
    """Executions whose agents report once, one after another, and when they did."""
    config = ExecutionConfig(checkpoint_interval_seconds=1, max_retries=0)
    for number in range(DEATHS):
        id_ = patiently(lambda: Creation(here).create(name="dying", config=config)[0].id)
        here.checkpoint(id_, state={"n": number}, attempt=1)
        yield id_, datetime.now(UTC)
        sleep(APART)


def noticing(here: Executions, dead: list[tuple[str, datetime]]) -> Iterator[float]:
    """After how many seconds each of the dead was declared crashed, or given up.

    Raises:
        TimeoutError: One of them was not noticed.
    """
    for id_, at in dead:
        while (head := here.log(id_).head().entry).kind != "crash":
            if (datetime.now(UTC) - at).total_seconds() > LONGEST:
                raise TimeoutError(f"{id_} has died at {at}, and nobody has noticed")
            sleep(0.5)
        yield (head.at - at).total_seconds()
