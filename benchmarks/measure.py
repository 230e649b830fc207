"""How things are measured: alternating with their baseline, and counted at the socket."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from statistics import median
from time import perf_counter, sleep
from typing import Any, TypeVar

import httpx

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.storage.s3 import S3Objects

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One line of the table, of the group of benchmarks that it is a part of.

    Args:
        name: What was measured.
        value: The measured value.
        unit: Its unit.
        baseline: What it is compared with.
        ratio: The value over the baseline's, or None where the value speaks for itself.
        goal: The most that the ratio (or the value) should be.
        group: The group of benchmarks, as named on the command line.
    """

    name: str
    value: float
    unit: str
    baseline: str = ""
    ratio: float | None = None
    goal: float | None = None
    group: str = ""

    @classmethod
    def of(cls, line: dict[str, Any]) -> "Result":
        """One that was written before."""
        return cls(**{name: value for name, value in line.items() if name != "met"})

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return (self.value if self.ratio is None else self.ratio) <= self.goal


def patiently(act: Callable[[], T], times: int = 60) -> T:
    """What `act` returns; it is repeated while Prefect has too much to do (503), every second."""
    for left in reversed(range(times)):
        try:
            return act()
        except PrefectUnavailable:
            if not left:
                raise
        except httpx.HTTPStatusError as error:
            if not left or error.response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        sleep(1)
    raise AssertionError("it is tried once at least")


def alternating(
    one: Callable[[int], object],
    other: Callable[[int], object],
    rounds: int,
    *,
    prepare: Callable[[int], object] = lambda _: None,
) -> tuple[float, float]:
    """The median seconds of two things done in turn, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    for index in range(rounds):
        prepare(index)
        order = ((0, one), (1, other)) if index % 2 else ((1, other), (0, one))
        for which, act in order:
            start = perf_counter()
            act(index)
            times[which].append(perf_counter() - start)
    return median(times[0]), median(times[1])


class Requests:
    """Counts the requests that a store sends, of every kind, repeated ones too."""

    def __init__(self, objects: S3Objects) -> None:
        self.sent: list[str] = []
        objects._client.meta.events.register("before-send.s3", self._count)

    def _count(self, event_name: str = "", **_: object) -> None:
        self.sent.append(event_name.rpartition(".")[2])

    def during(self, act: Callable[[], object]) -> list[str]:
        """What is sent while `act` runs."""
        self.sent.clear()
        act()
        return list(self.sent)


def delay(objects: S3Objects, seconds: float) -> None:
    """Let each request take so much longer, as it does over a network."""
    objects._client.meta.events.register("before-send.s3", lambda **_: sleep(seconds))
