"""The stream of an execution, over HTTP: what it sends."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect.states import AwaitingRetry, Completed, Crashed, Failed, Running, Suspended

from prefect_executions.errors import ExecutionNotFound, StoreUnavailable
from prefect_executions.local import Stack
from prefect_executions.prefect.events import send_checkpoint_saved
from prefect_executions.service.streams import stream as streams
from prefect_executions.service.streams.hub import EventHub
from prefect_executions.service.streams.stream import follow
from prefect_executions.storage.objects import MemoryObjects
from streaming import Followed, Replica, by_kind


def test_the_first_event_is_the_present_status(replica: Replica, world: Followed) -> None:
    world.save(1)
    world.set(Suspended(message="to look"))

    with replica.listen(world.id) as client:
        first = client.next()

    assert client.response.headers["content-type"].startswith("text/event-stream")
    assert client.response.headers["cache-control"] == "no-store"
    assert first == ("status", "Suspended")
    state = world.prefect.read_flow_run(world.run_id).state
    assert state is not None
    assert client.data == {
        "execution_id": world.id,
        "status": "paused",
        "state_name": "Suspended",
        "at": state.timestamp.isoformat().replace("+00:00", "Z"),
        "message": "to look",
    }


def test_what_happens_is_told_as_it_happens(replica: Replica, world: Followed) -> None:
    with replica.listen(world.id) as client:
        assert client.next() == ("status", "Running")
        replica.listen_live()

        saved = world.save(1)
        assert client.next() == saved
        (newest,) = world.executions.get(world.id, checkpoints=1).checkpoints
        assert datetime.fromisoformat(client.data.pop("at")) == newest.timestamp
        assert client.data == {
            "execution_id": world.id,
            "checkpoint_id": newest.id,
            "label": "n = 1",
            "attempt": 1,
            "size": newest.size,
        }
        for state in (Suspended(), AwaitingRetry(), Running(), Failed(message="no"), Running()):
            done = world.set(state)
            assert client.next() == done


def test_a_stream_outlives_the_end_and_ends_with_the_deletion(
    replica: Replica, world: Followed
) -> None:
    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()

        done = [world.set(Completed()), world.delete()]

        assert client.rest() == done
        assert client.data["execution_id"] == world.id


def test_a_client_hears_of_its_execution_alone(
    replica: Replica, new: Callable[[], Followed]
) -> None:
    mine, other = new(), new()
    with replica.listen(mine.id) as client:
        client.next()
        replica.listen_live()

        other.save(1)
        other.set(Suspended())
        other.delete()
        done = [mine.save(1), mine.set(Suspended())]

        assert by_kind(client.take(2)) == by_kind(done)


def test_a_process_that_was_killed_has_told_of_its_last_checkpoint_all_the_same(
    replica: Replica, world: Followed
) -> None:
    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()

        done = [world.save(1), world.save(2, tell=False), world.set(Crashed())]

        assert by_kind(client.take(3)) == by_kind(done)


def test_an_older_checkpoint_is_no_news(replica: Replica, world: Followed) -> None:
    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()
        _, older = world.save(1, tell=False)
        entry = world.executions.log(world.id).head().entry

        newer = world.save(2)
        send_checkpoint_saved(world.run_id, "a run", entry)
        end = world.save(3)

        assert client.take(2) == [newer, end]
        assert older not in (newer[1], end[1])


def test_what_does_not_exist_or_is_not_seen_is_a_404(replica: Replica, world: Followed) -> None:
    for id_ in ("exec_none", f"exec_{uuid4().hex}"):
        with pytest.raises(AssertionError), replica.listen(id_) as client:
            assert client.response.status_code == 200
    replica.executions = replica.executions.seen_by(frozenset({"another"}))

    answer = replica._client.get(f"/{world.id}/events")

    assert answer.status_code == 404
    assert answer.json()["code"] == "execution_not_found"


def test_a_store_that_is_away_is_a_503_and_ends_a_stream(
    replica: Replica, world: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> Any:
        raise StoreUnavailable("list", "it is away")

    with replica.listen(world.id) as client:
        client.next()
        replica.listen_live()
        monkeypatch.setattr(MemoryObjects, "scan", away)
        crashed = world.set(Crashed())  # after which the hub reads the log

        assert client.rest() == [crashed]
    answer = replica._client.get(f"/{world.id}/events")

    assert answer.status_code == 503


def test_a_comment_keeps_a_silent_stream_alive(
    replica: Replica, world: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING_SECONDS", 0.05)

    with replica.listen(world.id) as client:
        lines = client.response.iter_lines()
        head = [next(lines) for _ in range(7)]

    assert head[0] == "retry: 2000"
    assert head[2].startswith("id: ")
    assert head[-1] == ": alive"


def test_a_stream_lasts_no_longer_than_it_may(replica: Replica, world: Followed) -> None:
    replica.lifetime = 0.0

    with replica.listen(world.id) as client:
        assert client.rest() == [("status", "Running")]
    done = world.save(1)
    with replica.listen(world.id, client.last) as again:
        assert again.rest() == [done]


def test_the_deleted_can_not_be_followed(stack: Stack, world: Followed) -> None:
    async def listen() -> None:
        hub = EventHub()
        try:
            await anext(follow(hub, world.executions, world.id))
        finally:
            hub.close()

    world.delete()

    with pytest.raises(ExecutionNotFound):
        asyncio.run(listen())
