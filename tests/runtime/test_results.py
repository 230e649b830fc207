"""What a flow returns is the result of its execution."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect import flow, task
from prefect.states import Completed
from pydantic import BaseModel

from prefect_executions import execution
from prefect_executions.errors import StateError
from prefect_executions.log.results import RESULT_BYTES
from prefect_executions.runtime.results import json_of
from prefect_executions.testkit import TestKit


class Report(BaseModel):
    title: str
    at: datetime


@dataclass
class Point:
    x: int


@task
def double(n: int) -> int:
    return 2 * n


AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("returned", "result"),
    [
        (0, 0),
        ("", ""),
        (Report(title="Bees", at=AT), {"title": "Bees", "at": "2026-11-30T12:00:00Z"}),
        ([Point(1), {"ü": (2, None)}], [{"x": 1}, {"ü": [2, None]}]),
    ],
    ids=["falsy", "empty", "model", "nested"],
)
def test_a_result_is_json(returned: Any, result: Any) -> None:
    assert json_of(returned) == result


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (object(), "is no JSON"),
        (float("nan"), "is nan"),
        (iter([1]), "is an iterator"),
        ("x" * RESULT_BYTES, f"at most {RESULT_BYTES}"),
    ],
    ids=["object", "nan", "iterator", "large"],
)
def test_what_is_no_json_is_refused(returned: Any, problem: str) -> None:
    with pytest.raises(StateError, match=problem):
        json_of(returned)


RETURNED: dict[str, tuple[Callable[[], Any], Any]] = {
    "value": (lambda: {"n": 1}, {"n": 1}),
    "future": (lambda: double.submit(2), 4),
    "futures": (lambda: [double.submit(1), double.submit(2)], [2, 4]),
    "state": (lambda: Completed(data=3), 3),
    "nothing": (lambda: None, None),
}


@pytest.mark.parametrize("what", RETURNED)
def test_what_a_flow_returns_is_kept_with_its_log(kit: TestKit, what: str) -> None:
    returned, result = RETURNED[what]

    @flow
    @execution
    def returns() -> Any:
        return returned()

    trial = kit.start(returns)

    assert (trial.status, trial.get().result) == ("completed", result)


def test_a_flow_whose_result_is_no_json_completes_and_says_so(
    kit: TestKit, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    @execution
    def returns() -> object:
        return object()

    with caplog.at_level(logging.WARNING):
        trial = kit.start(returns)

    assert (trial.status, trial.get().result) == ("completed", None)
    assert "What the flow returned is not kept: result: is no JSON" in caplog.text


def test_a_failed_flow_has_no_result_and_one_that_goes_on_has_its_newest(kit: TestKit) -> None:
    @flow
    @execution
    def returns() -> int:
        run = execution.current()
        if run.attempt == 1:
            raise RuntimeError
        return run.attempt

    trial = kit.start(returns)
    assert trial.get().result is None

    trial.resume()

    assert trial.get().result == 2
