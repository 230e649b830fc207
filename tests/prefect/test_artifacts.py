"""The page of a run as an artifact in Prefect."""

from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.artifacts import KEY, PageArtifact
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects


def artifacts(prefect: SyncPrefectClient, run_id: UUID) -> list[Artifact]:
    filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    return prefect.read_artifacts(artifact_filter=filter_)


def test_a_page_that_somebody_has_deleted_is_written_anew(prefect: SyncPrefectClient) -> None:
    executions = Executions(MemoryObjects(), FlowRuns(prefect, store=uuid4().hex))
    execution, _ = Creation(executions).create(name="a run")
    run = executions.run(execution.id)
    page, shown = PageArtifact(prefect, run.id), executions.run_page(run)
    page.show(shown)
    [first] = artifacts(prefect, run.id)
    assert first.id is not None
    prefect.delete_artifact(first.id)

    page.show(shown)
    page.show(shown)

    [second] = artifacts(prefect, run.id)
    assert second.id != first.id
    assert second.data == first.data


@pytest.mark.parametrize("shown", [False, True])
def test_of_an_execution_that_was_deleted_no_page_is_written(
    prefect: SyncPrefectClient, shown: bool
) -> None:
    executions = Executions(MemoryObjects(), FlowRuns(prefect, store=uuid4().hex))
    execution, _ = Creation(executions).create(name="a run")
    run = executions.run(execution.id)
    page, told = PageArtifact(prefect, run.id), executions.run_page(run)
    if shown:
        page.show(told)
    executions.delete(execution.id)

    with pytest.raises(ExecutionNotFound):
        page.show(told)

    assert artifacts(prefect, run.id) == []


def test_finding_a_page_keeps_its_duplicates_and_removing_them_keeps_one(
    prefect: SyncPrefectClient,
) -> None:
    executions = Executions(MemoryObjects(), FlowRuns(prefect, store=uuid4().hex))
    execution, _ = Creation(executions).create(name="a run")
    run = executions.run(execution.id)
    for _ in range(2):
        create = ArtifactCreate(key=KEY, flow_run_id=run.id, metadata_={"status": "failed"})
        prefect.create_artifact(create)
    page = PageArtifact(prefect, run.id)

    assert page.find() == "failed"
    assert len(artifacts(prefect, run.id)) == 2

    page.remove_duplicates()
    assert len(artifacts(prefect, run.id)) == 1
    assert page.find() == "failed"
