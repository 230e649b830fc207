"""What a user does with an execution, on real servers, with real processes."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.states import Suspended

from prefect_executions.local import Stack
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from world import Answer, World, eventually, is_alive, service


@pytest.mark.journey
def test_create_watch_pause_roll_back_complete(world: World) -> None:
    execution = world.create("counting", to=40)
    assert (execution["status"], execution["prefect"]["runs_on"]) == ("running", "nobody yet")
    running = world.until_saved(execution, 4)
    assert [c["label"] for c in running["checkpoints"]][-3:] == ["n = 3", "n = 2", "n = 1"]
    pid = world.pid(execution)

    world.pause(execution)
    world.until_process_ends(pid)
    paused = world.get(execution)
    earlier = paused["checkpoints"][-2]
    resumed = world.resume(execution, earlier["id"])
    ended = world.until_ended(execution)

    # Prefect's worker leaves its name at the run, and the id of its process.
    assert re.fullmatch(rf"\S.* \(process .*{pid}\)", running["prefect"]["runs_on"])
    assert (paused["status"], paused["prefect"]["runs_on"]) == ("paused", None)
    assert world.pid(execution) != pid
    assert resumed["status"] == "running"
    assert resumed["state"] == earlier["state"] == {"n": 2, "attempts": [1, 1]}
    assert ended["status"] == "completed"
    assert ended["state"] == {"n": 40, "attempts": [1] * 2 + [2] * 38}
    assert ended["completed_at"] is not None


def test_pause_of_a_flow_without_tasks_takes_effect_at_its_next_checkpoint(world: World) -> None:
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    pid = world.pid(execution)

    world.pause(execution)
    assert is_alive(pid)
    world.open_gates(execution, 1, 2)
    world.until_process_ends(pid)

    paused = world.get(execution)
    assert paused["status"] == "paused"
    assert paused["prefect"]["state_name"] == "Suspended"
    assert paused["state"]["n"] == 2  # what it had done is saved


def test_two_processes_one_history(world: World) -> None:
    """An execution that is resumed early has two processes, and the old one can't write."""
    execution = world.create("gated", to=4)
    world.open_gates(execution, 1, 1, 2)
    world.until_saved(execution, 2)
    old = world.pid(execution)

    world.pause(execution)
    world.resume(execution)
    world.until_attempt(execution, 2)
    assert is_alive(old)
    world.open_gates(execution, 2, 3)
    world.until_saved(execution, 3)
    world.open_gates(execution, 1, 3, 4)
    world.until_process_ends(old)
    world.open_gates(execution, 2, 4)
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    assert ended["state"] == {"n": 4, "attempts": [1, 1, 2, 2]}
    entries = world.log(execution)
    fence = next(
        entry.seq for entry in entries if entry.kind is Kind.ATTEMPT and entry.attempt == 2
    )
    assert {entry.attempt for entry in entries[fence:]} == {2}


def test_a_roll_back_under_a_running_process_starts_it_again_from_there(world: World) -> None:
    """Two callers who resume at once can cause this; the run must not be without a process."""
    execution = world.create("gated", to=4)
    world.open_gates(execution, 1, 1, 2)
    world.until_saved(execution, 2)
    first = world.get(execution)["checkpoints"][-1]

    objects = world.stack.s3.objects(prefix="executions")
    ExecutionLog(objects, execution["id"]).rollback(int(first["id"][5:]))
    world.open_gates(execution, 1, 3)
    world.until_attempt(execution, 2)
    world.open_gates(execution, 2, 2, 3, 4)
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    assert ended["state"] == {"n": 4, "attempts": [1, 2, 2, 2]}


@pytest.mark.journey
def test_a_killed_process_loses_nothing_that_was_saved(world: World) -> None:
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1, 2)
    world.until_saved(execution, 2)

    os.kill(world.pid(execution), signal.SIGKILL)
    crashed = world.until_crashed(execution)
    world.resume(execution)
    world.open_gates(execution, 2, 3)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert crashed["status"] == "running"  # a supervisor is to decide about it
    assert crashed["state"]["n"] == 2
    assert ended["state"] == {"n": 3, "attempts": [1, 1, 2]}
    assert [(attempt, n) for attempt, n, _ in world.effects(execution)] == [(1, 1), (1, 2), (2, 3)]


@pytest.mark.journey
def test_pause_in_the_prefect_ui_is_a_pause(world: World) -> None:
    """The UI forces Suspended, with a time-out; the process leaves all the same."""
    execution = world.create("counting", to=1000, seconds=0.05)
    world.until_saved(execution, 2)
    pid = world.pid(execution)

    expires = datetime.now(UTC) + timedelta(seconds=300)
    state = Suspended(pause_expiration_time=expires)
    world.prefect.set_flow_run_state(world.run(execution).id, state, force=True)
    world.until_process_ends(pid)

    assert world.get(execution)["status"] == "paused"
    world.rest.delete(world.path(execution))


def test_an_execution_paused_before_it_starts_never_starts(world: World) -> None:
    execution = world.create("counting", to=3)

    world.pause(execution)

    eventually(lambda: world.run(execution).state.type is StateType.PAUSED, "the run is suspended")
    resumed = world.resume(execution)
    ended = world.until_ended(execution)
    assert resumed["status"] == "running"
    assert ended["state"]["n"] == 3


def test_a_worker_survives_pauses_of_what_it_is_about_to_take(world: World) -> None:
    """Prefect's worker ends when it is told, as it takes a run, that the run is paused."""

    def pause_after(seconds: float) -> Answer:
        execution = world.create("counting", to=1000)
        Event().wait(seconds)  # any time will do: the worker reads what is due once a second

        def pause() -> bool:
            answer = world.rest.post(world.path(execution, "/pause"), timeout=120)
            if answer.status_code == 409:
                assert "just taking it" in answer.json()["detail"]
            return answer.status_code == 202

        eventually(pause, "it is paused")
        return execution

    with ThreadPoolExecutor(3) as pool:
        paused = list(pool.map(pause_after, [n / 5 for n in range(6)]))
    done = world.create("counting", to=1)

    world.until(done, "the worker goes on", lambda e: e["status"] == "completed")
    for execution in paused:  # a process that starts sets Running for a moment
        world.until(execution, "it is paused", lambda e: e["status"] == "paused")
        world.delete(execution)


def test_a_failed_execution_continues_from_its_checkpoint(world: World) -> None:
    execution = world.create("failing", message="no luck")

    failed = world.until_ended(execution)
    world.resume(execution)
    world.until_attempt(execution, 2)
    again = world.until_ended(execution)

    assert failed["status"] == again["status"] == "failed"
    assert again["state"] == {"n": 2, "attempts": [1, 2]}
    assert "no luck" in (world.run(execution).state.message or "")


def test_an_async_flow_is_an_execution_too(world: World) -> None:
    execution = world.create("counting-async", to=5)

    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    assert ended["state"]["n"] == 5
    assert len(ended["checkpoints"]) == 5


def test_a_run_started_in_prefect_is_an_execution(world: World) -> None:
    """A run of the deployment that the UI or a schedule starts is an execution."""
    deployment = world.prefect.read_deployment_by_name("counting/test")
    run = world.prefect.create_flow_run_from_deployment(
        deployment.id, parameters={"to": 2}, name="by hand"
    )
    execution = {"id": f"exec_{run.id.hex}"}

    eventually(lambda: world.rest.get(world.path(execution)).is_success, "the execution is there")
    ended = world.until_ended(execution)

    assert ended["name"] == "by hand"
    assert ended["state"]["n"] == 2


@pytest.mark.journey
def test_a_deleted_execution_is_gone_with_its_process(world: World) -> None:
    execution = world.create("counting", to=1000, seconds=0.05)
    world.until_saved(execution, 3)
    pid = world.pid(execution)

    world.delete(execution)

    world.until_process_ends(pid)
    assert world.rest.get(world.path(execution)).status_code == 404
    assert world.keys(execution) == []
    path = world.path(execution)
    eventually(lambda: world.rest.delete(path).status_code == 204, "the deletion is known")


def test_without_the_store_the_flow_fails_and_nothing_is_lost(world: World) -> None:
    """The service answers 503 with the time of the next try."""
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1, 2)
    world.until_saved(execution, 2)

    world.stack.s3.kill()
    try:
        world.open_gates(execution, 1, 3)
        away = world.rest.get(world.path(execution))
        failed = eventually(
            lambda: (run := world.run(execution)).state.is_final() and run, "the flow fails"
        )
    finally:
        world.stack.s3.start()

    assert away.status_code == 503
    assert away.headers["Retry-After"] == "5"
    assert away.json()["code"] == "store_unavailable"
    assert failed.state.type is StateType.FAILED
    assert "StoreUnavailable" in (failed.state.message or "")
    found = eventually(
        lambda: (seen := world.rest.get(world.path(execution))).status_code == 200 and seen,
        "the service tries the store again",
    )
    assert found.json()["state"]["n"] == 2
    world.resume(execution)
    world.open_gates(execution, 2, 3)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    assert ended["state"] == {"n": 3, "attempts": [1, 1, 2]}


def test_elapsed_seconds_do_not_count_a_pause(world: World) -> None:
    execution = world.create("gated", to=2)
    world.open_gates(execution, 1, 1)
    world.until_saved(execution, 1)
    pid = world.pid(execution)
    world.until(execution, "it has been active", lambda e: e["elapsed_seconds"] > 0)
    world.pause(execution)

    paused = world.get(execution)["elapsed_seconds"]
    world.open_gates(execution, 1, 2)
    world.until_process_ends(pid)
    later = world.get(execution)

    assert later["elapsed_seconds"] == paused > 0
    assert isinstance(paused, int)


def test_the_service_ends_when_its_run_is_cancelled(
    stack: Stack, prefect: SyncPrefectClient
) -> None:
    with service(stack, prefect) as (run, rest):
        stack.run("prefect", "flow-run", "cancel", str(run.id))

        eventually(lambda: prefect.read_flow_run(run.id).state.is_final(), "the service's run ends")
        assert prefect.read_flow_run(run.id).state.name == "Cancelled"
        with pytest.raises(httpx.ConnectError):
            rest.get("/health")
