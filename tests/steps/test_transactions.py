"""What Prefect's transactions roll back is undone in the log; a pause rolls no step back."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from inspect import isawaitable
from typing import Any

import pytest
from prefect import flow, task
from prefect.context import FlowRunContext
from prefect.states import Suspended
from prefect.transactions import CommitMode, atransaction, get_transaction, transaction
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.log.journal import Outcome
from prefect_executions.testkit import TestKit, Trial
from stores import Fault, Faulty
from trials import act, ended, journal, made, plain


class Answer(BaseModel):
    go_on: bool


@step
def reserve(seat: int) -> int:
    act(f"reserve {seat}")
    return seat


@reserve.on_rollback
def release(_: object) -> None:
    act("release")


@step
async def reserve_later(seat: int) -> int:
    act(f"reserve {seat}")
    return seat


@reserve_later.on_rollback
async def release_later(_: object) -> None:
    act("release")


class Both:
    """A transaction that is sync or async, in a flow of either kind."""

    def __init__(self, kind: str) -> None:
        self.is_async = kind == "async"

    def __call__(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        if self.is_async:
            return atransaction(**options)
        return _Sync(transaction(**options))


class _Sync(AbstractAsyncContextManager[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __aenter__(self) -> Any:
        return self.inner.__enter__()

    async def __aexit__(self, *exc_info: Any) -> Any:
        return self.inner.__exit__(*exc_info)


Body = Callable[[Any, Callable[[int], Awaitable[int]]], Awaitable[Any]]


def start(kit: TestKit, kind: str, body: Body, **config: Any) -> Trial:
    """Start a flow of this body, which gets a transaction and a step with a hook."""
    begin = Both(kind)

    async def call(seat: int) -> int:
        result: Any = reserve(seat) if kind == "sync" else reserve_later(seat)
        return await result if isawaitable(result) else result  # type: ignore[no-any-return]

    @flow
    @execution(**config)
    def sync_flow() -> Any:
        running = body(begin, call)  # never waits for anything
        try:
            running.__await__().send(None)  # type: ignore[attr-defined]
        except StopIteration as returned:
            return returned.value
        raise AssertionError("a sync flow has awaited something")

    @flow
    @execution(**config)
    async def async_flow() -> Any:
        return await body(begin, call)

    return kit.start(sync_flow if kind == "sync" else async_flow)


async def asked(kind: str) -> None:
    run = execution.current()
    if kind == "sync":
        run.ask(Answer, prompt="Book it?")
    else:
        await run.aask(Answer, prompt="Book it?")


def suspend(kit: TestKit) -> None:
    """Suspend the run that this code runs in, as a person does in the UI."""
    context: Any = FlowRunContext.get()
    kit._client.set_flow_run_state(context.flow_run.id, Suspended(), force=True)
    state: Any = kit._client.read_flow_run(context.flow_run.id).state
    context.flow_run_suspension_request.mark_requested(state)


def states(kit: TestKit, trial: Trial) -> list[Outcome]:
    return [record.outcome for record in journal(kit, trial) if "reserve" in record.step]


def again() -> bool:
    return execution.current().attempt > 1


KINDS = pytest.mark.parametrize("kind", ["sync", "async", "mixed"])


@KINDS
def test_a_question_rolls_no_step_back(kit: TestKit, kind: str) -> None:
    async def body(begin: Any, reserving: Any) -> int:
        async with begin(), begin():
            seat: int = await reserving(7)
            await asked(kind)
            return seat

    trial = start(kit, kind, body)
    assert made == ["reserve 7"]
    trial.resume(input={"go_on": True})

    assert ended(trial).result == 7
    assert made == ["reserve 7"]


@KINDS
def test_what_a_failure_rolls_back_runs_again(kit: TestKit, kind: str) -> None:
    async def body(begin: Any, reserving: Any) -> None:
        plain(0)
        async with begin(), begin():
            plain(1)  # no hook: nothing is undone, so it is not paid for again
            await reserving(7)
            if not again():
                raise RuntimeError

    trial = start(kit, kind, body, max_retries=1)

    ended(trial)
    assert made == ["plain 0", "plain 1", "reserve 7", "release", "reserve 7"]
    assert states(kit, trial) == [Outcome.DONE, Outcome.UNDONE]


@KINDS
def test_what_was_replayed_is_rolled_back_too(kit: TestKit, kind: str) -> None:
    async def body(begin: Any, reserving: Any) -> None:
        async with begin():
            await reserving(7)
            if execution.current().attempt == 2:
                raise RuntimeError
        if not again():
            raise RuntimeError

    ended(start(kit, kind, body, max_retries=2))

    assert made == ["reserve 7", "release", "reserve 7"]


@KINDS
def test_a_transaction_that_is_tried_again_in_the_flow_reserves_anew(
    kit: TestKit, kind: str
) -> None:
    async def body(begin: Any, reserving: Any) -> None:
        for n in range(2):
            try:
                async with begin():
                    await reserving(7)
                    if n == 0:
                        raise ValueError
            except ValueError:
                act("caught")

    ended(start(kit, kind, body))

    assert made == ["reserve 7", "release", "caught", "reserve 7"]


def test_a_keyed_step_that_was_rolled_back_runs_again_in_the_same_attempt(kit: TestKit) -> None:
    keyed = reserve.with_options(name="keyed", key="seat-{seat}")

    @flow
    @execution
    def books() -> None:
        for n in range(2):
            try:
                with transaction():
                    keyed(7)
                    keyed(7)  # replayed: undone once all the same
                    if n == 0:
                        raise ValueError
            except ValueError:
                act("caught")

    ended(kit.start(books))

    assert made == ["reserve 7", "release", "caught", "reserve 7"]


@pytest.mark.parametrize("leaves", ["fails", "asks"])
def test_steps_called_by_a_step_that_does_not_return(kit: TestKit, leaves: str) -> None:
    """A task is a transaction around the tasks that it calls."""

    @step
    def outer() -> int:
        seat = reserve(7)
        if leaves == "asks":
            execution.current().ask(Answer, prompt="?")
        elif not again():
            raise RuntimeError
        return seat

    @flow
    @execution(max_retries=1)
    def books() -> int:
        return outer()

    trial = kit.start(books)
    if leaves == "asks":
        trial.resume(input={"go_on": True})

    assert ended(trial).result == 7
    assert made == (["reserve 7"] if leaves == "asks" else ["reserve 7", "release", "reserve 7"])


def test_submitted_steps_are_rolled_back(kit: TestKit) -> None:
    @flow
    @execution(max_retries=1)
    def books() -> list[int]:
        with transaction():
            seats = [future.result() for future in [reserve.submit(n) for n in (1, 1)]]
            if not again():
                raise RuntimeError
            return seats

    trial = kit.start(books)

    assert ended(trial).result == [1, 1]
    assert made == ["reserve 1"] * 2 + ["release"] * 2 + ["reserve 1"] * 2


def test_a_pause_from_outside_that_prefect_notices_rolls_no_step_back(kit: TestKit) -> None:
    @task
    def noop() -> None:
        pass

    @flow
    @execution
    def books() -> None:
        with transaction():
            reserve(7)
            if not again():
                suspend(kit)
            noop()

    trial = kit.start(books)
    assert (trial.status, made) == ("paused", ["reserve 7"])
    trial.resume()

    ended(trial)
    assert made == ["reserve 7"]


@pytest.mark.parametrize("leaves", ["fails", "pauses"])
def test_hooks_of_the_transaction_itself_undo_its_steps(kit: TestKit, leaves: str) -> None:
    """Prefect calls them at a pause too; so the steps in it are undone, and run again."""

    @flow
    @execution(max_retries=1)
    def books() -> None:
        with transaction() as txn:
            txn.stage(None, on_rollback_hooks=[lambda _: act("all off")])
            with transaction():
                plain(1)
                reserve(7)
            if not again():
                if leaves == "fails":
                    raise RuntimeError
                suspend(kit)
                execution.current().checkpoint()

    trial = kit.start(books)
    if leaves == "pauses":
        trial.resume()

    ended(trial)
    assert made == ["plain 1", "reserve 7", "all off", "release", "plain 1", "reserve 7"]


def test_a_hook_that_raises_leaves_the_step_to_run_again(kit: TestKit) -> None:
    broken = reserve.with_options(name="reserve broken")

    @broken.on_rollback
    def breaks(_: object) -> None:
        raise RuntimeError("no release")

    @flow
    @execution(max_retries=1)
    def books() -> None:
        with transaction():
            reserve(1)
            broken(7)
            if not again():
                raise ValueError

    ended(kit.start(books))

    assert made == ["reserve 1", "reserve 7", "release", "reserve 1", "reserve 7"]


@pytest.mark.parametrize("durability", ["sync", "exit"])
def test_a_crash_between_record_and_hook_runs_the_step_again(kit: TestKit, durability: Any) -> None:
    """The record comes first: what was not released is reserved once more, never the other way."""
    stack = ExitStack()

    @flow
    @execution(durability=durability)
    def books() -> int:
        with transaction():
            seat = reserve(7)
            if not again():
                stack.enter_context(kit.crash_after(1))
                raise RuntimeError
            return seat

    with stack:
        trial = kit.start(books)
    assert made == ["reserve 7"]
    trial.resume()

    assert ended(trial).result == 7
    assert made == ["reserve 7", "reserve 7"]


def test_without_a_record_no_hook_is_called(faulty_kit: TestKit, faulty: Faulty) -> None:
    @flow
    @execution
    def books() -> None:
        with transaction():
            reserve(7)
            faulty.faults = [Fault.LOST]
            raise RuntimeError("own")

    trial = faulty_kit.start(books)

    assert "own" in str(trial.error)
    assert made == ["reserve 7"]


def test_what_was_committed_at_once_is_not_undone(kit: TestKit) -> None:
    @flow
    @execution(max_retries=1)
    def books() -> None:
        with transaction(commit_mode=CommitMode.EAGER):
            reserve(7)
            if not again():
                raise RuntimeError

    ended(kit.start(books))

    assert made == ["reserve 7"]


def test_a_step_sees_the_transaction_that_it_is_called_in(kit: TestKit) -> None:
    @step
    def holds() -> str:
        txn = get_transaction()
        assert txn is not None
        return str(txn.get("who"))

    @flow
    @execution
    def books() -> str:
        with transaction() as txn:
            txn.set("who", "me")
            return holds()

    assert ended(kit.start(books)).result == "me"
