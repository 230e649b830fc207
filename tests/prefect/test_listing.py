"""Listing flow runs page by page, on a real Prefect server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.states import Scheduled

from prefect_executions.local import Stack
from prefect_executions.prefect.listing import Listing, Place, in_states, pages_of, runs_with
from prefect_executions.prefect.states import created_at

PAGE = 3
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_executions.prefect.listing.AT_ONCE", PAGE)


def create(prefect: SyncPrefectClient, tag: str, minutes: list[int]) -> list[UUID]:
    """Runs with a tag, each of which is expected to start at a minute."""
    flow_id = prefect.create_flow_from_name("listed")
    deployment_id = prefect.create_deployment(flow_id, "listed")
    return [
        prefect.create_flow_run_from_deployment(
            deployment_id,
            tags=[tag],
            state=Scheduled(scheduled_time=NOW + timedelta(minutes=minute)),
        ).id
        for minute in minutes
    ]


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    minutes=st.lists(st.integers(0, 2), max_size=9),
    deleted=st.dictionaries(st.integers(0, 3), st.integers(0, 8), max_size=3),
    added=st.dictionaries(st.integers(0, 3), st.integers(0, 2), max_size=2),
    newest_first=st.booleans(),
)
def test_each_run_that_stays_is_in_one_stretch_while_others_come_and_go(
    prefect: SyncPrefectClient,
    minutes: list[int],
    deleted: dict[int, int],
    added: dict[int, int],
    newest_first: bool,
) -> None:
    """Many may be expected at one instant; what comes and goes moves no other run."""
    tag = uuid4().hex
    created = create(prefect, tag, minutes)
    left, times, seen = set(created), list[datetime](), list[UUID]()
    listing, place = Listing(prefect, in_states([tag]), newest_first=newest_first), None

    for turn in range(40):
        stretch = listing.stretch(place, PAGE)
        seen += [run.id for run, _ in stretch.runs]
        times += [created_at(run) for run, _ in stretch.runs]
        place = stretch.rest
        if place is None:
            break
        if (gone := deleted.get(turn, 9)) < len(created) and created[gone] in left:
            prefect.delete_flow_run(created[gone])
            left.remove(created[gone])
        if turn in added:
            create(prefect, tag, [added[turn]])

    assert place is None
    assert len(set(seen)) == len(seen)
    assert left <= set(seen)
    assert times == sorted(times, reverse=newest_first)


@pytest.mark.parametrize("gone", [0, 1, 2, 6])
def test_a_list_goes_on_after_any_run_of_one_time(prefect: SyncPrefectClient, gone: int) -> None:
    """Where runs of that time have gone since, or the very run at which it stopped."""
    tag = uuid4().hex
    created = sorted(create(prefect, tag, [0] * 7), reverse=True)
    listing = Listing(prefect, in_states([tag]))
    whole, place = list[tuple[UUID, Place]](), None
    while not whole or place is not None:
        stretch = listing.stretch(place, PAGE)
        whole += [(run.id, after) for run, after in stretch.runs]
        place = stretch.rest
    assert [id_ for id_, _ in whole] == created

    for id_ in created[:gone]:
        prefect.delete_flow_run(id_)
    for at, (_, after) in enumerate(whole):
        rest, place = list[UUID](), after
        while place is not None:
            stretch = listing.stretch(place, PAGE)
            rest += [run.id for run, _ in stretch.runs]
            place = stretch.rest
        assert rest == created[max(at + 1, gone) :]


def test_runs_are_found_by_their_ids(prefect: SyncPrefectClient) -> None:
    created = create(prefect, uuid4().hex, [0, 0, 0, 0, 1])

    assert runs_with(prefect, [*created, uuid4()]).keys() == set(created)
    by_id = FlowRunFilter(id=FlowRunFilterId(any_=created))
    pages = list(pages_of(prefect, by_id))
    assert {run.id for page in pages for run in page} == set(created)
    assert max(len(page) for page in pages) == PAGE
    assert sum(len(page) for page in pages) == 5
