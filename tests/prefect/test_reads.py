"""Reading flow runs together, on a real server."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Running

from prefect_executions.errors import ExecutionNotFound, PrefectUnavailable
from prefect_executions.prefect.reads import FlowRunReads
from prefect_executions.prefect.states import state_of


class Counting:
    """Prefect's client, which counts its reads and holds the first of them back."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        self.reads = list[int]()
        self.reading, self.released = Event(), Event()

    def read_flow_run(self, run_id: UUID) -> FlowRun:
        self._count(1)
        return self.client.read_flow_run(run_id)

    def read_flow_runs(self, **options: Any) -> list[FlowRun]:
        self._count(len(options["flow_run_filter"].id.any_))
        return self.client.read_flow_runs(**options)

    def _count(self, runs: int) -> None:
        self.reads.append(runs)
        self.reading.set()
        assert self.released.wait(60)


@pytest.fixture
def counting(prefect: SyncPrefectClient) -> Counting:
    return Counting(prefect)


@pytest.fixture
def reads(counting: Counting) -> FlowRunReads:
    return FlowRunReads(counting)  # type: ignore[arg-type]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(460) as pool:
        yield pool


def made(prefect: SyncPrefectClient, count: int) -> list[UUID]:
    flow_id = prefect.create_flow_from_name("read")
    deployment = prefect.create_deployment(flow_id, f"{uuid4()}")
    create = prefect.create_flow_run_from_deployment
    return [create(deployment, state=Running()).id for _ in range(count)]


def until_gathered(reads: FlowRunReads, count: int) -> None:
    """Wait until so many runs are waited for while a request is under way."""
    while len(reads._waiting) < count:
        Event().wait(0.01)


def test_what_several_wait_for_is_read_at_once(
    prefect: SyncPrefectClient,
    counting: Counting,
    reads: FlowRunReads,
    pool: ThreadPoolExecutor,
) -> None:
    first, *others = made(prefect, 20)
    asked = [pool.submit(reads.read, first)]
    assert counting.reading.wait(60)
    asked += [pool.submit(reads.read, id_) for id_ in others * 3]
    until_gathered(reads, len(others))
    counting.released.set()

    assert [future.result().id for future in asked] == [first, *others * 3]
    assert counting.reads == [1, len(others)]


def test_what_is_read_is_no_older_than_the_question(
    prefect: SyncPrefectClient,
    counting: Counting,
    reads: FlowRunReads,
    pool: ThreadPoolExecutor,
) -> None:
    (id_,) = made(prefect, 1)
    before = pool.submit(reads.read, id_)
    assert counting.reading.wait(60)
    prefect.set_flow_run_state(id_, Cancelled(), force=True)
    after = pool.submit(reads.read, id_)
    until_gathered(reads, 1)
    counting.released.set()

    before.result()
    assert state_of(after.result()).is_cancelled()
    assert state_of(reads.read(id_)).is_cancelled()


def test_what_is_not_there_is_missed_by_those_alone_who_ask_for_it(
    prefect: SyncPrefectClient,
    counting: Counting,
    reads: FlowRunReads,
    pool: ThreadPoolExecutor,
) -> None:
    first, other = made(prefect, 2)
    pool.submit(reads.read, first)
    assert counting.reading.wait(60)
    unknown = [pool.submit(reads.read, uuid4()) for _ in range(2)]
    known = pool.submit(reads.read, other)
    until_gathered(reads, 3)
    counting.released.set()

    assert known.result().id == other
    for future in unknown:
        with pytest.raises(ExecutionNotFound):
            future.result()
    with pytest.raises(ExecutionNotFound):
        reads.read(uuid4())


def test_more_than_a_request_may_ask_for_are_read_in_several(
    prefect: SyncPrefectClient,
    counting: Counting,
    reads: FlowRunReads,
    pool: ThreadPoolExecutor,
) -> None:
    (known,) = made(prefect, 1)
    asked = [pool.submit(reads.read, known)]
    assert counting.reading.wait(60)
    gone = [pool.submit(reads.read, uuid4()) for _ in range(449)]
    asked.append(pool.submit(reads.read, known))
    until_gathered(reads, 450)
    counting.released.set()

    assert [future.result().id for future in asked] == [known, known]
    assert all(isinstance(future.exception(), ExecutionNotFound) for future in gone)
    assert counting.reads == [1, 200, 200, 50]


def test_all_who_wait_get_the_error_and_the_next_reads_anew(
    prefect: SyncPrefectClient,
    counting: Counting,
    reads: FlowRunReads,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, other = made(prefect, 2)

    def away(**_: Any) -> list[FlowRun]:
        raise PrefectUnavailable("it restarts")

    asked: list[Future[FlowRun]] = [pool.submit(reads.read, first)]
    assert counting.reading.wait(60)
    monkeypatch.setattr(counting, "read_flow_runs", away)
    waiting = [pool.submit(reads.read, id_) for id_ in (other, uuid4())]
    until_gathered(reads, 2)
    counting.released.set()

    assert asked[0].result().id == first
    for future in waiting:
        with pytest.raises(PrefectUnavailable, match="restarts"):
            future.result()
    assert reads.read(other).id == other
