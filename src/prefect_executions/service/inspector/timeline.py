"""The timeline of an execution: attempts as lanes, in which the times without any are short."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from prefect.client.schemas.objects import State
from rich.filesize import decimal

from prefect_executions.ids import checkpoint_id
from prefect_executions.log.entry import FENCES, Entry, Kind
from prefect_executions.prefect.run_page import duration
from prefect_executions.prefect.states import CREATING

WIDTH = 1000.0
LANES = 20  # of the newest attempts
SHORT = 64.0  # the width of a long time in which nothing runs
TICKS = 60  # of a lane; where there are more, they are drawn as a density
_BIN = 10.0  # the width of a bar of the density
_SKEW = timedelta(seconds=2)  # between the clocks of Prefect and of the writer of the log
_SIGNAL = re.compile(r"\bSIG[A-Z]+\b")

Period = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Span:
    """A period: where it begins, how wide it is, its title, and how long it is."""

    x: float
    width: float
    title: str
    length: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A checkpoint, or several of them beside each other.

    Args:
        x: Where it is.
        id: The checkpoint, or the newest of them.
        title: What people read of it.
        by_hand: Whether somebody has saved it by hand.
        share: Of several: how many they are, as a share of the most; 0 for a single one.
    """

    x: float
    id: str
    title: str
    by_hand: bool = False
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A crash: where it is, its signal or another word, and what happened."""

    x: float
    label: str
    title: str


@dataclass(slots=True)
class Lane:
    """One attempt.

    Args:
        attempt: Its number.
        waiting: When it waited for a process to begin it.
        active: When it ran.
        dead: When its process had died, and it was still running in Prefect.
        ticks: Its checkpoints.
        crashes: How it ended, if it crashed.
    """

    attempt: int
    waiting: list[Span] = field(default_factory=list)
    active: list[Span] = field(default_factory=list)
    dead: list[Span] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    crashes: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A roll-back, from one lane to another: their places among the lanes, and where in them."""

    x: float
    lane: int
    to_x: float
    to_lane: int
    title: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A timeline, ready to be drawn.

    Args:
        start: The time at its left edge.
        end: The time at its right edge.
        lanes: The attempts, oldest first.
        paused: When the execution was paused.
        arrows: Its roll-backs.
        told: All of it as lines of text, oldest first.
    """

    start: datetime
    end: datetime
    lanes: list[Lane]
    paused: list[Span]
    arrows: list[Arrow]
    told: list[str]


class _Scale:
    """Where times are on the line: what is active in proportion, long times between it short."""

    def __init__(self, start: datetime, end: datetime, active: Iterable[Period]) -> None:
        self.start, self.end = start, end
        cuts, is_active = [start], list[bool]()
        for since, until in _merged(active):
            if since > cuts[-1]:
                cuts.append(since)
                is_active.append(False)
            if until > cuts[-1]:
                cuts.append(until)
                is_active.append(True)
        if end > cuts[-1]:
            cuts.append(end)
            is_active.append(False)
        lengths = [(after - before).total_seconds() for before, after in pairwise(cuts)]
        widths = _widths(lengths, is_active)
        self._at, self._x = cuts, [0.0]
        for width in widths:
            self._x.append(self._x[-1] + width)

    def x(self, at: datetime) -> float:
        """Where a time is."""
        at = min(max(at, self.start), self.end)
        place = min(bisect_right(self._at, at), len(self._at) - 1)
        before, after = self._at[place - 1], self._at[place]
        share = (at - before) / (after - before)
        return round(self._x[place - 1] + share * (self._x[place] - self._x[place - 1]), 1)

    def span(self, since: datetime, until: datetime, title: str) -> list[Span]:
        """A period, as far as it is on the line; none where it is not."""
        since, until = max(since, self.start), min(until, self.end)
        if until <= since:
            return []
        x, length = self.x(since), duration((until - since).total_seconds())
        return [Span(x, round(max(self.x(until) - x, 1), 1), f"{title}, {length}", length)]


def _widths(lengths: list[float], is_active: list[bool]) -> list[float]:
    """How wide each stretch is drawn, of `WIDTH` in all."""
    total = sum(lengths)
    if not any(is_active):
        return [length / total * WIDTH for length in lengths]
    idle = sum(not each for each in is_active)
    short = min(SHORT, WIDTH / 2 / max(idle, 1))
    fixed = [
        0.0 if active else min(length / total * WIDTH, short)
        for length, active in zip(lengths, is_active, strict=True)
    ]
    ran = sum(length for length, active in zip(lengths, is_active, strict=True) if active)
    room = WIDTH - sum(fixed)
    return [
        length / ran * room if active else width
        for length, active, width in zip(lengths, is_active, fixed, strict=True)
    ]


def _merged(periods: Iterable[Period]) -> list[Period]:
    """Periods without those that touch each other, in their order."""
    found: list[Period] = []
    for since, until in sorted(periods):
        if found and since <= found[-1][1]:
            found[-1] = (found[-1][0], max(until, found[-1][1]))
        else:
            found.append((since, until))
    return found


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
    periods = [
        (state, after.timestamp if after else end)
        for state, after in zip(states, [*states[1:], None], strict=True)
    ]
    ran = _ran(periods, begins, entries)
    scale = _Scale(start, end, [period for each in ran.values() for period in each])
    lanes = {entry.attempt: Lane(entry.attempt) for entry in begins}
    for entry in begins:
        version = f" (version {entry.version})" if entry.version else ""
        for since, until in ran[entry.attempt]:
            lanes[entry.attempt].active += scale.span(
                since, until, f"attempt {entry.attempt} runs{version}"
            )
    _add_waiting(lanes, periods, begins, scale)
    _add_deaths(lanes, entries, scale)
    _add_ticks(lanes, entries, scale)
    paused = [
        span
        for state, until in periods
        if state.is_paused() and state.name != CREATING
        for span in scale.span(state.timestamp, until, "paused")
    ]
    arrows = _arrows([*lanes.values()], entries, scale)
    told = _told(lanes, entries, ran, periods)
    return Drawing(start, end, [*lanes.values()], paused, arrows, told)


def _ran(
    periods: Sequence[tuple[State[Any], datetime]],
    begins: Sequence[Entry],
    entries: Sequence[Entry],
) -> dict[int, list[Period]]:
    """When each attempt ran: each time of Running belongs to those that began in it.

    Where none did, it belongs to the one before, unless that had ended: then nothing ran.
    """
    ran: dict[int, list[Period]] = {entry.attempt: [] for entry in begins}
    fences = [entry for entry in entries if entry.kind in FENCES]
    for state, until in periods:
        if not state.is_running():
            continue
        since = state.timestamp
        own = [entry for entry in begins if since - _SKEW <= entry.at < until]
        before = [entry for entry in begins if entry.at < since - _SKEW]
        if not own and before:
            latest = before[-1]
            if not any(latest.at < fence.at < since for fence in fences):
                ran[latest.attempt].append((since, until))
            continue
        for place, entry in enumerate(own):
            following = own[place + 1].at if place + 1 < len(own) else until
            ran[entry.attempt].append((since if place == 0 else entry.at, following))
    return ran


def _add_waiting(
    lanes: dict[int, Lane],
    periods: Sequence[tuple[State[Any], datetime]],
    begins: Sequence[Entry],
    scale: _Scale,
) -> None:
    for state, until in periods:
        waits = state.is_scheduled() or state.is_pending()
        following = next((entry for entry in begins if entry.at >= until - _SKEW), None)
        if waits and following is not None:
            title = f"{state.name}: attempt {following.attempt} waits for a process"
            lanes[following.attempt].waiting += scale.span(state.timestamp, until, title)


def _add_deaths(lanes: dict[int, Lane], entries: Sequence[Entry], scale: _Scale) -> None:
    dead = 0.0
    for entry in entries:
        # A crash entry has the dead time of its attempt, an attempt entry that of the one before.
        died = lanes.get(entry.attempt - (entry.kind is Kind.ATTEMPT))
        if died is not None and entry.dead_seconds > dead:
            since = entry.at - timedelta(seconds=entry.dead_seconds - dead)
            died.dead += scale.span(since, entry.at, "dead, and not yet noticed")
        dead = entry.dead_seconds
        if died is not None and entry.kind is Kind.CRASH:
            signal = _SIGNAL.search(entry.reason or "")
            title = f"attempt {entry.attempt} crashed: {entry.reason or 'it is not known why'}"
            label = signal[0] if signal else "crash"
            died.crashes.append(Mark(scale.x(entry.at), label, title))


def _add_ticks(lanes: dict[int, Lane], entries: Sequence[Entry], scale: _Scale) -> None:
    saved = [entry for entry in entries if entry.kind is Kind.CHECKPOINT]
    ticks = {
        entry.seq: _tick(entry, before, scale)
        for before, entry in zip([None, *saved], saved, strict=False)
    }
    for lane in lanes.values():
        own = [entry for entry in saved if entry.attempt == lane.attempt]
        if len(own) <= TICKS:
            lane.ticks = [ticks[entry.seq] for entry in own]
            continue
        bins: dict[int, list[Entry]] = {}
        for entry in own:
            bins.setdefault(int(scale.x(entry.at) // _BIN), []).append(entry)
        most = max(map(len, bins.values()))
        lane.ticks = [
            _density(some, ticks[some[-1].seq], place, most) for place, some in sorted(bins.items())
        ]


def _tick(entry: Entry, before: Entry | None, scale: _Scale) -> Tick:
    """A checkpoint: its label, the size of its state and what that is more than before, and who."""
    label = f" {entry.label}" if entry.label else ""
    more = 0 if before is None else entry.size - before.size
    change = f" ({more:+,} B)" if more else ""
    by = "" if entry.saved_by is None else f", saved by {entry.saved_by}"
    by += f": {entry.reason}" if entry.reason else ""
    size = f"{decimal(entry.size)}{change}"
    title = f"{checkpoint_id(entry.seq)}{label}, {entry.at:%H:%M:%S} UTC, {size}{by}"
    return Tick(scale.x(entry.at), checkpoint_id(entry.seq), title, bool(by))


def _density(saved: list[Entry], newest: Tick, place: int, most: int) -> Tick:
    several = f"{len(saved)} checkpoints to {newest.title}" if len(saved) > 1 else newest.title
    by_hand = any(entry.saved_by is not None for entry in saved)
    return Tick(place * _BIN + _BIN / 2, newest.id, several, by_hand, len(saved) / most)


def _arrows(lanes: list[Lane], entries: Sequence[Entry], scale: _Scale) -> list[Arrow]:
    """The roll-backs; one to before the first lane leads to its beginning."""
    by_seq = {entry.seq: entry for entry in entries}
    places = {lane.attempt: place for place, lane in enumerate(lanes)}
    found = []
    for entry in entries:
        if entry.kind is Kind.ROLLBACK and entry.attempt in places:
            target = by_seq.get(entry.continues_from)
            to = places.get(target.attempt, 0) if target is not None else 0
            x = scale.x(scale.start if target is None else target.at)
            title = f"rolled back to {checkpoint_id(entry.continues_from)}, {entry.at:%H:%M:%S} UTC"
            found.append(Arrow(scale.x(entry.at), places[entry.attempt], x, to, title))
    return found


def _told(
    lanes: dict[int, Lane],
    entries: Sequence[Entry],
    ran: dict[int, list[Period]],
    periods: Sequence[tuple[State[Any], datetime]],
) -> list[str]:
    """The timeline as lines of text."""
    lines: list[tuple[datetime, str]] = []
    for entry in entries:
        lane = lanes.get(entry.attempt)
        if lane is None:
            continue
        if entry.kind is Kind.ATTEMPT:
            time = sum(((until - since).total_seconds() for since, until in ran[lane.attempt]), 0.0)
            saved = sum(
                each.kind is Kind.CHECKPOINT and each.attempt == lane.attempt for each in entries
            )
            line = f"Attempt {lane.attempt} ran for {duration(time)} and saved {saved} checkpoints"
            lines.append((entry.at, line))
        elif entry.kind is Kind.CRASH:
            lines.append((entry.at, f"It crashed: {entry.reason or 'it is not known why'}"))
        elif entry.kind is Kind.ROLLBACK:
            back = checkpoint_id(entry.continues_from)
            lines.append((entry.at, f"It was rolled back to {back}"))
    for state, until in periods:
        if state.is_paused() and state.name != CREATING:
            length = duration((until - state.timestamp).total_seconds())
            lines.append((state.timestamp, f"It was paused for {length}"))
    return [f"{at:%Y-%m-%d %H:%M:%S} UTC: {line}." for at, line in sorted(lines)]
