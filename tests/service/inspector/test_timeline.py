"""The timeline of an execution, as it is computed."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.states import Completed, Crashed, Pending, Running, State, Suspended

from prefect_executions.log.entry import Entry, Kind
from prefect_executions.service.inspector.timeline import WIDTH, timeline

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(seq: int, kind: Kind, seconds: float, attempt: int, **fields: Any) -> Entry:
    return Entry(seq=seq, kind=kind, at=at(seconds), attempt=attempt, nonce="", **fields)


def since(state: State[Any], seconds: float) -> State[Any]:
    state.timestamp = at(seconds)
    return state


def test_a_timeline_has_a_lane_for_each_attempt() -> None:
    states = [
        since(Pending(), -1),
        since(Running(), 0),
        since(Suspended(), 20),
        since(Pending(), 50),
        since(Running(), 60),
        since(Completed(), 100),
    ]
    entries = [
        entry(0, Kind.CREATED, -1, 0),
        entry(1, Kind.ATTEMPT, 0, 1),
        entry(2, Kind.CHECKPOINT, 10, 1, label="first"),
        entry(3, Kind.ATTEMPT, 60, 2),
        entry(4, Kind.CHECKPOINT, 90, 2),
    ]

    drawn = timeline(states, entries, at(500))

    assert (drawn.start, drawn.end) == (at(0), at(100))
    one, two = drawn.lanes
    assert [(span.x, span.width) for span in one.active] == [(0, 200)]
    assert [(span.x, span.width) for span in two.active] == [(600, 400)]
    assert [(tick.x, tick.id) for tick in one.ticks] == [(100, "ckpt_000002")]
    assert [tick.x for tick in two.ticks] == [900]
    assert [(span.x, span.width) for span in drawn.paused] == [(200, 300)]


def test_a_timeline_tells_dead_from_active() -> None:
    states = [since(Running(), 0), since(Crashed(), 100)]
    entries = [
        entry(1, Kind.ATTEMPT, 0, 1),
        entry(2, Kind.CRASH, 100, 1, dead_seconds=40),
    ]

    (lane,) = timeline(states, entries, at(100)).lanes

    assert [(span.x, span.width) for span in lane.dead] == [(600, 400)]


def test_a_timeline_tells_of_a_death_that_the_next_attempt_has_noticed() -> None:
    entries = [
        entry(1, Kind.ATTEMPT, 0, 1),
        entry(2, Kind.ATTEMPT, 100, 2, dead_seconds=40),
    ]

    first, second = timeline([since(Running(), 0)], entries, at(100)).lanes

    assert [(span.x, span.width) for span in first.dead] == [(600, 400)]
    assert second.dead == []


def test_a_timeline_of_what_runs_goes_to_the_present() -> None:
    drawn = timeline([since(Running(), 0)], [entry(1, Kind.ATTEMPT, 0.5, 1)], at(10))

    assert drawn.end == at(10)
    (span,) = drawn.lanes[0].active
    assert span.x + span.width == WIDTH


def test_a_timeline_of_what_has_not_begun_is_empty() -> None:
    drawn = timeline([since(Pending(), 0)], [entry(0, Kind.CREATED, 0, 0)], at(1))

    assert drawn.lanes == []
