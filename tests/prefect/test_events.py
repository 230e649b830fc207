"""Events of executions in Prefect: how often they are sent, and how they are read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import Event
from prefect.states import Failed, Pending

from prefect_executions import execution
from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.ids import checkpoint_id, execution_id, flow_run_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import Part
from prefect_executions.prefect.changes import CheckpointSaved, Deleted, StatusChanged, change_of
from prefect_executions.prefect.events import (
    ATTEMPT_ENDED,
    CHECKPOINT_SAVED,
    DELETED,
    NEWS_SECONDS,
    CheckpointNews,
    has_ended,
    send_checkpoint_saved,
    send_deleted,
)
from prefect_executions.testkit import MemoryStore, testing
from world import eventually

AT = datetime(2026, 11, 24, 10, tzinfo=UTC)
RUNS = [UUID(int=n) for n in range(3)]


def entry(seq: int) -> Entry:
    return Entry(
        seq=seq, kind=Kind.CHECKPOINT, at=AT, attempt=2, nonce="", label="a", state=Part(size=7)
    )


@dataclass
class Desk:
    """A clock that only moves on request, with its pending calls and the events sent so far."""

    now: float = 0.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    told: list[tuple[float, UUID, int]] = field(default_factory=list)

    def news(self) -> CheckpointNews:
        return CheckpointNews(self._later, tell=self._tell, clock=lambda: self.now)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, act))

    def _tell(self, run_id: UUID, _: str, entry: Entry) -> None:
        self.told.append((self.now, run_id, entry.seq))

    def go_on(self, seconds: float) -> None:
        until = self.now + seconds
        while self.due and min(at for at, _ in self.due) <= until:
            self.due.sort(key=lambda chore: chore[0])
            self.now, act = self.due.pop(0)
            act()
        self.now = until


def test_the_first_checkpoint_is_told_at_once_and_then_the_newest_of_each_second() -> None:
    desk = Desk()
    news = desk.news()

    for seq in range(1, 26):
        news.saved(RUNS[0], "a run", entry(seq))
        desk.go_on(0.125)
    desk.go_on(2)

    told = [(at, seq) for at, _, seq in desk.told]
    assert told == [(0, 1), (1, 8), (2, 16), (3, 24), (4, 25)]


def test_executions_do_not_hold_each_other_up() -> None:
    desk = Desk()
    news = desk.news()

    for run_id in RUNS:
        news.saved(run_id, "a run", entry(1))
    desk.go_on(0)

    assert desk.told == [(0.0, run_id, 1) for run_id in RUNS]


def test_what_waits_is_told_at_the_end_and_nothing_waits_after_it() -> None:
    desk = Desk()
    news = desk.news()
    for seq in (1, 2, 3):
        news.saved(RUNS[0], "a run", entry(seq))
        desk.go_on(0)

    news.close()
    news.saved(RUNS[0], "a run", entry(4))

    assert [seq for _, _, seq in desk.told] == [1, 3, 4]


@given(
    st.lists(
        st.tuples(st.sampled_from(RUNS), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])), max_size=40
    )
)
def test_never_two_in_a_second_never_an_old_one_and_always_the_last(
    saves: list[tuple[UUID, float]],
) -> None:
    desk = Desk()
    news = desk.news()

    for seq, (run_id, pause) in enumerate(saves, 1):
        news.saved(run_id, "a run", entry(seq))
        desk.go_on(pause)
    desk.go_on(2 * NEWS_SECONDS)

    assert desk.due == []
    for run_id in RUNS:
        times = [at for at, about, _ in desk.told if about == run_id]
        told = [seq for _, about, seq in desk.told if about == run_id]
        assert told == sorted(set(told))
        assert all(later - at >= NEWS_SECONDS for at, later in pairwise(times))
        last = [seq for seq, (about, _) in enumerate(saves, 1) if about == run_id][-1:]
        assert told[-1:] == last


def test_what_is_kept_is_bounded_by_what_is_saved_within_a_second() -> None:
    desk = Desk()
    news = desk.news()

    for n in range(1_000):
        news.saved(UUID(int=n), "a run", entry(1))
        desk.go_on(NEWS_SECONDS / 10)

    assert len(news._throttle._acted) <= 11
    assert not news._newest


# ------------------------------------------------------------------ in Prefect


def events_of(prefect: SyncPrefectClient, run_id: UUID, name: str) -> list[Event]:
    """The events that Prefect has stored, oldest first; here it takes up to a second."""
    filter_ = {"resource": {"id": [f"prefect.flow-run.{run_id}"]}, "event": {"name": [name]}}
    filter_ |= {"order": "ASC"}  # type: ignore[dict-item]
    answer = prefect.request("POST", "/events/filter", json={"filter": filter_})
    answer.raise_for_status()
    return [Event.model_validate(event) for event in answer.json()["events"]]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_flow_tells_little_of_many_checkpoints_but_the_last_and_its_end(
    prefect: SyncPrefectClient, store: MemoryStore, durability: Any
) -> None:
    @flow
    @execution(store=store, durability=durability)
    def busy() -> str:
        run = execution.current()
        for n in range(60):
            run.state["n"] = n
            run.checkpoint(label=f"{n}")
        return run.id

    began = datetime.now(UTC)
    id_ = busy()
    took = (datetime.now(UTC) - began).total_seconds()

    run_id = flow_run_id(id_)
    (ended,) = eventually(lambda: events_of(prefect, run_id, ATTEMPT_ENDED), "it has ended")
    assert ended.payload == {"execution_id": id_, "attempt": 1}
    assert ended.resource["prefect.resource.name"] == prefect.read_flow_run(run_id).name
    told = events_of(prefect, run_id, CHECKPOINT_SAVED)
    (saved,) = ExecutionLog(store.objects(), id_).read(checkpoints=1).checkpoints()
    assert told[-1].payload == {
        "execution_id": id_,
        "checkpoint_id": checkpoint_id(saved.seq),
        "label": "59",
        "attempt": 1,
        "size": len(b'{"n":59}'),
    }
    assert told[-1].occurred == saved.at
    assert len(told) <= 2 + took / NEWS_SECONDS
    assert has_ended(prefect, run_id, began)
    assert not has_ended(prefect, run_id, datetime.now(UTC) + timedelta(minutes=1))


def test_a_thread_that_knows_nothing_of_prefect_tells_it_all_the_same(
    prefect: SyncPrefectClient, store: MemoryStore
) -> None:
    @flow
    @execution(store=store)
    def threaded() -> str:
        run = execution.current()
        run.state["n"] = 1
        thread = Thread(target=run.checkpoint)  # without this thread's context
        thread.start()
        thread.join()
        return run.id

    run_id = flow_run_id(threaded())

    told = eventually(lambda: events_of(prefect, run_id, CHECKPOINT_SAVED), "it is told")
    assert len(told) == 1


def test_each_attempt_tells_of_its_end(prefect: SyncPrefectClient) -> None:
    @flow
    @execution
    def stumbles() -> None:
        if execution.current().attempt == 1:
            raise ValueError("the first time")

    with testing() as kit:
        trial = kit.start(stumbles, config=ExecutionConfig(max_retries=1))

    run_id = flow_run_id(trial.id)
    eventually(lambda: len(events_of(prefect, run_id, ATTEMPT_ENDED)) == 2, "both have ended")
    ends = events_of(prefect, run_id, ATTEMPT_ENDED)
    assert [end.payload["attempt"] for end in ends] == [1, 2]


def test_what_is_sent_is_what_is_read(prefect: SyncPrefectClient) -> None:
    run = prefect.create_flow_run(flow(lambda: None, name="told"), state=Pending())
    id_ = execution_id(run.id)
    failed = Failed(message="It did not work")
    prefect.set_flow_run_state(run.id, failed, force=True)
    state = prefect.read_flow_run(run.id).state
    assert state is not None
    send_checkpoint_saved(run.id, run.name, entry(42))
    send_deleted(run.id, run.name)

    (end,) = eventually(lambda: events_of(prefect, run.id, DELETED), "all is kept")

    (saved,) = events_of(prefect, run.id, CHECKPOINT_SAVED)
    (failure,) = events_of(prefect, run.id, "prefect.flow-run.Failed")
    assert change_of(saved) == (run.id, CheckpointSaved.of(id_, entry(42)))
    assert change_of(end) == (run.id, Deleted.of(id_, end.occurred))
    found = change_of(failure)
    assert found == (run.id, StatusChanged.of(id_, state))
    assert isinstance(found[1], StatusChanged)
    assert found[1].type is StateType.FAILED
    assert found[1].data.status is Status.FAILED
    assert found[1].data.message == "It did not work"


@pytest.mark.parametrize(
    ("name", "resource", "payload"),
    [
        ("prefect.flow-run.heartbeat", {}, {}),
        ("prefect.flow-run.Odd", {"prefect.state-type": "ODD", "prefect.state-name": "Odd"}, {}),
        ("prefect.flow-run.Odd", {"prefect.state-type": "RUNNING"}, {}),
        ("prefect-executions.heartbeat", {}, {}),
        (CHECKPOINT_SAVED, {}, {}),
        (
            CHECKPOINT_SAVED,
            {},
            {"checkpoint_id": "ckpt_1", "label": None, "attempt": 1, "size": 1},
        ),
        (DELETED, {"prefect.resource.id": "prefect.flow-run.none"}, {}),
        (DELETED, {"prefect.resource.id": f"prefect.task-run.{uuid4()}"}, {}),
    ],
)
def test_others_events_are_none_of_ours(
    name: str, resource: dict[str, str], payload: dict[str, Any]
) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"} | resource

    event = Event(occurred=AT, event=name, resource=resource, payload=payload)  # type: ignore[arg-type]

    assert change_of(event) is None
