"""A client that reconnects is sent the rest: nothing is lost, and nothing is sent twice."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.states import AwaitingRetry, Failed, Running, Suspended

from prefect_executions.executions.executions import Executions
from prefect_executions.service.streams import follower
from prefect_executions.service.streams.follower import Position
from streaming import Followed, Replica, Told, by_kind


def test_whoever_comes_back_anywhere_with_any_id_is_told_the_rest(
    replica: Replica, executions: Executions, world: Followed
) -> None:
    done = [("status", "Running")]
    ids = []
    with replica.listen(world.id) as client:
        client.next()
        ids.append(client.last)
        replica.listen_live()
        acts: list[Callable[[], Told]] = [
            partial(world.save, 1),
            partial(world.set, Suspended()),
            partial(world.set, AwaitingRetry()),
            partial(world.set, Running()),
            partial(world.save, 2),
            partial(world.save, 3),
            partial(world.set, Failed()),
        ]
        for act in acts:  # live, a status may overtake a checkpoint by milliseconds
            done.append(act())
            assert client.next() == done[-1]
            ids.append(client.last)

    with Replica(executions) as other:
        for place in (replica, other):
            for n, last in enumerate(ids):
                with place.listen(world.id, last) as again:
                    assert again.take(len(done) - n - 1) == done[n + 1 :]
        with replica.listen(world.id, ids[-1]) as one, other.listen(world.id, ids[-1]) as two:
            more = [world.set(AwaitingRetry()), world.save(4)]
            assert by_kind(one.take(2)) == by_kind(two.take(2)) == by_kind(more)


def test_what_happened_while_nobody_listened_is_told(
    executions: Executions, world: Followed
) -> None:
    with Replica(executions) as one, one.listen(world.id) as client:
        client.next()

    done = [world.save(1), world.set(Suspended()), world.set(AwaitingRetry())]
    done += [world.set(Running()), world.save(2)]

    # Another replica, so soon that Prefect has kept none of these events yet.
    with Replica(executions) as two, two.listen(world.id, client.last) as again:
        assert again.take(5) == done
        assert again.last != client.last


def test_claims_hide_no_checkpoint(executions: Executions, world: Followed) -> None:
    """Somebody has claimed a number ahead, and died."""
    log = executions.log(world.id)
    log._take(log.require_newest() + 3, 0, fence=True)
    with Replica(executions) as one, one.listen(world.id) as client:
        client.next()

    for number in range(5):
        done = world.save(number)
        with Replica(executions) as two, two.listen(world.id, client.last) as client:
            assert client.next() == done


def test_of_many_missed_checkpoints_the_newest_are_told(
    replica: Replica, world: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "MISSED_CHECKPOINTS", 3)
    with replica.listen(world.id) as client:
        client.next()

    done = [world.save(n, tell=False) for n in range(6)]

    with replica.listen(world.id, client.last) as again:
        assert again.take(3) == done[-3:]


def test_a_foreign_id_begins_anew(replica: Replica, world: Followed) -> None:
    for last in ("7", "1-2-3", f"{'9' * 30}-{uuid4().hex}-1"):
        with replica.listen(world.id, last) as client:
            assert client.next() == ("status", "Running")


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)),
    st.uuids(),
    st.integers(0, 999_999_999),
)
def test_a_position_is_read_as_it_was_written(at: datetime, state_id: UUID, seq: int) -> None:
    position = Position(at.replace(tzinfo=UTC), state_id, seq)

    if (position.at - datetime(1970, 1, 1, tzinfo=UTC)) < timedelta(days=1_000_000):
        assert Position.of(f"{position}") == position
