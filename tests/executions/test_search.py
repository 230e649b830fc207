"""Listing executions: filters, and pages that stay right while executions come and go."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled, Suspended

from prefect_executions.config import Status
from prefect_executions.errors import CursorError
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.models import ExecutionFilter, Order
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import DELETING, agent_tag, task_type_tag
from prefect_executions.storage.objects import MemoryObjects

NOON = datetime(2126, 11, 24, 12, tzinfo=UTC)


class Listed:
    """Flow runs in a store of their own, each due at a time of its own by default."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.flow_runs = FlowRuns(prefect, store=uuid4().hex)
        self.executions = Executions(MemoryObjects(), self.flow_runs)
        flow_id = prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        self.deployment = prefect.create_deployment(flow_id, "idle", tags=["execution"])
        self.made = 0

    def add(self, name: str = "a", *, at: datetime | None = None, tags: Any = ()) -> str:
        self.made += 1
        due = at or NOON + timedelta(seconds=self.made)
        run = self.prefect.create_flow_run_from_deployment(
            self.deployment,
            name=name,
            tags=[*self.flow_runs.tags, *tags],
            state=Scheduled(scheduled_time=due),
        )
        return execution_id(run.id)

    def set(self, execution: str, state: Any) -> None:
        self.prefect.set_flow_run_state(UUID(execution[5:]), state, force=True)

    def run(self, execution: str) -> FlowRun:
        return self.prefect.read_flow_run(UUID(execution[5:]))

    def find(self, **asked: Any) -> list[str]:
        page = self.executions.search(ExecutionFilter(**asked), limit=200)
        assert page.next_cursor is None
        return [item.id for item in page.items]

    def pages(self, limit: int, **asked: Any) -> Iterator[list[str]]:
        cursor = None
        while True:
            page = self.executions.search(ExecutionFilter(), limit=limit, cursor=cursor, **asked)
            yield [item.id for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return


@pytest.fixture
def here(stack: Stack) -> Iterator[Listed]:
    with get_client(sync_client=True) as client:
        yield Listed(client)


def test_the_newest_comes_first_unless_the_oldest_is_asked_for(here: Listed) -> None:
    made = [here.add() for _ in range(5)]

    newest_first = [id_ for page in here.pages(2) for id_ in page]
    oldest_first = [id_ for page in here.pages(2, order=Order.OLDEST_FIRST) for id_ in page]

    assert newest_first == made[::-1]
    assert oldest_first == made


def test_a_full_last_page_has_no_next(here: Listed) -> None:
    made = [here.add() for _ in range(4)]

    assert list(here.pages(2)) == [made[:1:-1], made[1::-1]]
    assert list(here.pages(4)) == [made[::-1]]


def test_nothing_is_told_twice_or_left_out_while_executions_come_and_go(here: Listed) -> None:
    made = [here.add() for _ in range(9)]
    pages = here.pages(3)
    seen = next(pages)

    here.prefect.delete_flow_run(UUID(made[8][5:]))  # listed already
    here.prefect.delete_flow_run(UUID(made[4][5:]))  # not yet
    here.add()
    here.set(made[2], Completed())
    seen += [id_ for page in pages for id_ in page]

    assert seen == [made[n] for n in (8, 7, 6, 5, 3, 2, 1, 0)]


def test_of_executions_of_the_same_time_each_is_told_once(here: Listed) -> None:
    made = [here.add(at=NOON) for _ in range(7)]
    made += [here.add(at=NOON + timedelta(microseconds=1)) for _ in range(3)]

    for order in Order:
        seen = [id_ for page in here.pages(2, order=order) for id_ in page]
        assert sorted(seen) == sorted(made)


def test_a_cursor_among_many_executions_of_one_time_is_short(
    here: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As among those that Prefect has scheduled for one instant: 466 made it too long once."""
    monkeypatch.setattr("prefect_executions.prefect.listing.AT_ONCE", 10)
    made = [here.add(at=NOON) for _ in range(35)]

    for order in Order:
        seen, cursor, lengths = list[str](), None, list[int]()
        while True:
            page = here.executions.search(ExecutionFilter(), limit=4, cursor=cursor, order=order)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
            lengths.append(len(cursor))
        assert sorted(seen) == sorted(made)
        assert len(lengths) == 8
        assert max(lengths) < 200


def test_each_filter_finds_what_fits_it(here: Listed) -> None:
    one = here.add("Alpha_1", tags=[agent_tag("a"), task_type_tag("t")])
    other = here.add("alphax1", tags=[agent_tag("b"), task_type_tag("t")])
    third = here.add("beta", tags=[agent_tag("a")])

    assert here.find() == [third, other, one]
    assert here.find(agent_id="a") == [third, one]
    assert here.find(task_type="t") == [other, one]
    assert here.find(agent_id="a", task_type="t") == [one]
    assert here.find(name="ALPHA") == [other, one]
    assert here.find(name="a_1") == [one]  # no wildcard
    assert here.find(name="%") == []
    assert here.find(created_after=NOON + timedelta(seconds=2)) == [third, other]
    assert here.find(created_before=NOON + timedelta(seconds=2)) == [other, one]


def test_a_status_stands_for_all_of_prefect_s_states(here: Listed) -> None:
    states = [Running(), Suspended(), Completed(), Failed(), Crashed(), Cancelled()]
    made = [here.add() for _ in states]
    for execution, state in zip(made, states, strict=True):
        here.set(execution, state)

    found = {status: here.find(status=[status]) for status in Status}

    assert found == {
        Status.RUNNING: [made[4], made[0]],
        Status.PAUSED: [made[1]],
        Status.COMPLETED: [made[2]],
        Status.FAILED: [made[3]],
        Status.TERMINATED: [made[5]],
    }
    assert here.find(status=[Status.RUNNING, Status.PAUSED]) == [made[4], made[1], made[0]]


def test_changes_are_found_by_their_time(here: Listed) -> None:
    one, other = here.add(), here.add()
    here.set(one, Completed())
    changed = here.run(one).state
    assert changed is not None

    assert here.find(updated_after=changed.timestamp) == [one]
    assert here.find(updated_before=changed.timestamp - timedelta(microseconds=1)) == [other]


def test_a_filter_that_finds_little_answers_with_short_pages(
    here: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_executions.executions.search.AT_ONCE", 3)
    monkeypatch.setattr("prefect_executions.executions.search._ROUNDS", 2)
    first, *_ = [here.add() for _ in range(10)]
    here.set(first, Completed())
    changed = here.run(first).state
    assert changed is not None
    asked = ExecutionFilter(updated_after=changed.timestamp)

    pages = []
    cursor = None
    while True:
        page = here.executions.search(asked, limit=5, cursor=cursor)
        pages.append([item.id for item in page.items])
        cursor = page.next_cursor
        if cursor is None:
            break

    assert pages == [[], [], [first]]


def test_what_is_being_deleted_or_made_is_not_listed(here: Listed) -> None:
    kept = here.add()
    here.add(tags=[DELETING])
    here.flow_runs.create(str(here.deployment), name="half-made", parameters={}, tags=[])

    assert here.find() == [kept]


def test_who_sees_some_agents_sees_only_theirs(here: Listed) -> None:
    one = here.add(tags=[agent_tag("a")])
    here.add(tags=[agent_tag("b")])
    here.add()

    seen = here.executions.seen_by(frozenset({"a", "c"})).search(ExecutionFilter())

    assert [item.id for item in seen.items] == [one]
    assert here.executions.seen_by(frozenset()).search(ExecutionFilter()).items == []


def test_a_cursor_belongs_to_its_list(here: Listed) -> None:
    for _ in range(3):
        here.add()
    cursor = here.executions.search(ExecutionFilter(), limit=1).next_cursor
    assert cursor is not None

    for asked, order in [
        (ExecutionFilter(name="a"), Order.NEWEST_FIRST),
        (ExecutionFilter(), Order.OLDEST_FIRST),
    ]:
        with pytest.raises(CursorError):
            here.executions.search(asked, cursor=cursor, order=order)
    with pytest.raises(CursorError):
        here.executions.seen_by(frozenset({"a"})).search(ExecutionFilter(), cursor=cursor)


@pytest.mark.parametrize("cursor", ["", "x", "é", "AAAA", "a" * 400])
def test_what_is_no_cursor_is_refused(here: Listed, cursor: str) -> None:
    with pytest.raises(CursorError):
        here.executions.search(ExecutionFilter(), cursor=cursor)


@pytest.mark.parametrize("listed", ["0", "-1", f"{1 << 31}", "many", "1 1"])
def test_a_number_that_no_list_has_is_refused(here: Listed, listed: str) -> None:
    made = [here.add(at=NOON) for _ in range(3)]
    cursor = here.executions.search(ExecutionFilter(), limit=1).next_cursor
    of, time, run_id, _ = base64.urlsafe_b64decode(cursor or "").decode().split(" ")
    place = f"{of} {time} {run_id}"

    def with_number(number: str) -> str:
        return base64.urlsafe_b64encode(f"{place} {number}".encode()).decode()

    with pytest.raises(CursorError):
        here.executions.search(ExecutionFilter(), cursor=with_number(listed))
    rest = here.executions.search(ExecutionFilter(), cursor=with_number("1000000")).items
    assert len({item.id for item in rest} & set(made)) == 2
