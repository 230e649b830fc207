"""Draws the timeline of an execution: attempts as lanes, checkpoints as ticks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import State

from prefect_executions.ids import checkpoint_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.prefect.states import CREATING

WIDTH = 1000.0
LANES = 20  # of the newest attempts
_SKEW = timedelta(seconds=2)  # between the clocks of Prefect and of the writer of the log


@dataclass(frozen=True, slots=True)
class Span:
    """A period: where it begins, how wide it is, and its title."""

    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A checkpoint, and whether it was saved by hand."""

    x: float
    id: str
    title: str
    by_hand: bool


@dataclass(slots=True)
class Lane:
    """One attempt.

    Args:
        attempt: Its number.
        active: When it ran.
        dead: When its process had died, and it was still running in Prefect.
        ticks: Its checkpoints.
    """

    attempt: int
    active: list[Span] = field(default_factory=list)
    dead: list[Span] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A timeline, ready to be drawn.

    Args:
        start: The time at its left edge.
        end: The time at its right edge.
        lanes: The attempts, oldest first.
        paused: When the execution was paused.
    """

    start: datetime
    end: datetime
    lanes: list[Lane]
    paused: list[Span]


def timeline(states: Sequence[State[Any]], entries: Sequence[Entry], now: datetime) -> Drawing:
    """Draw an execution.

    Args:
        states: The states of its flow run, oldest first.
        entries: The newest entries of its log, oldest first.
        now: The current time.
    """
    begins = [entry for entry in entries if entry.kind is Kind.ATTEMPT][-LANES:]
    times = [*(entry.at for entry in begins[:1] or entries[:1])]
    start = min(times or [now])
    is_over = bool(states) and states[-1].is_final()
    last = [states[-1].timestamp] if is_over else [now]
    end = max([*last, *(entry.at for entry in entries), start + timedelta(seconds=1)])
    scale = WIDTH / (end - start).total_seconds()

    def span(since: datetime, until: datetime, title: str) -> Span | None:
        since, until = max(since, start), min(until, end)
        if until <= since:
            return None
        x = (since - start).total_seconds() * scale
        return Span(round(x, 1), round(max((until - since).total_seconds() * scale, 1), 1), title)

    periods = [
        (state, after.timestamp if after else end)
        for state, after in zip(states, [*states[1:], None], strict=True)
    ]
    lanes = {entry.attempt: Lane(entry.attempt) for entry in begins}
    for at, entry in enumerate(begins):
        following = begins[at + 1].at if at + 1 < len(begins) else end + _SKEW
        for state, until in periods:
            is_its = entry.at - _SKEW <= until and state.timestamp < following - _SKEW
            if state.is_running() and is_its:
                since = max(state.timestamp, entry.at - _SKEW)
                version = f" (version {entry.version})" if entry.version else ""
                title = f"attempt {entry.attempt} runs{version}"
                drawn = span(since, min(until, following), title)
                lanes[entry.attempt].active += [drawn] if drawn else []
    dead = 0.0
    for entry in entries:
        lane = lanes.get(entry.attempt)
        if lane is not None and entry.kind is Kind.CHECKPOINT:
            x = round((min(entry.at, end) - start).total_seconds() * scale, 1)
            label = f" {entry.label}" if entry.label else ""
            by = "" if entry.saved_by is None else f", saved by {entry.saved_by}"
            by += f": {entry.reason}" if entry.reason else ""
            title = f"{checkpoint_id(entry.seq)}{label}, {entry.at:%H:%M:%S} UTC{by}"
            lane.ticks.append(Tick(x, checkpoint_id(entry.seq), title, bool(by)))
        # A crash entry has the dead time of its attempt, an attempt entry that of the one before.
        died = lanes.get(entry.attempt - (entry.kind is Kind.ATTEMPT))
        if died is not None and entry.dead_seconds > dead:
            since = entry.at - timedelta(seconds=entry.dead_seconds - dead)
            drawn = span(since, entry.at, "dead, and not yet noticed")
            died.dead += [drawn] if drawn else []
        dead = entry.dead_seconds
    paused = [
        span(state.timestamp, until, "paused")
        for state, until in periods
        if state.is_paused() and state.name != CREATING
    ]
    return Drawing(start, end, [*lanes.values()], [each for each in paused if each])
