"""Fixtures of all tests: real servers, started when the first test needs them."""

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

# A client of Prefect without the settings of a test would start a server that nothing stops.
os.environ["PREFECT_SERVER_EPHEMERAL_ENABLED"] = "false"

import pytest
from hypothesis import settings as hypothesis_settings
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from moto_server import moto_server
from prefect_executions.local import S3Server, Stack
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.storage.s3 import S3Objects
from prefect_executions.testkit import MemoryStore, TestKit, testing
from rest import KEY
from stores import Counting, Faulty

ROOT = Path(__file__).parent.parent
_LAST_LINES = 40  # of each process's log

hypothesis_settings.register_profile("default", deadline=None, print_blob=True)
hypothesis_settings.register_profile(
    "few", hypothesis_settings.get_profile("default"), max_examples=25
)
hypothesis_settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", help="where the pictures of the docs go")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file that need a Prefect server on one worker of pytest-xdist.

    Those with real processes come first, on new servers: they take longest, and the supervisor of
    their service would else act on what other tests have left.
    """
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.relative_to(ROOT)}"))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("xdist_group") is None:
        return 2
    return 0 if "e2e" in item.path.parts else 1


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check that pytest-xdist keeps the groups: they are a part of the ids of tests."""
    if session.config.getoption("loadgroup", default=False) and any(
        "@" not in item.nodeid for item in session.items if item.get_closest_marker("xdist_group")
    ):
        raise pytest.UsageError("this pytest-xdist does not keep the groups of tests together")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what Prefect's server, the worker and its flows have said last."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        for log in [stack.server.log, *(worker.log for worker in stack.workers)]:
            lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            report.sections.append((f"the end of {log.name}", "\n".join(lines)))
    return report


class Clock:
    """A clock that advances by a second each time it is read."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryObjects:
    """An empty directory."""
    return DirectoryObjects(tmp_path / "executions")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, the one that `make demo` uses."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server) -> S3Objects:
    """An empty place on a real S3 server."""
    return s3_server.objects(prefix=uuid4().hex)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def moto(moto_endpoint: str) -> S3Objects:
    """A fresh bucket on moto, over HTTP."""
    objects = S3Objects(
        bucket=f"bucket-{uuid4().hex}",
        prefix="some/where",
        region="us-east-1",
        endpoint=moto_endpoint,
        access_key_id="any",
        secret_access_key="any",
        path_style=True,
    )
    objects.create_bucket()
    return objects


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prefect's server, an S3 server and a process worker, all real."""
    data = tmp_path_factory.mktemp("stack")
    env = {
        "PYTHONPATH": str(ROOT / "tests" / "e2e"),
        "EXECUTIONS_TEST_DATA": str(data),
        "EXECUTIONS_TEST_PYTHON": sys.executable,
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
        "PREFECT_INTEGRATIONS_EXECUTIONS_API_KEY": KEY,
        "PREFECT_INTEGRATIONS_EXECUTIONS_HEARTBEAT_SECONDS": "1",
        "PREFECT_INTEGRATIONS_EXECUTIONS_SILENCE_SECONDS": "10",
        "PREFECT_INTEGRATIONS_EXECUTIONS_PENDING_SECONDS": "45",
        # SQLite on a busy machine takes longer than a service's callers are to wait.
        "PREFECT_INTEGRATIONS_EXECUTIONS_AWAY_SECONDS": "20",
        "FORWARDED_ALLOW_IPS": "127.1.0.0/16",
    }
    with Stack(data, env=env) as running, running.settings():
        with get_client(sync_client=True) as client:  # for workers that a test will kill
            client.create_work_pool(WorkPoolCreate(name="doomed", type="process"))
        yield running
        EventsWorker.drain_all(timeout=10)  # at exit it would wait for a server that is gone


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def quick(
    stack: Stack, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Leave out what Prefect spends time on in each attempt.

    It ends a subscription to events about pauses, waits two seconds when SQLite is busy, and sends
    events of each state of a task run: these take half of its server's time. A test that needs
    them has the mark `events`.
    """
    monkeypatch.setattr("prefect.flow_engine.observe_flow_run_suspension", lambda *_: nullcontext())
    if request.node.get_closest_marker("events") is None:
        monkeypatch.setattr("prefect.events.utilities.should_emit_events", lambda: False)
    monkeypatch.setattr("prefect.client.base.clamped_poisson_interval", lambda *_: 0.3)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture
def kit(quick: None) -> Iterator[TestKit]:
    with testing() as kit:
        yield kit


@pytest.fixture
def objects(memory: MemoryObjects) -> Faulty:
    return Faulty(Counting(memory))


@pytest.fixture
def store(objects: Faulty) -> MemoryStore:
    return MemoryStore.of(objects)
