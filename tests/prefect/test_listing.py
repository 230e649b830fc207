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
from prefect_executions.prefect.listing import Walk, in_states, pages_of, runs_with

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
    max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    minutes=st.lists(st.integers(0, 2), max_size=9),
    deleted=st.dictionaries(st.integers(0, 3), st.integers(0, 8), max_size=3),
)
def test_each_run_that_stays_is_on_one_page_while_others_are_deleted(
    prefect: SyncPrefectClient, minutes: list[int], deleted: dict[int, int]
) -> None:
    """Many may be expected at one instant; what is deleted moves no other run."""
    tag = uuid4().hex
    left = created = create(prefect, tag, minutes)
    walk, seen = Walk(prefect, in_states([tag])), list[UUID]()

    for page in range(10):
        if walk.is_over:
            break
        seen += [run.id for run in walk.next()]
        if deleted.get(page, 9) < len(created) and created[deleted[page]] in left:
            prefect.delete_flow_run(created[deleted[page]])
            left = [id_ for id_ in left if id_ != created[deleted[page]]]

    assert walk.is_over
    assert len(set(seen)) == len(seen)
    assert set(left) <= set(seen) <= set(created)


def test_runs_are_found_by_their_ids(prefect: SyncPrefectClient) -> None:
    created = create(prefect, uuid4().hex, [0, 0, 0, 0, 1])

    assert runs_with(prefect, [*created, uuid4()]).keys() == set(created)
    by_id = FlowRunFilter(id=FlowRunFilterId(any_=created))
    assert [len(page) for page in pages_of(prefect, by_id)] == [3, 2]
