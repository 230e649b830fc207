"""Continuing an execution without a deployment in a new process: what goes on, what is refused."""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.states import Failed, Paused, Pending, Running

from prefect_executions import execution, step
from prefect_executions.errors import (
    CheckpointNotFound,
    ExecutionConflict,
    ExecutionNotFound,
    StoreUnavailable,
)
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.states import state_of
from prefect_executions.runtime import alive
from prefect_executions.runtime.way_back import way_back
from prefect_executions.testkit import TestKit

pytestmark = pytest.mark.usefixtures("kit", "home")

done: list[Any] = []  # what the flows have done
ids: list[str] = []


class Death(BaseException):
    """The process dies."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[None]:
    done.clear()
    ids.clear()
    with temporary_settings({PREFECT_HOME: tmp_path / "home"}):
        yield


@pytest.fixture
def prefect(home: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def work(name: str, thing: Any) -> list[int]:
    run = execution.current()
    ids.append(run.id)
    for number in range(len(run.state.get("numbers", [])), 3):
        done.append(number)
        run.state.setdefault("numbers", []).append(number)
        run.checkpoint()
        if done == [0, 1]:
            raise Death(name)
    numbers: list[int] = run.state["numbers"]
    return numbers


@flow
@execution
def counting(name: str = "a", thing: Any = None) -> list[int]:
    return work(name, thing)


@flow
@execution
async def counting_async(name: str = "a", thing: Any = None) -> list[int]:
    return work(name, thing)


@flow
@execution
def other(name: str = "a", thing: Any = None) -> list[int]:
    return [len(done)]


@flow
def plain() -> str:
    return "no execution"


def killed(flow_: Any = counting, **parameters: Any) -> str:
    """Call the flow in a process that dies after its second checkpoint."""
    with pytest.raises(Death):
        asyncio.run(flow_(**parameters)) if flow_.isasync else flow_(**parameters)
    return ids[-1]


def unnoticed(prefect: SyncPrefectClient, id_: str) -> None:
    """As if nobody had noticed that it died: after SIGKILL the run is Running."""
    prefect.set_flow_run_state(flow_run_id(id_), Running(), force=True)


def run_of(prefect: SyncPrefectClient, id_: str) -> FlowRun:
    return prefect.read_flow_run(flow_run_id(id_))


@pytest.mark.parametrize("flow_", [counting, counting_async], ids=["sync", "async"])
@pytest.mark.parametrize("end", ["noticed", "unnoticed", "failed", "paused"])
def test_it_goes_on_behind_its_newest_checkpoint(
    prefect: SyncPrefectClient, flow_: Any, end: str
) -> None:
    """In the same flow run, with the parameters that it was called with."""
    id_ = killed(flow_, name="b")
    if end == "unnoticed":
        unnoticed(prefect, id_)
    elif end != "noticed":
        state: Any = Failed() if end == "failed" else Paused()
        prefect.set_flow_run_state(flow_run_id(id_), state, force=True)

    result = execution.resume(flow_, id_)
    result = asyncio.run(result) if flow_.isasync else result

    assert (result, done, ids) == ([0, 1, 2], [0, 1, 2], [id_, id_])
    run = run_of(prefect, id_)
    assert state_of(run).is_completed()
    assert run.parameters["name"] == "b"


@step(undo=lambda page: done.append(f"undid {page}"))
def publish(page: int) -> int:
    done.append(page)
    return page


@flow
@execution
def publishing(pages: int = 3) -> list[int]:
    run = execution.current()
    ids.append(run.id)
    for page in range(len(run.state.get("pages", [])), pages):
        run.state.setdefault("pages", []).append(publish(page))
        run.checkpoint(label=f"page {page}")
    if ids == [run.id]:
        raise Death
    pages_: list[int] = run.state["pages"]
    return pages_


def points(kit: TestKit, id_: str) -> dict[str, str]:
    """The ids of its checkpoints by their labels."""
    found = kit.executions.get(id_).checkpoints
    return {f"{point.label}": point.id for point in found}


def test_it_goes_back_to_a_checkpoint_and_undoes_what_came_after(kit: TestKit) -> None:
    id_ = killed(publishing)

    result = execution.resume(publishing, id_, checkpoint_id=points(kit, id_)["page 0"])

    assert result == [0, 1, 2]
    assert done == [0, 1, 2, "undid 2", "undid 1", 1, 2]


def test_the_first_checkpoint_is_the_beginning(kit: TestKit) -> None:
    id_ = killed(publishing)

    assert execution.resume(publishing, id_, checkpoint_id="ckpt_000000") == [0, 1, 2]

    assert done == [0, 1, 2, "undid 2", "undid 1", "undid 0", 0, 1, 2]


def test_a_checkpoint_that_is_not_there_changes_nothing(prefect: SyncPrefectClient) -> None:
    id_ = killed()
    before = state_of(run_of(prefect, id_))

    for wrong in ("ckpt_000099", "ckpt_000001", "page 0"):
        with pytest.raises(CheckpointNotFound, match=wrong):
            execution.resume(counting, id_, checkpoint_id=wrong)

    assert state_of(run_of(prefect, id_)).id == before.id
    assert execution.resume(counting, id_) == [0, 1, 2]


def test_where_the_store_fails_as_it_goes_back_it_can_be_tried_again_at_once(
    kit: TestKit, prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = killed(publishing)
    first = points(kit, id_)["page 0"]

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("write", "it is away")

    with monkeypatch.context() as patch:
        patch.setattr(ExecutionLog, "rollback", away)
        with pytest.raises(StoreUnavailable):
            execution.resume(publishing, id_, checkpoint_id=first)
    assert state_of(run_of(prefect, id_)).is_crashed()

    assert execution.resume(publishing, id_, checkpoint_id=first) == [0, 1, 2]


def test_an_id_with_capitals_and_dashes_is_understood() -> None:
    id_ = killed()

    assert execution.resume(counting, f"EXEC_{UUID(id_[5:])}".upper()) == [0, 1, 2]


def test_one_that_is_alive_is_refused() -> None:
    @flow
    @execution
    def living() -> str:
        with pytest.raises(ExecutionConflict, match="is at work on this machine: end it first"):
            execution.resume(living, execution.current().id)
        return "undisturbed"

    assert living() == "undisturbed"


def test_one_that_was_begun_elsewhere_is_refused_while_it_may_be_alive(
    prefect: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last heartbeat tells."""
    id_ = killed()
    unnoticed(prefect, id_)

    with temporary_settings({PREFECT_HOME: tmp_path / "another machine"}):
        with pytest.raises(ExecutionConflict, match=r"another machine.*try again in \d+ s"):
            execution.resume(counting, id_)
        assert done == [0, 1]
        monkeypatch.setattr(
            "prefect_executions.runtime.resuming.last_sign",
            lambda *_: datetime.now(UTC) - timedelta(seconds=36),
        )

        assert execution.resume(counting, id_) == [0, 1, 2]


def test_one_that_another_process_has_taken_since_may_be_alive(prefect: SyncPrefectClient) -> None:
    """The process that began it here has ended; another one is not known here."""
    id_ = killed()
    prefect.set_flow_run_state(flow_run_id(id_), Pending(), force=True)
    unnoticed(prefect, id_)

    with pytest.raises(ExecutionConflict, match="has given a sign of life"):
        execution.resume(counting, id_)


def test_what_is_not_to_be_continued_here_is_refused(
    kit: TestKit, prefect: SyncPrefectClient
) -> None:
    def refused(flow_: Any, id_: str, why: str) -> None:
        before = state_of(run_of(prefect, id_))
        with pytest.raises(ExecutionConflict, match=why):
            execution.resume(flow_, id_)
        assert state_of(run_of(prefect, id_)).id == before.id

    id_ = killed()
    refused(other, id_, "one of the flow 'counting', not of 'other'")
    assert execution.resume(counting, id_) == [0, 1, 2]
    refused(counting, id_, "it is completed. It has its result")
    deployed = kit.start(other)
    refused(other, deployed.id, f"A worker runs it: `prefect-executions resume {deployed.id}`")
    state = plain(return_state=True)
    refused(plain, execution_id(state.state_details.flow_run_id), "not decorated")
    with pytest.raises(ExecutionNotFound):
        execution.resume(counting, execution_id(uuid4()))


def test_parameters_that_prefect_could_not_keep_are_told() -> None:
    """They would be other ones: Prefect keeps a text in their place."""
    id_ = killed(thing=object())

    with pytest.raises(ExecutionConflict, match="could not keep its parameters thing"):
        execution.resume(counting, id_)


def test_a_text_that_looks_like_that_is_one() -> None:
    assert execution.resume(counting, killed(name="<b>")) == [0, 1, 2]


def test_a_child_goes_on_with_what_it_was_called_in(prefect: SyncPrefectClient) -> None:
    @flow
    @execution
    def around() -> list[int]:
        return counting()

    with pytest.raises(Death):
        around()
    (child,) = ids

    with pytest.raises(ExecutionConflict, match="It was called in exec_"):
        execution.resume(counting, child)


def test_old_files_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "executions-running"
    folder.mkdir(parents=True)
    state_id = uuid4()
    for name in ("old", "alive", "young"):
        release = alive.hold(name, state_id.hex)
        if name != "alive":
            release()
        if name != "young":
            os.utime(folder / name, (0, time.time() - 8 * 24 * 3600))
    alive._remove_old.cache_clear()

    alive.hold("next", state_id.hex)()

    assert {file.name for file in folder.iterdir()} == {"alive", "young", "next"}
    assert alive.is_held("alive")
    assert alive.ended_here("alive") is None
    assert alive.ended_here("young") == state_id
    assert alive.ended_here("unknown") is None


def test_where_nothing_can_be_written_it_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "home").touch()

    assert other() == [0]


def test_the_way_back_names_the_file_and_the_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(__file__)
    monkeypatch.chdir(file.parent)
    assert way_back(counting, "exec_1") == (
        "prefect-executions run test_resuming.py:counting --resume exec_1"
    )
    monkeypatch.chdir(tmp_path)
    assert way_back(counting, "exec_1") == (
        f"prefect-executions run {file.resolve()}:counting --resume exec_1"
    )

    @flow
    def within() -> None: ...

    assert way_back(within, "exec_1") is None
    assert way_back(None, "exec_1") is None
