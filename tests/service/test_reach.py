"""The service while the store or Prefect is away: real servers, which hang or refuse."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from fault_proxy import FaultProxy
from prefect_executions.local import Stack, free_ports
from prefect_executions.service.reach import reached
from prefect_executions.settings import ExecutionsSettings
from rest import KEY, assert_problem, path
from serving import served
from world import eventually

READS = 50
PROMISE = ExecutionsSettings().away_seconds
LATEST = 3 * PROMISE  # on a busy machine
LONG = 120.0


class Service:
    """A service on a port, and a client of it.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None)
        key = {"Authorization": f"Bearer {KEY}"}
        self.http = httpx.Client(base_url=url, headers=key, timeout=LONG, limits=limits)

    @property
    def away(self) -> list[str]:
        """What it says to be away."""
        answer = self.http.get("/health")
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
        return list(answer.json()["away"])


class Place:
    """A place for executions, that services reach in several ways.

    Args:
        stack: The servers.
    """

    def __init__(self, stack: Stack) -> None:
        self.name = uuid4().hex
        self.prefect = PREFECT_API_URL.value().removesuffix("/api")
        self.block = stack.s3.store().model_copy(update={"prefix": self.name})

    @contextmanager
    def service(
        self, *, seconds: float = PROMISE, store: str | None = None, prefect: str | None = None
    ) -> Iterator[Service]:
        """A service that reaches the store and Prefect at these URLs, instead of their own."""
        block = self.block.model_copy(update={"endpoint_url": store} if store else {})
        with ExitStack() as up:
            with temporary_settings({PREFECT_API_URL: f"{prefect or self.prefect}/api"}):
                reach = up.enter_context(reached(block, seconds))
            url = up.enter_context(
                served(reach.client, reach.objects, store=self.name, circuits=reach.circuits)
            )
            service = Service(url)
            up.enter_context(service.http)
            yield service


@pytest.fixture
def place(stack: Stack) -> Place:
    return Place(stack)


@pytest.fixture
def execution(place: Place) -> dict[str, Any]:
    with place.service(seconds=LONG) as service:
        answer = service.http.post("/v1/execution", json={"name": "a task"})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(READS) as pool:
        yield pool


def read_often(
    pool: ThreadPoolExecutor, service: Service, execution: dict[str, Any]
) -> list[Future[httpx.Response]]:
    return [pool.submit(service.http.get, path(execution)) for _ in range(READS)]


def test_while_reads_wait_for_the_store_all_else_is_answered(
    place: Place, execution: dict[str, Any], pool: ThreadPoolExecutor
) -> None:
    with (
        FaultProxy(f"{place.block.endpoint_url}") as proxy,
        place.service(seconds=LONG, store=proxy.endpoint) as service,
    ):
        with proxy.held():
            reads = read_often(pool, service, execution)
            eventually(lambda: proxy.waiting >= READS, "all reads wait for the store")

            assert service.away == []
            listed = service.http.get("/v1/execution")
            assert [item["id"] for item in listed.json()["items"]] == [execution["id"]]
            assert not any(read.done() for read in reads)

        assert {read.result().status_code for read in reads} == {200}


def test_while_reads_wait_for_prefect_health_is_answered(
    place: Place, execution: dict[str, Any], pool: ThreadPoolExecutor
) -> None:
    with (
        FaultProxy(place.prefect) as proxy,
        place.service(seconds=LONG, prefect=proxy.endpoint) as service,
    ):
        with proxy.held():
            reads = read_often(pool, service, execution)
            eventually(lambda: proxy.waiting >= 1, "the first read waits, and the others for it")

            assert service.away == []
            assert service.http.get("/openapi.json").status_code == 200
            assert not any(read.done() for read in reads)

        assert {read.result().status_code for read in reads} == {200}


@pytest.mark.parametrize("what", ["store", "prefect"])
@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "refuses"])
def test_what_needs_something_away_is_answered_in_time(
    place: Place,
    execution: dict[str, Any],
    pool: ThreadPoolExecutor,
    what: str,
    hangs: bool,
) -> None:
    proxy = FaultProxy(f"{place.block.endpoint_url}" if what == "store" else place.prefect)
    url = proxy.endpoint if hangs else f"http://127.0.0.1:{free_ports(1)}"
    reaching: dict[str, Any] = {what: url}
    held: AbstractContextManager[None] = proxy.held()
    with proxy, place.service(**reaching) as service:
        with held:
            began = monotonic()
            reads = read_often(pool, service, execution)
            assert wait(reads, timeout=LONG).not_done == set()
            assert monotonic() - began < LATEST
            for read in reads:
                assert_problem(read.result(), 503, f"{what}_unavailable")
            assert service.away == [what]

            for _ in range(READS):
                assert_problem(service.http.get(path(execution)), 503, f"{what}_unavailable")
            assert monotonic() - began < 2 * LATEST, "nothing waits for what is known to be away"

        if hangs:
            eventually(lambda: service.away == [], "it is noticed that it is back")
            assert service.http.get(path(execution)).json()["id"] == execution["id"]
