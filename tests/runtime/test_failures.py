"""The ways in which an attempt fails: each of them uses the retries."""

import asyncio
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flows import Flow
from prefect.states import Cancelled, Completed, Crashed, Failed

from memory import kinds
from prefect_executions import execution, step
from prefect_executions.errors import StateError
from prefect_executions.local import Stack
from prefect_executions.testkit import MemoryStore, TestKit
from stores import Faulty
from trials import ended

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])

TIMEOUT = 6.0  # seconds; on a busy machine an attempt that waits for nothing takes some


def out_of_time(kind: str, seen: list[int], *, last: int, **config: Any) -> Flow[Any, Any]:
    """A flow that takes too long in its attempts before the last one."""

    @flow(timeout_seconds=TIMEOUT)
    @execution(**config)
    def sync_flow() -> str:
        run = execution.current()
        seen.append(run.attempt)
        run.state["seen"] = run.attempt
        run.publish()
        ends = monotonic() + 60
        while run.attempt < last and monotonic() < ends:
            Event().wait(0.02)  # where Prefect's exception arrives
        return run.id

    @flow(timeout_seconds=TIMEOUT)
    @execution(**config)
    async def async_flow() -> str:
        run = execution.current()
        seen.append(run.attempt)
        run.state["seen"] = run.attempt
        run.publish()
        if run.attempt < last:
            await asyncio.Event().wait()
        return run.id

    return sync_flow if kind == "sync" else async_flow


@KINDS
def test_a_flow_out_of_its_time_is_tried_again(kit: TestKit, kind: str) -> None:
    seen: list[int] = []

    trial = ended(kit.start(out_of_time(kind, seen, last=3, max_retries=2)))

    assert seen == [1, 2, 3]
    assert trial.result == trial.id


@pytest.mark.long
@KINDS
def test_a_flow_that_is_always_out_of_its_time_fails_in_the_end(kit: TestKit, kind: str) -> None:
    seen: list[int] = []

    trial = ended(kit.start(out_of_time(kind, seen, last=99, max_retries=1)), "failed")

    assert seen == [1, 2]
    assert isinstance(trial.error, TimeoutError)
    assert trial.state == {"seen": 2}
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(trial.id[5:])).state
    assert state is not None
    assert state.name == "TimedOut"


@pytest.mark.long
@KINDS
def test_without_a_deployment_each_attempt_has_the_whole_time(
    stack: Stack, store: MemoryStore, objects: Faulty, kind: str
) -> None:
    """Where the time is over twice, and where a failure comes before it."""
    seen: list[int] = []
    slow = out_of_time(kind, seen, last=3, max_retries=2, store=store)

    run_id = asyncio.run(slow()) if kind == "async" else slow()

    assert seen == [1, 2, 3]
    assert kinds(objects, run_id).count("retry") == 2


@pytest.mark.long
@KINDS
def test_a_time_out_goes_on_for_no_later_attempt(
    stack: Stack, store: MemoryStore, objects: Faulty, kind: str
) -> None:
    waits = TIMEOUT * 0.6  # twice that is too much for one time-out

    @flow(timeout_seconds=TIMEOUT)
    @execution(max_retries=2, store=store)
    def sync_flow() -> str:
        Event().wait(waits)
        if execution.current().attempt < 3:
            raise RuntimeError("no luck")
        return execution.current().id

    @flow(timeout_seconds=TIMEOUT)
    @execution(max_retries=2, store=store)
    async def async_flow() -> str:
        await asyncio.sleep(waits)
        if execution.current().attempt < 3:
            raise RuntimeError("no luck")
        return execution.current().id

    run_id = asyncio.run(async_flow()) if kind == "async" else sync_flow()

    assert kinds(objects, run_id).count("retry") == 2


@KINDS
def test_what_is_cancelled_before_its_time_is_not_tried_again(kit: TestKit, kind: str) -> None:
    seen: list[int] = []

    @flow(timeout_seconds=600)
    @execution(max_retries=1)
    def sync_flow() -> None:
        seen.append(1)
        raise asyncio.CancelledError

    @flow(timeout_seconds=600)
    @execution(max_retries=1)
    async def async_flow() -> None:
        seen.append(1)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        kit.start(sync_flow if kind == "sync" else async_flow)

    assert seen == [1]


# ---------------------------------------------------------------------- what a flow returns


@step
def fails() -> str:
    raise RuntimeError("no luck")


@step
def works() -> str:
    return "works"


@task
def cannot_be_kept() -> None:
    raise StateError("result", "can't be kept")


FAILED = {
    "future": lambda: fails.submit(),
    "futures": lambda: [works.submit(), fails.submit()],
    "tuple": lambda: (fails.submit(), works.submit()),
    "state": lambda: fails(return_state=True),
    "own": lambda: Failed(message="no luck"),
    "own, of data": lambda: Failed(data=3, message="no luck"),
    "own, named": lambda: Failed(name="Unlucky", data=RuntimeError("no luck")),
    "crashed": lambda: Crashed(message="no luck"),
    "crashed states": lambda: [Completed(), Crashed(message="no luck")],
}

KEPT = {
    "works": lambda: works.submit(),
    "states": lambda: [works(return_state=True), Completed()],
    "in a dict": lambda: {"a": fails(return_state=True)},
    "mixed": lambda: [fails(return_state=True), 1],
    "empty": list,
}


def returning(kind: str, seen: list[int], make: Any, *, until: int = 99) -> Flow[Any, Any]:
    def body() -> Any:
        seen.append(execution.current().attempt)
        return make() if seen[-1] < until else "at last"

    @flow
    @execution(max_retries=1)
    def sync_flow() -> Any:
        return body()

    @flow
    @execution(max_retries=1)
    async def async_flow() -> Any:
        return await asyncio.to_thread(body)

    return sync_flow if kind == "sync" else async_flow


@KINDS
@pytest.mark.parametrize("what", ["futures", "own"])
def test_a_flow_that_returns_what_has_failed_is_tried_again(
    kit: TestKit, what: str, kind: str
) -> None:
    seen: list[int] = []

    trial = ended(kit.start(returning(kind, seen, FAILED[what], until=2)))

    assert seen == [1, 2]
    assert trial.result == "at last"


@pytest.mark.parametrize("what", FAILED)
def test_in_the_end_prefect_makes_of_it_what_it_makes_of_it_elsewhere(
    kit: TestKit, what: str
) -> None:
    seen: list[int] = []

    trial = ended(kit.start(returning("sync", seen, FAILED[what])), "failed")

    assert seen == [1, 2]
    plain: Any = flow(lambda: FAILED[what](), name="plain")
    theirs = plain(return_state=True)
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(trial.id[5:]))
    *_, before, last = sorted(states, key=lambda state: state.timestamp)
    ours = before if theirs.is_crashed() else last  # nothing tries a crash again: it has failed
    assert (ours.type, ours.name, ours.message) == (theirs.type, theirs.name, theirs.message)


@pytest.mark.parametrize("what", KEPT)
def test_what_prefect_takes_for_a_success_is_one(kit: TestKit, what: str) -> None:
    seen: list[int] = []

    ended(kit.start(returning("sync", seen, KEPT[what])))

    assert seen == [1]


@KINDS
def test_a_returned_cancellation_is_not_tried_again(kit: TestKit, kind: str) -> None:
    seen: list[int] = []

    ended(kit.start(returning(kind, seen, lambda: Cancelled(message="enough"))), "terminated")

    assert seen == [1]


def test_a_returned_failure_that_never_mends_is_not_tried_again(kit: TestKit) -> None:
    seen: list[int] = []

    ended(kit.start(returning("sync", seen, lambda: cannot_be_kept(return_state=True))), "failed")

    assert seen == [1]
