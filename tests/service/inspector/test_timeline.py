"""The timeline of an execution, as it is computed."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.states import Completed, Crashed, Paused, Pending, Running, State, Suspended

from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.parts import Part
from prefect_executions.service.inspector.timeline import SHORT, WIDTH, Span, timeline

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(seq: int, kind: Kind, seconds: float, attempt: int, **fields: Any) -> Entry:
    return Entry(seq=seq, kind=kind, at=at(seconds), attempt=attempt, nonce="", **fields)


def spans(drawn: list[Span]) -> list[tuple[float, float]]:
    return [(span.x, span.width) for span in drawn]


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
    assert spans(one.active) == [(0, 312)]
    assert spans(two.active) == [(376, 624)]
    assert [(tick.x, tick.id) for tick in one.ticks] == [(156, "ckpt_000002")]
    assert [tick.x for tick in two.ticks] == [844]
    assert spans(drawn.paused) == [(312, 48)]
    assert (spans(one.waiting), spans(two.waiting)) == ([], [(360, 16)])
    assert [line.partition(": ")[2] for line in drawn.told] == [
        "Attempt 1 ran for 20 s and saved 1 checkpoints.",
        "It was paused for 30 s.",
        "Attempt 2 ran for 40 s and saved 1 checkpoints.",
    ]


def test_a_long_pause_takes_no_more_room_than_a_short_one() -> None:
    states = [since(Running(), 0), since(Suspended(), 10), since(Running(), 90_000)]
    entries = [entry(1, Kind.ATTEMPT, 0, 1), entry(2, Kind.ATTEMPT, 90_001, 2)]

    drawn = timeline(states, entries, at(90_020))

    assert [(span.width, span.length) for span in drawn.paused] == [(SHORT, "24 h 59 min")]
    assert [round(lane.active[0].width) for lane in drawn.lanes] == [312, 624]


def test_an_attempt_ends_where_it_was_paused_however_slowly_the_next_begins() -> None:
    states = [since(Running(), 0), since(Suspended(), 20), since(Running(), 50)]
    entries = [entry(1, Kind.ATTEMPT, 0, 1), entry(2, Kind.ATTEMPT, 58, 2)]

    one, two = timeline(states, entries, at(80)).lanes

    assert (len(one.active), len(two.active)) == (1, 1)
    assert one.active[0].length == "20 s"
    assert two.active[0].length == "30 s"


def test_a_pause_in_which_the_process_waits_is_followed_by_the_same_attempt() -> None:
    states = [since(Running(), 0), since(Paused(), 20), since(Running(), 50)]

    (lane,) = timeline(states, [entry(1, Kind.ATTEMPT, 0, 1)], at(80)).lanes

    assert [span.length for span in lane.active] == ["20 s", "30 s"]


def test_a_roll_back_is_an_arrow_to_where_it_goes_on_from() -> None:
    states = [since(Running(), 0), since(Suspended(), 60), since(Running(), 70)]
    entries = [
        entry(1, Kind.ATTEMPT, 0, 1),
        entry(2, Kind.CHECKPOINT, 30, 1),
        entry(3, Kind.ROLLBACK, 65, 1, source=2),
        entry(4, Kind.ATTEMPT, 70, 2),
        entry(5, Kind.ROLLBACK, 100, 2, source=0),
    ]

    drawn = timeline(states, entries, at(100))

    first, second = drawn.arrows
    assert (first.lane, first.to_lane, first.to_x) == (0, 0, drawn.lanes[0].ticks[0].x)
    assert drawn.paused[0].x < first.x < drawn.paused[0].x + drawn.paused[0].width
    assert (second.lane, second.to_lane, second.to_x) == (1, 0, 0)
    assert "rolled back to ckpt_000002" in first.title


def test_a_crash_is_marked_with_its_signal() -> None:
    entries = [
        entry(1, Kind.ATTEMPT, 0, 1),
        entry(2, Kind.CRASH, 50, 1, reason="Its process has died: SIGKILL."),
        entry(3, Kind.ATTEMPT, 60, 2),
        entry(4, Kind.CRASH, 100, 2),
    ]

    one, two = timeline([since(Running(), 0), since(Crashed(), 100)], entries, at(100)).lanes

    assert [(mark.label, "died" in mark.title) for mark in one.crashes] == [("SIGKILL", True)]
    assert [mark.label for mark in two.crashes] == ["crash"]


def test_a_checkpoint_says_what_it_is_and_how_its_state_has_changed() -> None:
    sizes = [(2, 1, 1_500), (3, 1, 1_710), (5, 2, 1_700), (6, 2, 1_700)]
    saved = [
        entry(n, Kind.CHECKPOINT, n, attempt, label=f"page {n}", state=Part(base=None, size=size))
        for n, attempt, size in sizes
    ]
    entries = [entry(1, Kind.ATTEMPT, 0, 1), *saved[:2], entry(4, Kind.ATTEMPT, 4, 2), *saved[2:]]

    lanes = timeline([since(Running(), 0)], entries, at(9)).lanes

    assert [tick.title for lane in lanes for tick in lane.ticks] == [
        "ckpt_000002 page 2, 10:00:02 UTC, 1.5 kB",
        "ckpt_000003 page 3, 10:00:03 UTC, 1.7 kB (+210 B)",
        "ckpt_000005 page 5, 10:00:05 UTC, 1.7 kB (-10 B)",
        "ckpt_000006 page 6, 10:00:06 UTC, 1.7 kB",
    ]


def test_many_checkpoints_are_drawn_as_a_density() -> None:
    many = [entry(n, Kind.CHECKPOINT, n * n / 400, 1, label=f"{n}") for n in range(2, 200)]

    (lane,) = timeline([since(Running(), 0)], [entry(1, Kind.ATTEMPT, 0, 1), *many], at(100)).lanes

    assert len(lane.ticks) <= WIDTH / 10 + 1
    assert max(tick.share for tick in lane.ticks) == 1
    assert lane.ticks[0].share > lane.ticks[-1].share > 0
    assert lane.ticks[-1].id == "ckpt_000199"
    assert "checkpoints to" in lane.ticks[0].title


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
