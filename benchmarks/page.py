"""Write `docs/benchmarks.md` from `results.json`: every figure, its goal, and why one is missed."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measure import Result
from benchmarks.reasons import REASONS

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

GROUPS = {
    "log": "The log",
    "steps": "Steps",
    "callers": "The caller's thread",
    "service": "The service",
    "scaling": "Many executions, and many checkpoints",
    "agents": "LangGraph's checkpointers",
    "starts": "Starts",
    "timetravel": "Time travel",
    "pages": "The inspector's pages",
}

_HEAD = """\
# Benchmarks

Written by `make bench` from [results.json](../benchmarks/results.json). Do not edit it by hand.

All servers ran on one small machine with two cores, so read ratios and counts, not times. A ratio
is against the baseline in the same run, measured in turn with it. What the figures mean for an
installation is in [scaling](scaling.md).

Python {python}, {versions}, {server}.

{summary} Where one is missed, the reason stands below the table.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


def page(document: dict[str, Any]) -> str:
    """The page of a document of results."""
    results = [Result.of(line) for line in document["results"]]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    parts = [
        _HEAD.format(
            python=document["python"],
            versions=versions,
            server=document["server"],
            summary=_summary(results, document["missing"]),
        )
    ]
    order = [*GROUPS]
    results.sort(key=lambda result: order.index(result.group))
    for group, found in groupby(results, key=lambda result: result.group):
        parts.append("\n".join(_section(GROUPS[group], [*found])))
    return "\n".join(parts)


def _summary(results: list[Result], missing: list[str]) -> str:
    judged = [result for result in results if result.met is not None]
    met = sum(bool(result.met) for result in judged)
    told = f"Of {len(judged)} goals {met} are met."
    return f"{told} Not measured: {', '.join(missing)}." if missing else told


def _section(title: str, results: list[Result]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| | value | compared with | ratio | goal | |"
    yield "|---|---|---|---|---|---|"
    for result in results:
        mark = {True: "met", False: "**missed**", None: ""}[result.met]
        ratio = "" if result.ratio is None else f"{result.ratio:.3g}"
        goal = "" if result.goal is None else f"≤ {result.goal:.3g}"
        cells = (result.name, _value(result), result.baseline, ratio, goal, mark)
        yield f"| {' | '.join(cells)} |"
    yield ""
    missed = {result.name for result in results if result.met is False}
    if missed:
        yield from (f"- *{name}*: {why}" for name, why in REASONS.items() if name in missed)
        yield ""


def _value(result: Result) -> str:
    if result.unit == "s":
        return f"{result.value * 1e3:,.3g} ms" if result.value < 1 else f"{result.value:,.3g} s"
    number = f"{result.value:,.0f}" if result.value >= 100 else f"{result.value:,.3g}"
    return f"{number} {result.unit}"


if __name__ == "__main__":
    main()
