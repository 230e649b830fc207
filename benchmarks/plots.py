"""Draw what was measured: `docs/images/scaling.svg` and `growth.svg`."""

import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import Result

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def draw(results: Iterable[Result]) -> None:
    """Draw what many executions and checkpoints cost, and what large journals and states do."""
    mpl.rcParams["svg.hashsalt"] = "prefect-executions"  # the same picture for the same numbers
    found = list(results)
    _draw_scaling(found)
    _draw_growth(found)


def _draw_scaling(measured: list[Result]) -> None:
    """Three panels: the time and the bytes behind many checkpoints, the time among many."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    time, size, many = figure.subplots(1, 3)
    _panel(time, measured, ["checkpoint behind", "load behind"], 1e3, "checkpoints", "ms")
    _panel(size, measured, ["stored_bytes behind"], 1, "checkpoints", "bytes each")
    names = ["create among", "get among"]
    _panel(many, measured, names, 1e3, "executions", "ms")
    figure.savefig(IMAGES / "scaling.svg", metadata={"Date": None})


def _draw_growth(measured: list[Result]) -> None:
    """Four panels: processor time and bytes of a step, reading all, and a change of a state."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    time, size, replay, change = figure.subplots(1, 4)
    _panel(time, measured, ["step_cpu of"], 1e3, "records of 10 kB", "ms of CPU")
    _panel(size, measured, ["step_bytes of"], 1, "records of 10 kB", "bytes each")
    _panel(replay, measured, ["replay of"], 1, "steps of 10 kB", "s of CPU")
    _panel(change, measured, ["state_change_cpu of"], 1e3, "MB of state", "ms of CPU")
    figure.savefig(IMAGES / "growth.svg", metadata={"Date": None})


def _panel(
    axes: Axes, results: list[Result], names: list[str], scale: float, along: str, unit: str
) -> None:
    for name in names:
        points = [
            (int(found[1].replace(",", "")), result.value * scale)
            for result in results
            if (found := re.fullmatch(rf"{name} ([\d,]+)( \w+)?", result.name))
        ]
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name.rpartition(" ")[0])
    axes.set(xscale="log", xlabel=along, ylabel=unit)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
