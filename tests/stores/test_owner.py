"""A store belongs to one Prefect: two real ones, and one bucket and prefix."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from threading import Barrier, Event
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_executions.cli import main
from prefect_executions.errors import CorruptEntry, ForeignStore, StoreNotFound
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service.server import serve
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.stores.owner import KEY, claim
from prefect_executions.stores.store import ExecutionStore, load_store
from prefect_executions.supervisor import supervise
from stores import Counting


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Another Prefect, with a database of its own; of this stack only the server is started."""
    other = Stack(tmp_path_factory.mktemp("another"))
    other.server.start()

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{other.api_url}/health").is_success
        return False

    try:
        other.server.wait_until(answers)
        with other.settings():
            ExecutionStore.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
        yield other
    finally:
        other.server.stop()


@pytest.fixture
def name() -> str:
    return f"owned-{uuid4().hex[:8]}"


@pytest.fixture
def store(stack: Stack, name: str) -> ExecutionStore:
    """A store of the stack's Prefect."""
    stack.s3.store().model_copy(update={"prefix": name}).save(name, _sync=True)
    return load_store(name)


@pytest.fixture
def execution(store: ExecutionStore) -> str:
    """An execution in the store, for the stack's Prefect."""
    with get_client(sync_client=True) as client:
        executions = Executions(store.objects(), FlowRuns(client, store=f"{store.name}"))
        return Creation(executions).create(name="task")[0].id


def save_unchecked(store: ExecutionStore, name: str) -> None:
    """Save a block as the Prefect UI does."""
    copy = ExecutionStore.model_validate(store.model_dump())
    Block.save(copy, name, _sync=True)  # type: ignore[call-arg]


def refusal_of(objects: Objects, start: Barrier, client: SyncPrefectClient) -> ForeignStore | None:
    """Claim a store at the same time as others; why it was refused."""
    start.wait()
    try:
        claim(objects, client)
    except ForeignStore as error:
        return error
    return None


def gc(*args: str) -> Any:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["gc", *args])
    return ended.value.code


def test_the_first_prefect_that_uses_a_store_owns_it(
    store: ExecutionStore, another: Stack, execution: str
) -> None:
    before = list(store.objects().scan(""))
    store.claim()

    with another.settings(), pytest.raises(ForeignStore, match=r"another `prefix`.*gc --adopt"):
        store.claim()

    assert list(store.objects().scan("")) == before


def test_who_owns_it_costs_a_request_to_the_store(stack: Stack) -> None:
    objects = Counting(MemoryObjects())
    with get_client(sync_client=True) as client:
        claim(objects, client)
        objects.forget()

        claim(objects, client)

    assert (objects.rounds, objects.created, objects.scans) == ([1], [], 0)


def test_of_two_that_come_at_once_one_owns_it(stack: Stack, another: Stack) -> None:
    """On a real store, whose creation is atomic."""
    with ExitStack() as up:
        clients = [up.enter_context(get_client(sync_client=True))]
        with another.settings():
            clients.append(up.enter_context(get_client(sync_client=True)))
        pool = up.enter_context(ThreadPoolExecutor(2))
        for _ in range(5):
            come = partial(refusal_of, stack.s3.objects(prefix=uuid4().hex), Barrier(2))
            refusals = [refusal for refusal in pool.map(come, clients) if refusal]

            assert len(refusals) == 1
            assert refusals[0].owner != refusals[0].here


def test_a_foreign_store_is_not_saved_until_it_is_adopted(
    store: ExecutionStore, another: Stack
) -> None:
    theirs = ExecutionStore.model_validate(store.model_dump())
    with another.settings():
        with pytest.raises(ForeignStore):
            theirs.save("theirs", _sync=True)
        with pytest.raises(StoreNotFound):
            load_store("theirs")

        theirs.adopt()
        theirs.save("theirs", _sync=True)
        load_store("theirs").claim()

    with pytest.raises(ForeignStore):
        store.claim()


def test_gc_lists_and_removes_nothing_of_a_foreign_store_until_it_is_adopted(
    store: ExecutionStore,
    execution: str,
    another: Stack,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("prefect_executions.supervisor.orphans.AGE", timedelta(0))
    before = list(store.objects().scan(""))
    with another.settings():
        save_unchecked(store, name)
        for options in ([], ["--dry-run"], ["--force"]):
            assert gc("--store", name, *options) == 1
            out, err = capsys.readouterr()
            assert (out, execution in err) == ("", False)
            assert "belongs to another Prefect" in err
        assert list(store.objects().scan("")) == before

        assert gc("--store", name, "--adopt") == 0
        assert "nothing was removed" in capsys.readouterr().out
        assert list(store.objects().scan("")) == before
        assert gc("--store", name, "--dry-run", "--json") == 0
        assert execution in capsys.readouterr().out

    assert gc("--store", name) == 1


@pytest.mark.parametrize(
    "start",
    [lambda: serve(host="127.0.0.1", port=0), lambda: supervise(Event())],
    ids=["service", "supervisor"],
)
def test_neither_service_nor_supervisor_starts_on_a_foreign_store(
    store: ExecutionStore,
    another: Stack,
    name: str,
    start: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_EXECUTIONS_STORE", name)
    assert ExecutionsSettings().store == name
    with another.settings():
        save_unchecked(store, name)

        with pytest.raises(ForeignStore):
            start()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"v":2,"prefect":"a"}'], ids=repr)
def test_a_marker_that_is_damaged_or_newer_is_refused(stack: Stack, data: bytes) -> None:
    objects = MemoryObjects()
    objects.create(KEY, data)

    with get_client(sync_client=True) as client, pytest.raises(CorruptEntry, match="owner"):
        claim(objects, client)


def test_a_marker_is_read_for_ever(stack: Stack) -> None:
    """Its bytes, as the first version has written them."""
    objects = MemoryObjects()
    objects.create(KEY, b'{"v":1,"prefect":"0192f0c1-a6b8-7c3d-9e4f-5a6b7c8d9e0f"}')

    with get_client(sync_client=True) as client, pytest.raises(ForeignStore) as refusal:
        claim(objects, client)

    assert refusal.value.owner == "0192f0c1-a6b8-7c3d-9e4f-5a6b7c8d9e0f"
