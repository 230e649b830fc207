"""What a look of the supervisor asks of Prefect, among up to 100,000 executions.

Their rows are copies in Prefect's SQLite database: of one run that its flow has paused, one that
has crashed for good, one that has completed, and one that runs.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Running, Suspended

from benchmarks.measure import Result
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.listing import AT_ONCE
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.supervisor.supervisor import Supervisor

MANY = (100, 10_000, 100_000)
RUNNING = 1_000
MOST = 15  # requests of a look that finds nothing new
LOOKS = 60  # more than a round through the paused ones takes
OLD = timedelta(hours=5)  # since when they are as they are


def looks(stack: Stack, prefect: SyncPrefectClient) -> Iterator[Result]:
    """A look among so many executions, of which a tenth is paused and a twentieth has crashed."""
    flow_runs = FlowRuns(prefect, store=uuid4().hex)
    executions = Executions(stack.s3.store().objects(), flow_runs)
    supervisor = Supervisor(executions, prefect, ExecutionsSettings())
    asked = Asked(prefect)
    states = (Suspended(pause_key=uuid4().hex), Crashed(), Completed(), Running())
    paused, crashed, completed, running = (create(executions, state) for state in states)
    there = len(states)
    for count in MANY:
        copies = Copies(stack)
        copies.add(paused, (count - there) // 10)
        copies.add(crashed, (count - there) // 20)
        copies.add(completed, (count - there) * 17 // 20)
        there = count
        idle = settled(supervisor, asked, MOST)
        yield Result(f"look_requests among {count:,}", idle.requests, "requests", goal=MOST)
        yield Result(f"look_rows among {count:,}", idle.rows, "rows", goal=5 * AT_ONCE)
        yield Result(f"look_seconds among {count:,}", idle.seconds, "s")
    copies = Copies(stack)
    copies.add(running, RUNNING, age=timedelta(0))
    busy = settled(supervisor, asked, MOST + RUNNING // AT_ONCE)
    more = (busy.requests - idle.requests) * AT_ONCE / RUNNING
    yield Result(f"look_requests more for {AT_ONCE} that run", more, "requests", goal=1.25)


def create(executions: Executions, state: State[Any]) -> UUID:
    """The run of an execution of an agent outside Prefect, which then comes into a state."""
    run_id = flow_run_id(Creation(executions).create(name="benchmark")[0].id)
    executions.flow_runs.client.set_flow_run_state(run_id, state, force=True)
    return run_id


@dataclass(frozen=True)
class Look:
    """What a look asks for: the most of several looks, and the median of their seconds."""

    requests: int
    rows: int
    seconds: float


def settled(supervisor: Supervisor, asked: "Asked", most: int) -> Look:
    """Look until nothing is new to the supervisor: until so many looks have asked for little."""
    looks: deque[Look] = deque(maxlen=LOOKS)
    while len(looks) < LOOKS or max(look.requests for look in looks) > most:
        looks.append(asked.during(supervisor.look))
    return Look(
        max(look.requests for look in looks),
        max(look.rows for look in looks),
        median(look.seconds for look in looks),
    )


class Asked:
    """Counts the requests of a client to Prefect, and the rows of flow runs in the answers."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self._requests = self._rows = 0
        prefect._client.event_hooks["response"].append(self._count)

    def _count(self, response: httpx.Response) -> None:
        self._requests += 1
        if response.request.url.path.endswith("/flow_runs/filter"):
            response.read()
            self._rows += len(response.json())

    def during(self, look: Callable[[], object]) -> Look:
        """What is asked for while a look is taken."""
        self._requests = self._rows = 0
        start = perf_counter()
        look()
        return Look(self._requests, self._rows, perf_counter() - start)


class Copies:
    """Copies the rows of a flow run in Prefect's database, with new ids."""

    def __init__(self, stack: Stack) -> None:
        self._database = stack.data / "prefect" / "prefect.db"

    def add(self, run_id: UUID, count: int, *, age: timedelta = OLD) -> list[UUID]:
        """Make so many copies of a run and its state, which came into the state long ago."""
        at, made = datetime.now(UTC) - age, list[UUID]()
        with closing(sqlite3.connect(self._database, timeout=120)) as database:
            database.row_factory = sqlite3.Row
            found = "SELECT * FROM flow_run WHERE id = ?"
            run = dict(database.execute(found, (str(run_id),)).fetchone())
            found = "SELECT * FROM flow_run_state WHERE id = ?"
            state = dict(database.execute(found, (run["state_id"],)).fetchone())
            numbers = iter(range(count))
            while some := list(islice(numbers, 1_000)):
                with database:
                    for number in some:
                        made.append(uuid4())
                        then = at - timedelta(milliseconds=number)
                        self._copy(database, run, state, made[-1], then)
        return made

    def _copy(
        self,
        database: sqlite3.Connection,
        run: dict[str, Any],
        state: dict[str, Any],
        run_id: UUID,
        at: datetime,
    ) -> None:
        new, state_id = str(run_id), str(uuid4())
        time = f"{at:%Y-%m-%d %H:%M:%S.%f}"
        times = {
            name: time for name in ("expected_start_time", "start_time", "end_time") if run[name]
        }
        ids = {"id": new, "state_id": state_id, "idempotency_key": new, "name": new}
        insert(database, "flow_run", run | ids | times | {"state_timestamp": time})
        ids = {"id": state_id, "flow_run_id": new, "timestamp": time}
        insert(database, "flow_run_state", state | ids)


def insert(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Insert a row."""
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
