"""Supervisors that hear each other share their work."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from prefect_executions.prefect.events import Heartbeats
from prefect_executions.supervisor.heartbeat import OwnHeartbeat

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SILENCE = timedelta(seconds=35)


@given(run_id=st.uuids(), alive=st.integers(1, 4), others=st.integers(0, 3))
def test_each_run_is_of_one_of_the_supervisors_of_its_store(
    run_id: UUID, alive: int, others: int
) -> None:
    ours = [OwnHeartbeat("ours", SILENCE) for _ in range(alive)]
    theirs = [OwnHeartbeat("ours-too", SILENCE) for _ in range(others)]
    heard = Heartbeats({}, {beat.id: NOW for beat in (*ours, *theirs)})

    for beat in (*ours, *theirs):
        beat.update(heard, NOW)

    assert sum(beat.owns(run_id) for beat in ours) == 1


@given(run_id=st.uuids())
def test_what_was_of_a_dead_supervisor_is_of_the_one_that_is_left(run_id: UUID) -> None:
    left, dead = OwnHeartbeat("ours", SILENCE), OwnHeartbeat("ours", SILENCE)
    left.update(Heartbeats({}, {left.id: NOW, dead.id: NOW}), NOW)

    left.update(Heartbeats({}, {left.id: NOW}), NOW)

    assert left.owns(run_id)
