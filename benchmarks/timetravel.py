"""Time travel: what it takes to find, to fork and to compare in long logs."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, cast
from uuid import uuid4

from prefect.client.orchestration import get_client

from benchmarks.measure import Result
from prefect_executions import serialization
from prefect_executions.client import Client, bisect
from prefect_executions.executions.comparing import compare
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.plans import Changes
from prefect_executions.local import Stack
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.models import CheckpointPage, Diff
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects

LONG = 10_000  # checkpoints, or entries
SHORT = 1_000  # checkpoints of each that is compared


class Rounds(MemoryObjects):
    """Objects in memory that count the rounds of requests that a caller waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0

    def create(self, key: str, data: bytes) -> None:
        self.rounds += 1
        super().create(key, data)

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        self.rounds += 1
        return super().get(keys, first=first, skip=skip)

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        self.rounds += 1
        return super().scan(prefix, limit=limit)


class Direct:
    """What `bisect` asks of a client, answered without HTTP."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    def checkpoint_page(self, id_: str, **asked: Any) -> CheckpointPage:
        return self._executions.checkpoints(id_, **asked)

    def diff(self, id_: str, before: str, after: str) -> Diff:
        return self._executions.diff(id_, before, after)


def timetravel(data: Path) -> Iterator[Result]:
    """All benchmarks of time travel, on a real Prefect server and a store in memory."""
    store = Rounds()
    with (
        Stack(data, bucket=False) as stack,
        stack.settings(),
        get_client(sync_client=True) as client,
    ):
        executions = Executions(store, FlowRuns(client, store=uuid4().hex))
        yield from bisecting(executions)
        yield from forking(executions, store)
        yield comparing(executions)


def bisecting(executions: Executions) -> Iterator[Result]:
    """The most loads of five borders among 10,000 checkpoints, without and with steps between."""
    for steps in (0, 1):
        id_ = saved(executions, LONG, steps=steps)
        most = 0
        for border in (1, LONG // 3, LONG // 2, LONG - 1, LONG):
            found = bisect(
                cast("Client", Direct(executions)), id_, lambda state, at=border: state["n"] >= at
            )
            assert found.bad.state["n"] == border
            most = max(most, found.loads)
        between = " with steps between" if steps else ""
        yield Result(f"bisect_loads of {LONG:,}{between}", most, "requests", goal=16)


def forking(executions: Executions, store: Rounds) -> Iterator[Result]:
    """Rounds of requests to the store of one fork of a log with 10,000 entries."""
    id_ = saved(executions, LONG // 2, steps=1)
    for effects in ("record", "replay"):
        changes = Changes(checkpoint_id=f"ckpt_{LONG // 2 + 1:06d}", effects=effects)
        store.rounds = 0
        Creation(executions).forks(id_, changes)
        name = f"fork_store_rounds of {LONG:,} entries, {effects}"
        yield Result(name, store.rounds, "rounds", goal=5)


def comparing(executions: Executions) -> Result:
    """Comparing two with 1,000 checkpoints each, against reading both."""
    ids = [saved(executions, SHORT, steps=1, factor=factor) for factor in (1, 2)]

    def read() -> None:
        for id_ in ids:
            executions.get(id_, checkpoints=SHORT)

    reading, whole = timed(read), timed(lambda: compare(executions, ids))
    name = f"compare_seconds of two with {SHORT:,} checkpoints"
    return Result(name, whole, "s", "reading both", whole / reading)


def timed(act: Callable[[], object]) -> float:
    """The shortest time of three."""
    times = []
    for _ in range(3):
        began = perf_counter()
        act()
        times.append(perf_counter() - began)
    return min(times)


def saved(executions: Executions, count: int, *, steps: int, factor: int = 1) -> str:
    """An execution with so many checkpoints, with steps recorded before each."""
    client = executions.flow_runs.client
    flow_id = client.create_flow_from_name("long")
    deployment = client.create_deployment(flow_id, "idle", tags=["execution"])
    made, _ = Creation(executions).create(name="long", state={}, deployment=f"{deployment}")
    log = executions.log(made.id)
    head = log.attempt()
    order = 0
    for n in range(1, count + 1):
        for _ in range(steps):
            order += 1
            record = Record(
                order=order,
                parent=0,
                key=f"{order}",
                step="work",
                at=head.entry.at,
                outcome=Outcome.DONE,
                result=b"%d" % (n * factor),
            )
            head = log.record(head, [record])
        state = {"n": n, "by": factor, "words": "some words that stay " * 5}
        head = log.checkpoint(head, serialization.dump(state), label=f"{n}")
    return made.id
