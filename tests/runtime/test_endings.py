"""How a run ends and begins again: failures, retries, time limits, published states."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from time import sleep
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRunPolicy, State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Cancelled, Pending, Scheduled, Suspended

from memory import Count, entries_of, kinds
from prefect_executions import Run, execution
from prefect_executions.errors import (
    CorruptEntry,
    DurationExceeded,
    PrefectUnavailable,
    StateError,
    StoreUnavailable,
)
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.runtime import waiting
from prefect_executions.runtime.interrupts import TaskInterrupt, ThreadInterrupt
from prefect_executions.testkit import MemoryStore
from stores import Fault, Faulty

THREADS = {"execution-heart", "execution-scheduler"}


def both(store: MemoryStore, body: Callable[[Run[Count]], Any], **config: Any) -> dict[str, Any]:
    """The same flow, sync and async."""

    @flow(name="sync")
    @execution(state=Count, store=store, **config)
    def sync_flow() -> Any:
        return body(execution.current(Count))

    @flow(name="async")
    @execution(state=Count, store=store, **config)
    async def async_flow() -> Any:
        return await asyncio.to_thread(body, execution.current(Count))

    return {"sync": sync_flow, "async": async_flow}


def call(flow: Flow[Any, Any]) -> Any:
    return asyncio.run(flow()) if flow.isasync else flow()


def left_by(prefect: SyncPrefectClient, flow: Flow[Any, Any]) -> State[Any]:
    """The state in which a process leaves a deployment's run to other processes."""
    deployment = prefect.create_deployment(prefect.create_flow(flow), "idle")
    run = prefect.create_flow_run_from_deployment(deployment, state=Pending())
    with pytest.raises(Pause):
        run_flow(flow, flow_run=run)
    state = prefect.read_flow_run(run.id).state
    assert state is not None
    return state


def states(prefect: SyncPrefectClient, run_id: str) -> list[State[Any]]:
    found = prefect.read_flow_run_states(UUID(run_id[5:]))
    return sorted(found, key=lambda state: state.timestamp)


def threads_of_runs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in THREADS]


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


# ---------------------------------------------------------------------- retries


@KINDS
@pytest.mark.parametrize("own", [0, 1], ids=["none", "of Prefect"])
def test_one_that_was_paused_before_it_began_is_tried_no_more_often(
    store: MemoryStore, prefect: SyncPrefectClient, kind: str, own: int
) -> None:
    """Prefect does not count its beginning, and would grant it a retry."""
    seen = []

    def body(run: Run[Count]) -> None:
        seen.append(run.attempt)
        raise RuntimeError("no luck")

    flow = both(store, body)[kind].with_options(retries=own)
    deployment = prefect.create_deployment(prefect.create_flow(flow), "idle")
    run = prefect.create_flow_run_from_deployment(deployment)
    prefect.update_flow_run(run.id, empirical_policy=FlowRunPolicy(retries=own, retry_delay=0))
    for state in (Suspended(), Scheduled(name="Resuming"), Pending()):
        prefect.set_flow_run_state(run.id, state, force=state.is_paused())

    ran = run_flow(flow, flow_run=prefect.read_flow_run(run.id), return_type="state")
    ended: State[Any] = asyncio.run(ran) if kind == "async" else ran

    assert ended.is_failed()
    assert seen == [*range(1, own + 2)]


@KINDS
def test_without_a_deployment_the_process_itself_tries_again(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient, kind: str
) -> None:
    seen = []

    def body(run: Run[Count]) -> str:
        seen.append((run.attempt, run.state.n))
        run.state.n += 1
        run.checkpoint()
        run.state.n += 100
        if run.attempt < 3:
            raise RuntimeError("no luck")
        return run.id

    run_id = call(both(store, body, max_retries=2, retry_delay_seconds=0.2)[kind])

    assert seen == [(1, 0), (2, 1), (3, 2)]
    assert kinds(objects, run_id) == [
        *("created", "attempt", "checkpoint", "retry", "attempt", "checkpoint", "retry"),
        *("attempt", "checkpoint", "checkpoint", "result"),
    ]
    newest = entries_of(objects, run_id)[-1]
    assert newest.retries == 2
    history = states(prefect, run_id)
    assert [state.name for state in history] == [
        *("Pending", "Running", "AwaitingRetry", "Running", "AwaitingRetry", "Running"),
        "Completed",
    ]
    assert history[2].message == "Retry 1 of 2 after RuntimeError: no luck"


def test_waiting_for_a_retry_is_no_active_time(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    def body(run: Run[Count]) -> str:
        if run.attempt == 1:
            raise RuntimeError
        return run.id

    run_id = call(both(store, body, max_retries=1, retry_delay_seconds=2)["sync"])

    run = prefect.read_flow_run(UUID(run_id[5:]))
    assert run.start_time is not None
    assert run.end_time is not None
    waited = (run.end_time - run.start_time).total_seconds() - 1.5
    assert run.total_run_time.total_seconds() < waited
    flow_runs = FlowRuns(prefect)
    assert Executions(objects, flow_runs).get(run_id).elapsed_seconds < waited


@KINDS
def test_retries_run_out(stack: Stack, store: MemoryStore, objects: Faulty, kind: str) -> None:
    attempts = []

    def body(run: Run[Count]) -> None:
        attempts.append(run.attempt)
        raise RuntimeError(f"attempt {run.attempt}")

    with pytest.raises(RuntimeError, match="attempt 3"):
        call(both(store, body, max_retries=2)[kind])

    assert attempts == [1, 2, 3]


def test_what_never_mends_is_not_tried_again(stack: Stack, store: MemoryStore) -> None:
    attempts = []

    def body(run: Run[Count]) -> None:
        attempts.append(run.attempt)
        run.state.n = "three"  # type: ignore[assignment]
        run.checkpoint()

    with pytest.raises(StateError):
        call(both(store, body, max_retries=2)["sync"])

    assert attempts == [1]


def test_a_damaged_log_is_not_tried_again(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    attempts = []

    def body(run: Run[Count]) -> None:
        attempts.append(run.attempt)
        raise CorruptEntry("key", "damaged")

    with pytest.raises(CorruptEntry):
        call(both(store, body, max_retries=2)["sync"])

    assert attempts == [1]


def test_a_store_that_was_away_is_tried_again(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    def body(run: Run[Count]) -> str:
        run.state.n += 1
        if run.attempt == 1:
            objects.faults = [Fault.LOST]
        run.checkpoint()
        return run.id

    run_id = call(both(store, body, max_retries=1)["sync"])

    assert entries_of(objects, run_id)[-1].attempt == 2


def test_a_store_that_is_away_for_a_moment_is_waited_for(
    stack: Stack, store: MemoryStore, objects: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process waits when it begins and when it counts a retry, as it can do nothing else."""
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PAUSE", 0.01)
    objects.faults = [Fault.LOST, Fault.LOST]

    def body(run: Run[Count]) -> str:
        if run.attempt == 1:
            objects.faults = [Fault.LOST, Fault.LOST]
            raise RuntimeError
        return run.id

    run_id = call(both(store, body, max_retries=1)["sync"])

    assert kinds(objects, run_id)[:4] == ["created", "attempt", "retry", "attempt"]


def test_a_process_whose_store_stays_away_leaves_the_run_to_the_supervisor(
    stack: Stack,
    store: MemoryStore,
    objects: Faulty,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It can't count a retry, so Prefect and the supervisor see a crash."""
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PATIENCE", 0)
    objects.faults = [Fault.LOST] * 3

    @flow
    @execution(store=store)
    def never() -> None:
        raise AssertionError("it did not begin")

    state = left_by(prefect, never)

    assert state.name == "Crashed"
    assert "connection reset" in (state.message or "")


def test_a_retry_that_a_store_that_is_away_can_t_count_is_left_to_the_supervisor(
    stack: Stack,
    store: MemoryStore,
    objects: Faulty,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PATIENCE", 0)

    @flow
    @execution(store=store, max_retries=1)
    def saves() -> None:
        objects.faults = [Fault.LOST] * 3
        execution.current().state["n"] = 1
        execution.current().checkpoint()

    state = left_by(prefect, saves)

    assert state.name == "Crashed"
    assert "connection reset" in (state.message or "")


def test_a_pause_that_comes_as_a_retry_is_told_to_prefect_stays_a_pause(
    stack: Stack,
    store: MemoryStore,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prefect would let the retry replace the pause."""

    @flow
    @execution(store=store, max_retries=1)
    def fails() -> None:
        raise RuntimeError

    set_state = SyncPrefectClient.set_flow_run_state

    def pause_then_set(client: SyncPrefectClient, id_: UUID, state: Any, **options: Any) -> Any:
        if state.name == "AwaitingRetry":
            set_state(prefect, id_, Suspended(message="wait"), force=True)
        return set_state(client, id_, state, **options)

    monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", pause_then_set)

    state = left_by(prefect, fails)

    assert (state.name, state.message) == ("Suspended", "wait")


def test_a_run_that_waits_in_its_process_outlives_a_prefect_that_is_away(
    stack: Stack,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No other process could continue the run."""
    away: list[bool] = []
    read, run_again = waiting.find_run, waiting._run_again

    def unavailable(*run: Any) -> Any:
        if away:
            away.pop()
            raise PrefectUnavailable("it restarts")
        return read(*run)

    def body(run: Run[Count]) -> int:
        if run.attempt == 1:
            raise RuntimeError
        return run.attempt

    def run_again_without(*run: Any, **options: Any) -> Any:
        away.extend([True] * (3 - len(tries)))
        tries.append(1)
        return run_again(*run, **options)

    set_state = SyncPrefectClient.set_flow_run_state

    def lose_an_answer(client: SyncPrefectClient, id_: UUID, state: Any, **options: Any) -> Any:
        answer = set_state(client, id_, state, **options)
        if state.name == "AwaitingRetry" and not lost:
            lost.append(True)
            raise httpx.ReadError("connection reset")
        return answer

    tries: list[int] = []
    lost: list[bool] = []
    monkeypatch.setattr(waiting, "AWAY_PAUSE", 0.01)
    monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", lose_an_answer)
    monkeypatch.setattr(waiting, "find_run", unavailable)
    monkeypatch.setattr(waiting, "_run_again", run_again_without)

    assert call(both(store, body, max_retries=1)["sync"]) == 2
    assert lost
    assert len(tries) > 3


def test_a_run_that_is_ended_while_it_waits_for_a_retry_stays_ended(
    stack: Stack, store: MemoryStore, prefect: SyncPrefectClient
) -> None:
    ids = []

    def cancel(run_id: UUID) -> None:
        while prefect.read_flow_run(run_id).state.name != "AwaitingRetry":  # type: ignore[union-attr]
            sleep(0.02)
        prefect.set_flow_run_state(run_id, Cancelled(), force=True)

    def body(run: Run[Count]) -> None:
        ids.append(UUID(run.id[5:]))
        threading.Thread(target=cancel, args=ids).start()
        raise RuntimeError

    with pytest.raises(Pause):
        call(both(store, body, max_retries=1, retry_delay_seconds=5)["sync"])

    state = prefect.read_flow_run(ids[0]).state
    assert state is not None
    assert state.name == "Cancelled"


# ---------------------------------------------------------------------- published states


@KINDS
def test_a_published_state_is_saved_while_user_code_blocks_in_c(
    stack: Stack, store: MemoryStore, objects: Faulty, kind: str
) -> None:
    def body(run: Run[Count]) -> str:
        run.state.n = 1
        run.publish()
        run.state.n = 2  # not consistent yet
        head = ExecutionLog(objects, run.id).head
        for _ in range(600):
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 100_000)
            if head().state != b"{}":
                break
        assert head().state == b'{"n":1}'
        return run.id

    run_id = call(both(store, body, checkpoint_interval_seconds=0.2)[kind])

    assert entries_of(objects, run_id)[-2].kind is Kind.CHECKPOINT
    assert ExecutionLog(objects, run_id).head().state == b'{"n":2}'


def test_nothing_is_saved_when_nothing_has_changed(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    def body(run: Run[Count]) -> str:
        run.state.n = 1
        run.checkpoint()
        run.publish()
        sleep(1)
        return run.id

    run_id = call(both(store, body, checkpoint_interval_seconds=0.05)["sync"])

    assert kinds(objects, run_id) == ["created", "attempt", "checkpoint", "result"]


def test_the_threads_end_with_the_run(stack: Stack, store: MemoryStore) -> None:
    during: list[threading.Thread] = []

    def body(run: Run[Count]) -> None:
        run.publish()
        during.extend(threads_of_runs())

    call(both(store, body, checkpoint_interval_seconds=0.05)["sync"])

    assert {thread.name for thread in during} == THREADS
    for thread in threads_of_runs():
        thread.join(60)
    assert not threads_of_runs()


def test_a_run_that_can_t_begin_leaves_no_thread(
    stack: Stack, store: MemoryStore, objects: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PATIENCE", 0)
    objects.faults = [Fault.LOST] * 3

    with pytest.raises(StoreUnavailable):
        call(both(store, lambda _: None)["sync"])

    for thread in threads_of_runs():
        thread.join(60)
    assert not threads_of_runs()


def test_a_timed_checkpoint_that_fails_does_not_disturb(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    def body(run: Run[Count]) -> str:
        objects.faults = [Fault.LOST]
        run.state.n = 1
        run.publish()
        while ExecutionLog(objects, run.id).head().state != b'{"n":1}':
            sleep(0.02)
        return run.id

    run_id = call(both(store, body, checkpoint_interval_seconds=0.1)["sync"])

    assert kinds(objects, run_id) == ["created", "attempt", "checkpoint", "result"]


@KINDS
def test_a_failed_flow_saves_what_it_has_published(
    stack: Stack, store: MemoryStore, objects: Faulty, kind: str
) -> None:
    ids = []

    def body(run: Run[Count]) -> None:
        ids.append(run.id)
        run.state.n = 1
        run.publish()
        run.state.n = 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        call(both(store, body)[kind])

    assert ExecutionLog(objects, ids[0]).head().state == b'{"n":1}'


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize("where", ["main thread", "other thread"])
def test_time_runs_out_in_the_midst_of_python_code(
    stack: Stack, store: MemoryStore, objects: Faulty, where: str
) -> None:
    ids = []

    def body(run: Run[Count]) -> None:
        ids.append(run.id)
        run.state.n = 1
        run.publish()
        while True:
            run.state.n += 1

    def act() -> None:
        with pytest.raises(DurationExceeded, match="max_duration_seconds = 1"):
            call(both(store, body, max_duration_seconds=1, max_retries=3)["sync"])

    if where == "main thread":
        act()
    else:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, act).result()

    assert kinds(objects, ids[0]) == ["created", "attempt", "checkpoint"]
    assert ExecutionLog(objects, ids[0]).head().state == b'{"n":1}'


def test_time_runs_out_while_an_async_flow_awaits(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    ids = []

    @flow
    @execution(state=Count, store=store, max_duration_seconds=3)
    async def waits() -> None:
        run = execution.current(Count)
        ids.append(run.id)
        run.state.n = 1
        run.publish()
        await asyncio.sleep(600)

    with pytest.raises(DurationExceeded):
        asyncio.run(waits())

    assert ExecutionLog(objects, ids[0]).head().state == b'{"n":1}'


@KINDS
def test_time_that_runs_out_as_the_function_begins_ends_it_all_the_same(
    stack: Stack, store: MemoryStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def in_between(interrupt: type[Any]) -> None:
        arm, now = interrupt.arm, interrupt.now

        def late(self: Any) -> None:
            assert asked.wait(20)
            arm(self)

        def tell(self: Any) -> bool:
            try:
                return bool(now(self))
            finally:
                asked.set()

        monkeypatch.setattr(interrupt, "arm", late)
        monkeypatch.setattr(interrupt, "now", tell)

    for interrupt in (ThreadInterrupt, TaskInterrupt):
        in_between(interrupt)
    began: list[int] = []

    with pytest.raises(DurationExceeded):
        call(both(store, lambda run: began.append(run.attempt), max_duration_seconds=2)[kind])

    assert not began


@KINDS
@pytest.mark.parametrize("save", [Run.publish, Run.checkpoint], ids=["publish", "checkpoint"])
def test_time_runs_out_while_the_flow_notices_it_by_itself(
    stack: Stack, store: MemoryStore, objects: Faulty, kind: str, save: Callable[[Run[Any]], Any]
) -> None:
    """The interrupt must not reach the code after the flow's function."""
    create = objects.create

    def slow(key: str, data: bytes) -> None:
        sleep(0.05)
        create(key, data)

    objects.create = slow  # type: ignore[method-assign]

    def body(run: Run[Count]) -> None:
        while True:
            run.state.n += 1
            save(run)
            sleep(0.001)

    for _ in range(3):
        with pytest.raises(DurationExceeded):
            call(both(store, body, max_duration_seconds=0.3)[kind])


def test_time_does_not_run_out_while_a_retry_is_waited_for(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    def body(run: Run[Count]) -> str:
        if run.attempt == 1:
            raise RuntimeError
        return run.id

    run_id = call(
        both(store, body, max_duration_seconds=5, max_retries=1, retry_delay_seconds=6)["sync"]
    )

    assert entries_of(objects, run_id)[-1].attempt == 2


def test_a_pause_is_not_covered_by_a_retry(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    """The pause comes while the process counts its retry."""
    ids = []
    create = objects.create

    def pause_then_create(key: str, data: bytes) -> None:
        if b'"kind":"retry"' in data:
            prefect.set_flow_run_state(ids[0], Suspended(), force=True)
        create(key, data)

    objects.create = pause_then_create  # type: ignore[method-assign]

    def body(run: Run[Count]) -> None:
        ids.append(UUID(run.id[5:]))
        raise RuntimeError

    with pytest.raises(Pause):
        call(both(store, body, max_retries=1)["sync"])

    state = prefect.read_flow_run(ids[0]).state
    assert state is not None
    assert state.name == "Suspended"


def test_what_was_published_is_not_left_behind_by_a_deletion(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    def body(run: Run[Count]) -> None:
        run.state.n = 1
        run.publish()
        log = ExecutionLog(objects, run.id)
        log.delete()
        log.purge()
        prefect.delete_flow_run(UUID(run.id[5:]))
        raise Pause

    with pytest.raises(Pause):
        call(both(store, body)["sync"])

    assert list(objects.scan("")) == []


def test_a_checkpoint_after_the_end_of_time_is_saved_and_ends_the_flow(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    ids = []

    def body(run: Run[Count]) -> None:
        ids.append(run.id)
        ends_late = 0
        while ends_late < 1000:
            try:
                sleep(0.05)
            except BaseException:
                run.state.n = 7
                run.checkpoint(label="late")

    with pytest.raises(DurationExceeded):
        call(both(store, body, max_duration_seconds=3)["sync"])

    assert entries_of(objects, ids[0])[-1].label == "late"


def test_a_setting_out_of_its_limits_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="max_retries"):
        execution(max_retries=-1)
    with pytest.raises(ValueError, match="max_retry"):
        execution(max_retry=1)  # type: ignore[call-overload]
