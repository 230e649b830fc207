"""Hooks of steps are called for calls that run, and not for those that come back."""

from typing import Any

import pytest
from prefect import flow
from prefect.transactions import transaction

from prefect_executions import execution, step
from prefect_executions.testkit import TestKit
from trials import act, ended, made


def hooks(name: str) -> dict[str, Any]:
    """A list with one hook for each event, which says what it was called for."""

    def hook(event: str) -> Any:
        return lambda *_: act(f"{event} {name}")

    return {f"on_{e}": [hook(e)] for e in ("running", "completion", "failure", "commit")}


@step(**hooks("sync"))  # type: ignore[call-overload]
def sync_step(n: int) -> int:
    return n


@step(**hooks("async"))  # type: ignore[call-overload]
async def async_step(n: int) -> int:
    return n


@step(**hooks("keyed"), key="key-{n}")
def keyed_step(n: int) -> int:
    return n


@step(**hooks("failing"))  # type: ignore[call-overload]
def failing_step() -> None:
    if execution.current().attempt == 1:
        raise ValueError


@pytest.mark.parametrize("how", ["called", "submitted", "mapped", "awaited", "keyed"])
def test_a_replayed_call_calls_no_hook(kit: TestKit, how: str) -> None:
    @flow
    @execution(max_retries=1)
    def sync_flow() -> None:
        match how:
            case "called":
                sync_step(1)
            case "keyed":
                keyed_step(1)
                keyed_step(1)
            case "submitted":
                sync_step.submit(1).result()
            case _:
                sync_step.map([1]).result()
        act("end")
        if execution.current().attempt == 1:
            raise RuntimeError

    @flow
    @execution(max_retries=1)
    async def async_flow() -> None:
        await async_step(1)
        act("end")
        if execution.current().attempt == 1:
            raise RuntimeError

    ended(kit.start(async_flow if how == "awaited" else sync_flow))

    name = {"awaited": "async", "keyed": "keyed"}.get(how, "sync")
    assert sorted(made[:3]) == [f"{e} {name}" for e in ("commit", "completion", "running")]
    assert made[3:] == ["end", "end"]


def test_a_call_that_runs_again_calls_its_hooks_again(kit: TestKit) -> None:
    @flow
    @execution(max_retries=1)
    def fails() -> None:
        failing_step()

    ended(kit.start(fails))

    assert made[:3] == ["running failing", "failure failing", "running failing"]
    assert sorted(made[3:]) == ["commit failing", "completion failing"]


def test_a_replayed_call_is_committed_with_the_transaction_around_it(kit: TestKit) -> None:
    """It was not, when the attempt before left the transaction."""

    @flow
    @execution
    def pauses() -> None:
        with transaction():
            sync_step(1)
            execution.current().pause("Look")

    trial = kit.start(pauses)
    assert made == ["running sync", "completion sync"]
    trial.resume()

    ended(trial)
    assert made[2:] == ["commit sync"]
