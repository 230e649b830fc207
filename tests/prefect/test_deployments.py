"""Which deployments are known as those of executions, and what their flows take."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions import execution
from prefect_executions.errors import DeploymentNotFound, ParametersError, UnsuitableDeployment
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.deployments import find_deployment, tag_deployment
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects


def create(prefect: SyncPrefectClient, deployment: UUID, **parameters: Any) -> None:
    executions = Executions(MemoryObjects(), FlowRuns(prefect, store=uuid4().hex))
    Creation(executions).create(name="a", deployment=str(deployment), parameters=parameters)


@flow
def plain(n: int = 0) -> None: ...


@flow
@execution
def nothing_taken() -> None: ...


@flow(description="It counts")
@execution
def counting(to: int, *, step: int = 1) -> None: ...


@flow(description="It has a word of its own")
@execution
def unknown() -> None: ...


def deploy(deployed: Flow[Any, Any], **fields: Any) -> UUID:
    made = deployed.to_deployment(uuid4().hex, **fields)
    id_ = made.apply()
    assert isinstance(id_, UUID)
    return id_


def test_executions_are_known_as_they_are_deployed(prefect: SyncPrefectClient) -> None:
    create(prefect, deploy(nothing_taken))
    create(prefect, deploy(counting), to=3)
    create(prefect, deploy(plain, tags=["execution"]))


@pytest.mark.parametrize("deployed", [plain, unknown], ids=lambda value: value.name)
def test_others_are_refused(prefect: SyncPrefectClient, deployed: Flow[Any, Any]) -> None:
    id_ = deploy(deployed)
    before = prefect.count_flow_runs()

    with pytest.raises(UnsuitableDeployment, match="`@execution` below its `@flow`"):
        create(prefect, id_)

    assert prefect.count_flow_runs() == before


def test_a_deployment_is_known_by_its_first_run(prefect: SyncPrefectClient) -> None:
    id_ = deploy(unknown, tags=["mine"])
    run = prefect.create_flow_run_from_deployment(id_)

    tag_deployment(prefect, run)
    tag_deployment(prefect, run)

    assert prefect.read_deployment(id_).tags == ["mine", "execution"]
    create(prefect, id_)
    prefect._client.delete(f"/deployments/{id_}").raise_for_status()
    tag_deployment(prefect, run)  # nothing is left to be tagged


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"to": 1, "too": 2}, r"no parameter 'too'\. The flow takes: 'to', 'step'\."),
        ({"step": 1}, "lacks 'to'"),
        ({"to": "many"}, "many"),
    ],
    ids=["unknown", "missing", "type"],
)
def test_parameters_that_the_flow_does_not_take_are_named(
    prefect: SyncPrefectClient, parameters: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ParametersError, match=problem):
        create(prefect, deploy(counting), **parameters)


def test_a_default_of_the_deployment_is_a_parameter_given(prefect: SyncPrefectClient) -> None:
    create(prefect, deploy(counting, parameters={"to": 3}))


def test_a_deployment_is_found_by_its_name_as_it_is_written(prefect: SyncPrefectClient) -> None:
    of = f"flow {uuid4().hex}"
    flow_id = prefect.create_flow_from_name(of)
    named = {
        name: prefect.create_deployment(flow_id, name) for name in ("v1", "v1#2", "what?", "é")
    }

    for name, deployment in named.items():
        assert find_deployment(prefect, f"{of}/{name}").id == deployment
    for wrong in ("v1#3", "v1?", "v1?x=1", "v1%00", "v1\0", "v%31"):
        with pytest.raises(DeploymentNotFound):
            find_deployment(prefect, f"{of}/{wrong}")
