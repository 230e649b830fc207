"""Unfinished deletions, and runs that were deleted in Prefect."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from idle import IdleWorld
from prefect_executions.errors import StoreUnavailable
from world import eventually


def test_a_half_done_deletion_is_finished(here: IdleWorld) -> None:
    run = here.create()
    here.executions.flow_runs.mark_deleting(run)

    here.supervisor().look()

    assert here.executions.flow_runs.find(run.id) is None
    assert list(here.store.scan("")) == []


def test_a_dead_run_with_a_tombstone_is_deleted(here: IdleWorld) -> None:
    """Its deletion was killed between the tombstone and the end of its process."""
    run = here.create_crashed()
    here.log(run).delete()

    here.supervisor().look()

    assert here.executions.flow_runs.find(run.id) is None
    assert list(here.store.scan("")) == []


def test_what_was_deleted_in_prefect_is_removed_from_the_store(here: IdleWorld) -> None:
    supervisor = here.heard_supervisor()
    kept, removed = here.create(), here.create()
    artifact = ArtifactCreate(key="a", type="markdown", data="x", flow_run_id=removed.id)
    here.prefect.create_artifact(artifact)
    supervisor.look()

    here.prefect.delete_flow_run(removed.id)
    supervisor.look()

    assert {key.split("/")[1] for key in here.store.scan("")} == {f"exec_{kept.id.hex}"}
    filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[removed.id]))
    assert here.prefect.read_artifacts(artifact_filter=filter_) == []


def test_one_that_comes_while_another_goes_hides_it_for_a_minute_at_most(here: IdleWorld) -> None:
    supervisor = here.heard_supervisor()
    removed = here.create()
    supervisor.look()

    here.prefect.delete_flow_run(removed.id)
    kept = here.create()
    supervisor.look()
    here.later = timedelta(seconds=60)
    supervisor.look()

    assert {key.split("/")[1] for key in here.store.scan("")} == {f"exec_{kept.id.hex}"}


def test_what_could_not_be_removed_is_removed_later(here: IdleWorld, monkeypatch: Any) -> None:
    supervisor = here.heard_supervisor()
    removed = here.create()
    supervisor.look()
    here.prefect.delete_flow_run(removed.id)

    def refuse(_: Any) -> None:
        raise StoreUnavailable("delete", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(here.store, "delete", refuse)
        supervisor.look()
    assert list(here.store.scan(""))
    supervisor.look()

    assert list(here.store.scan("")) == []


def test_what_is_gone_before_its_first_heartbeat_is_heard_is_not_removed(here: IdleWorld) -> None:
    """The database may have been replaced in the meantime; nothing shows that it was not."""
    supervisor = here.supervisor()
    run = here.create()
    supervisor.look()
    here.prefect.delete_flow_run(run.id)
    supervisor.look()

    eventually(lambda: supervisor.heartbeat.newest or supervisor.look(), "it has heard itself")
    supervisor.look()
    supervisor.look()

    assert here.log(run).exists()


def test_what_a_restored_database_does_not_know_of_is_not_removed(
    here: IdleWorld, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = here.heard_supervisor()
    forgotten, later = here.create(), here.create()
    supervisor.look()

    supervisor.heartbeat.id = uuid4().hex  # this database has no heartbeats of it
    here.prefect.delete_flow_run(forgotten.id)
    supervisor.look()
    supervisor.look()

    assert "is not as it was" in caplog.text
    assert here.log(forgotten).exists()
    supervisor = here.heard_supervisor()
    supervisor.look()
    here.prefect.delete_flow_run(later.id)
    supervisor.look()
    assert not here.log(later).exists()
    assert here.log(forgotten).exists()
