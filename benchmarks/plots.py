"""Draw what `scaling` has measured: `docs/images/scaling.svg`."""

import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import Result

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "scaling.svg"


def draw(results: Iterable[Result]) -> None:
    """Draw three panels: the time and the bytes behind many checkpoints, the time among many."""
    mpl.rcParams["svg.hashsalt"] = "prefect-executions"  # the same picture for the same numbers
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    time, size, many = figure.subplots(1, 3)
    measured = list(results)
    _panel(time, measured, ["checkpoint behind", "load behind"], 1e3, "checkpoints", "ms")
    _panel(size, measured, ["stored_bytes behind"], 1, "checkpoints", "bytes each")
    names = ["create among", "get among", "supervisor look among"]
    _panel(many, measured, names, 1e3, "executions", "ms")
    figure.savefig(IMAGE, metadata={"Date": None})


def _panel(
    axes: Axes, results: list[Result], names: list[str], scale: float, along: str, unit: str
) -> None:
    for name in names:
        points = [
            (int(found[1].replace(",", "")), result.value * scale)
            for result in results
            if (found := re.fullmatch(rf"{name} ([\d,]+)", result.name))
        ]
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name.rpartition(" ")[0])
    axes.set(xscale="log", xlabel=along, ylabel=unit)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
