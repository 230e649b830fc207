"""The doctor, in a whole installation, and where one thing of it is wrong."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_executions import execution
from prefect_executions.cli import main
from prefect_executions.client.profiles import Profile, find
from prefect_executions.doctor import Finding, Grade, examine
from prefect_executions.doctor.service import check_events
from prefect_executions.local import Stack, free_ports
from prefect_executions.prefect.events import beat_of_supervisor
from prefect_executions.storage.s3 import S3Objects
from rest import KEY
from serving import served
from world import eventually


@flow
@execution
def looked_at(n: int = 0) -> None: ...


@pytest.fixture
def store(stack: Stack, s3: S3Objects, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a store of its own, which the settings name."""
    name = f"doctor-{uuid4().hex[:8]}"
    block = stack.s3.store().model_copy(update={"prefix": s3.prefix})
    block.save(name, _sync=True)
    monkeypatch.setenv("PREFECT_INTEGRATIONS_EXECUTIONS_STORE", name)
    return name


@pytest.fixture
def profile(prefect: SyncPrefectClient, stack: Stack, store: str) -> Iterator[Profile]:
    """A service."""
    with served(prefect, stack.s3.objects(), store=store) as url:
        yield find(url, KEY)


@pytest.fixture
def deployed(stack: Stack) -> str:
    """The work pool of an execution's deployment, which a worker polls."""
    looked_at.to_deployment(
        "default", work_pool_name=stack.pool, entrypoint_type="MODULE_PATH"
    ).apply()
    return stack.pool


@pytest.fixture
def supervised(store: str, stack: Stack) -> None:
    """The heartbeat of a supervisor."""
    beat_of_supervisor(f"{store}.{uuid4().hex}")
    EventsWorker.drain_all(timeout=10)


def one(findings: list[Finding], check: str, where: str = "") -> Finding:
    """The only finding of a check about something."""
    (finding,) = [each for each in findings if each.check == check and where in each.where]
    return finding


def test_in_a_whole_installation_nothing_is_wrong(
    profile: Profile, deployed: str, supervised: None, store: str
) -> None:
    def healthy() -> list[Finding] | None:
        found = examine(profile)
        return found if one(found, "supervisor").grade is Grade.RIGHT else None

    found = eventually(healthy, "the heartbeat is kept")

    # Other tests leave deployments whose pools nobody polls.
    ours = [each for each in found if each.check != "workers" or deployed in each.where]
    assert {each.grade for each in ours} == {Grade.RIGHT}, found
    assert [each.check for each in ours] == [
        *("Prefect", "store", "deployments", "workers", "service", "supervisor", "clocks"),
        "events",
    ]
    assert "3.8.4" in one(found, "Prefect").what
    assert "store" in one(found, "clocks").where
    assert store in one(found, "store").where


def test_without_a_supervisor_it_is_wrong(profile: Profile) -> None:
    finding = one(examine(profile), "supervisor")

    assert finding.grade is Grade.WRONG
    assert "prefect-executions serve" in f"{finding.mend}"


def test_an_event_shows_that_prefect_keeps_some(prefect: SyncPrefectClient) -> None:
    (finding,) = check_events(prefect)

    assert finding.grade is Grade.RIGHT


def test_a_supervisor_of_another_store_is_none(profile: Profile, stack: Stack) -> None:
    other = uuid4().hex[:6]
    beat_of_supervisor(f"{other}.{uuid4().hex}")
    EventsWorker.drain_all(timeout=10)

    def told() -> str | None:
        what = one(examine(profile), "supervisor").what
        return what if other in what else None

    assert "none is alive" in eventually(told, "the heartbeat is kept")


def test_a_pool_without_a_worker_and_one_that_is_paused(
    prefect: SyncPrefectClient, profile: Profile, supervised: None
) -> None:
    pools = [f"{kind}-{uuid4().hex[:6]}" for kind in ("idle", "paused")]
    for pool in pools:
        prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        looked_at.to_deployment(pool, work_pool_name=pool, entrypoint_type="MODULE_PATH").apply()
    prefect.update_work_pool(pools[1], WorkPoolUpdate(is_paused=True))

    found = examine(profile)

    idle, paused = (one(found, "workers", pool) for pool in pools[:2])
    assert (idle.grade, idle.mend) == (Grade.WRONG, f"prefect worker start --pool {pools[0]}")
    assert (paused.grade, paused.mend) == (
        Grade.WRONG,
        f"prefect work-pool resume {pools[1]}",
    )


def test_a_work_queue_that_is_paused_is_named(
    prefect: SyncPrefectClient, profile: Profile, supervised: None
) -> None:
    pool = f"queues-{uuid4().hex[:6]}"
    prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    for name in ("quick", "slow", "unused"):
        queue = prefect.create_work_queue(name, work_pool_name=pool)
        prefect.update_work_queue(queue.id, is_paused=name != "quick")
    for name in ("quick", "slow"):
        looked_at.to_deployment(
            f"{pool}-{name}",
            work_pool_name=pool,
            work_queue_name=name,
            entrypoint_type="MODULE_PATH",
        ).apply()

    found = [each for each in examine(profile) if "work queue" in each.where and pool in each.where]

    assert [(each.grade, each.mend) for each in found] == [
        (Grade.WRONG, f"prefect work-queue resume slow --pool {pool}")
    ]


def test_a_service_that_is_not_there_and_one_that_refuses_the_key(
    prefect: SyncPrefectClient, profile: Profile, store: str, supervised: None
) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)}"

    absent = one(examine(find(nowhere, KEY)), "service")
    refused = one(examine(find(profile.url, "wrong")), "service")

    assert (absent.grade, absent.where) == (Grade.WRONG, nowhere)
    assert "PREFECT_EXECUTIONS_URL" in f"{absent.mend}"
    assert refused.grade is Grade.WRONG
    assert "prefect-executions keys create" in f"{refused.mend}"


def test_what_is_no_prefect_is_said_with_the_address_that_may_be_meant(stack: Stack) -> None:
    pages = stack.ui_url  # the address in the browser, without `/api`
    with temporary_settings({PREFECT_API_URL: pages}):
        found = examine(find("http://127.0.0.1:1", KEY))

    first = one(found, "Prefect")
    assert (first.grade, first.where) == (Grade.WRONG, pages)
    assert first.mend == f"prefect config set PREFECT_API_URL={stack.api_url}"
    assert one(found, "store").grade is Grade.UNKNOWN


def test_a_prefect_that_is_away_is_named_with_its_address() -> None:
    port = free_ports(1)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        finding = one(examine(find("http://127.0.0.1:1", KEY)), "Prefect")

    assert finding.grade is Grade.WRONG
    assert finding.mend == f"prefect server start --port {port}"


def test_a_prefect_that_hangs_is_waited_for_some_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
            finding = one(examine(find("http://127.0.0.1:1", KEY)), "Prefect")

    assert finding.grade is Grade.WRONG
    assert "nothing answers" in finding.what


def test_without_a_server_in_the_settings_that_is_what_is_wrong() -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        finding = one(examine(find("http://127.0.0.1:1", KEY)), "Prefect")

    assert (finding.grade, finding.where) == (Grade.WRONG, "PREFECT_API_URL")


def break_bucket(stack: Stack, fields: dict[str, Any]) -> None:
    fields["bucket"] = "no-such-bucket"


def break_key(stack: Stack, fields: dict[str, Any]) -> None:
    fields["aws_access_key_id"] = "nobody"


def break_secret(stack: Stack, fields: dict[str, Any]) -> None:
    fields["aws_secret_access_key"] = "wrong"


def break_address(stack: Stack, fields: dict[str, Any]) -> None:
    fields["endpoint_url"] = f"http://127.0.0.1:{free_ports(1)}"


@pytest.mark.parametrize(
    ("break_it", "what", "mend"),
    [
        (break_bucket, "NoSuchBucket", "aws s3 mb s3://no-such-bucket"),
        (break_key, "InvalidAccessKeyId", "--credentials-from-environment"),
        (break_secret, "SignatureDoesNotMatch", "--credentials-from-environment"),
        (break_address, "Could not connect", "prefect-executions store create"),
    ],
)
def test_what_is_wrong_with_a_store_is_said_with_the_command_that_mends_it(
    stack: Stack,
    profile: Profile,
    store: str,
    supervised: None,
    break_it: Callable[[Stack, dict[str, Any]], None],
    what: str,
    mend: str,
) -> None:
    save_broken(stack, store, break_it)

    finding = one(examine(profile), "store")

    assert finding.grade is Grade.WRONG
    assert store in finding.where
    assert what in finding.what
    assert mend in f"{finding.mend}"


def save_broken(stack: Stack, name: str, break_it: Callable[[Stack, dict[str, Any]], None]) -> None:
    """Save a store as somebody saves it in the Prefect UI: unchecked."""
    fields: dict[str, Any] = {
        field: getattr(stack.s3.store(), field) for field in type(stack.s3.store()).model_fields
    }
    break_it(stack, fields)
    broken = type(stack.s3.store())(**fields)
    Block.save(broken, name, overwrite=True, _sync=True)


def test_the_command_exits_with_1_and_prints_json(
    stack: Stack,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{tmp_path}")
    monkeypatch.setenv("PREFECT_EXECUTIONS_URL", "http://127.0.0.1:1")

    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["doctor"])
    words = capsys.readouterr().out

    assert ended.value.code == 1
    assert {each["check"] for each in told} >= {"Prefect", "store", "service", "supervisor"}
    assert all(set(each) == {"check", "grade", "where", "what", "mend"} for each in told)
    assert all(each["mend"] for each in told if each["grade"] == "wrong")
    assert "http://127.0.0.1:1: no service answers" in words
    assert "PREFECT_EXECUTIONS_URL" in words
