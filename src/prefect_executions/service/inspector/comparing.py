"""The page that sets executions beside the first of them."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from markupsafe import escape
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.comparing import MOST, compare
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import canonical
from prefect_executions.models import (
    ComparedCheckpoint,
    ComparedStep,
    Comparison,
    Execution,
    ExecutionFilter,
)
from prefect_executions.service.inspector.access import Pages
from prefect_executions.service.inspector.differences import differences
from prefect_executions.service.inspector.rendering import page, pretty

OFFERED = 20  # forks to choose from
STEPS, CHANGES, RESULTS = 25_000, 75_000, 40_000  # bytes of a page that they may take
SHOWN = 20  # places of one difference
_TYPED = 100  # characters of an id that are shown again
_MARKUP = 250  # bytes around a line, about


class _Room:
    """What is left of the room that a part of a page may take.

    Args:
        bytes_: How much there is, with the markup.
    """

    def __init__(self, bytes_: int) -> None:
        self._left = bytes_

    def has(self, *texts: str) -> bool:
        """Whether a line with these texts has room; if so, it takes it."""
        size = _MARKUP + sum(len(escape(text).encode()) for text in texts)
        if size > self._left:
            self._left = 0
            return False
        self._left -= size
        return True

    def part(self, text: str) -> str:
        """As much of a text as there is room for."""
        shown = text
        while len(escape(shown).encode()) > self._left:
            shown = shown[: len(shown) // 2]
        return shown if shown == text else f"{shown}…"


@dataclass(frozen=True)
class Side:
    """The state of another execution at a checkpoint with the same label.

    Args:
        number: Which of the executions, from 1.
        execution_id: The execution.
        checkpoint: The checkpoint.
        changes: What differs from the state of the first execution; None where they are too large.
        left_out: How many more differences there are.
    """

    number: int
    execution_id: str
    checkpoint: str
    changes: list[dict[str, Any]] | None
    left_out: int = 0


@dataclass(frozen=True)
class ComparedLabel:
    """Checkpoints with one label, of which some states differ from the first execution's."""

    label: str
    first: str
    sides: list[Side]


@dataclass(frozen=True)
class Calls:
    """Calls of a step that the same executions have made, with other results or other inputs.

    Args:
        what: `changed` or `only`; see `ComparedStep`.
        step: The name of the step.
        numbers: Which executions have made them, from 1.
        count: How many there are.
    """

    what: str
    step: str
    numbers: list[int]
    count: int


@dataclass(frozen=True)
class Beside:
    """What a page shows of a comparison.

    Args:
        comparison: The comparison.
        results: What of each result has room; None for none.
        steps: Calls of steps that differ.
        more_steps: Whether there are more.
        points: Checkpoints that differ, oldest first.
        same: How many labels there are at which all states are the same.
        more_points: How many labels with differences had no room.
    """

    comparison: Comparison
    results: list[str | None]
    steps: list[Calls]
    more_steps: bool
    points: list[ComparedLabel]
    same: int
    more_points: int


class ComparePages(Pages):
    """The page that compares executions."""

    def compare(self, request: Request) -> Response:
        """The page; with one execution, its origin and its forks are offered."""
        seen = self.seen(request)
        typed = _typed(request)
        ids = list(dict.fromkeys(typed))
        refusal = _refusal(typed, ids)
        wrong: dict[str, str] = {}
        first, shown = None, None
        if not refusal and ids:
            try:
                first = seen.get(ids[0], checkpoints=0, states=False)
                shown = beside(seen, ids) if len(ids) > 1 else None
            except ExecutionNotFound as error:
                first, wrong = None, _missing(seen, ids, error)
        status = HTTPStatus.OK
        if wrong or refusal:
            status = HTTPStatus.NOT_FOUND if wrong else HTTPStatus.UNPROCESSABLE_ENTITY
        return page(
            "compare.html",
            status,
            ids=[id_[:_TYPED] for id_ in ids[:MOST]],
            wrong={id_[:_TYPED]: problem for id_, problem in wrong.items()},
            refusal=refusal,
            most=MOST,
            first=first,
            offered=[each for each in _offered(seen, first) if each[0] not in ids],
            beside=shown,
        )


def _typed(request: Request) -> list[str]:
    """The ids in the address; several may stand in one, between commas or blanks."""
    given = " ".join(request.query_params.getlist("ids"))
    return [canonical(each) for each in re.split(r"[\s,]+", given) if each]


def _refusal(typed: list[str], ids: list[str]) -> str:
    """Why such executions are not compared; "" if nothing is wrong with their number."""
    if len(ids) > MOST:
        return f"{len(ids):,} executions: {MOST} at most are compared at once. Take some out."
    if len(typed) > len(ids) == 1:
        return "Both are the same execution. Give another one."
    return ""


def _missing(seen: Executions, ids: list[str], error: ExecutionNotFound) -> dict[str, str]:
    """What is wrong with each of the ids that lead to no execution."""
    wrong = {error.execution_id: f"{error}"}
    for id_ in ids:
        try:
            seen.run(id_)
        except ExecutionNotFound as missing:
            wrong[id_] = f"{missing}"
    return wrong


def _offered(seen: Executions, first: Execution | None) -> list[tuple[str, str]]:
    if first is None:
        return []
    forks = seen.search(ExecutionFilter(forked_from=first.id), limit=OFFERED).items
    offered = [(fork.id, fork.name) for fork in forks]
    if first.forked_from is not None:
        offered = [(first.forked_from.execution_id, "its origin"), *offered]
    return offered


def beside(seen: Executions, ids: list[str]) -> Beside:
    """Compare executions with the first of them, as far as a page has room.

    Raises:
        ExecutionNotFound: One of them is not there, or not seen.
    """
    comparison = compare(seen, ids, differing=_differing)
    numbers = {each.id: number for number, each in enumerate(comparison.executions, 1)}
    steps, more_steps = _steps(comparison.steps, numbers)
    differing = [each for each in comparison.checkpoints if _differs(each)]
    points = list(_points(differing, numbers))
    return Beside(
        comparison,
        _results(comparison),
        steps,
        more_steps,
        points,
        same=len(comparison.checkpoints) - len(differing),
        more_points=len(differing) - len(points),
    )


def _differing(before: Any, after: Any) -> list[dict[str, Any]]:
    """What differs, as people read it."""
    found = differences(before, after)
    return [{"what": each.what, "told": each.told, "pointer": each.pointer} for each in found]


def _differs(point: ComparedCheckpoint) -> bool:
    return any(patch is None or patch for patch in point.patches.values())


def _results(comparison: Comparison) -> list[str | None]:
    """The results, each as far as there is room."""
    texts = [None if it.result is None else pretty(it.result) for it in comparison.executions]
    each = RESULTS // len(texts)
    return [None if text is None else _Room(each).part(text) for text in texts]


def _steps(steps: list[ComparedStep], numbers: dict[str, int]) -> tuple[list[Calls], bool]:
    """The calls that differ, by step and executions; and whether there are more."""
    counts = Counter((each.what, each.step, tuple(each.ids)) for each in steps)
    room = _Room(STEPS)
    shown = list[Calls]()
    for (what, step, ids), count in counts.items():
        if not room.has(step):
            return shown, True
        shown.append(Calls(what, step, [numbers[id_] for id_ in ids], count))
    return shown, False


def _points(points: list[ComparedCheckpoint], numbers: dict[str, int]) -> Iterator[ComparedLabel]:
    """The checkpoints that differ, until there is no room for another one."""
    room = _Room(CHANGES)
    for point in points:
        first, *others = point.ids
        sides = []
        for id_ in others:
            patch = point.patches[id_]
            if patch == []:
                continue
            if not room.has(point.label, id_):
                return
            changes = [
                change
                for change in (patch or [])[:SHOWN]
                if room.has(change["pointer"], change["told"])
            ]
            left_out = len(patch or []) - len(changes)
            kept = None if patch is None else changes
            sides.append(Side(numbers[id_], id_, point.ids[id_], kept, left_out))
        yield ComparedLabel(point.label, point.ids[first], sides)
