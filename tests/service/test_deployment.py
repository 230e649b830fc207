"""The service is deployed to work pools of each type, and the jobs that they render run it."""

import asyncio
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse

from prefect_executions.local import Stack
from prefect_executions.service.deployment import deploy_service
from prefect_executions.service.pools import Job

IMAGE = "registry.example:5000/flows:1"
Pool = Callable[..., str]

_WORKERS = json.loads(
    (
        files("prefect.server.api") / "collections_data/views/aggregate-worker-metadata.json"
    ).read_text()
)
TEMPLATES: dict[str, dict[str, Any]] = {
    type_: worker["default_base_job_configuration"]
    for collection in _WORKERS.values()
    for type_, worker in collection.items()
}
"""The base job templates that Prefect's server has for new pools."""


@pytest.fixture
def pool(prefect: SyncPrefectClient) -> Pool:
    """Makes a work pool of a type, as a new one has it, and returns its name."""

    def make(type_: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> str:
        template = json.loads(json.dumps(TEMPLATES[type_.partition(":")[0]]))
        change(template)
        name = f"pool-{uuid4().hex}"
        prefect.create_work_pool(WorkPoolCreate(name=name, type=type_, base_job_template=template))
        return name

    return make


class Deployed:
    """A deployment of the service, and the job of a run of it."""

    def __init__(
        self, prefect: SyncPrefectClient, pool: str, *variables: str, **given: Any
    ) -> None:
        name = f"to-{pool}"
        self.told = deploy_service(
            **{"pool": pool, "name": name, "port": 4300, "job_variables": variables, **given}
        )
        deployment: DeploymentResponse = prefect.read_deployment_by_name(
            f"executions-service/{name}"
        )
        run = prefect.create_flow_run_from_deployment(deployment.id)
        work_pool = prefect.read_work_pool(pool)
        rendering = Job.from_template_and_values(
            work_pool.base_job_template,
            {**(deployment.job_variables or {}), **(run.job_variables or {})},
        )
        job = asyncio.run(rendering)
        job.prepare_for_flow_run(run, deployment, prefect.read_flow(run.flow_id), work_pool)
        self.parameters, self.entrypoint = run.parameters, deployment.entrypoint
        self.job = job.model_dump()


def refusal(pool: str, *variables: str, **given: Any) -> str:
    with pytest.raises(ValueError, match=":") as refused:
        deploy_service(
            **{"pool": pool, "name": "refused", "port": 4300, "job_variables": variables, **given}
        )
    return str(refused.value)


def test_a_process_listens_on_loopback(prefect: SyncPrefectClient, pool: Pool) -> None:
    deployed = Deployed(prefect, pool("process"), "working_dir=/srv", "env.A=1")

    assert deployed.parameters == {"host": "127.0.0.1", "port": 4300}
    assert deployed.job["working_dir"] == "/srv"
    assert deployed.job["env"]["A"] == "1"
    assert "key" not in deployed.told


def test_a_docker_container_is_reached_by_its_network(
    prefect: SyncPrefectClient, pool: Pool
) -> None:
    env = "env.FORWARDED_ALLOW_IPS=172.16.0.0/12"
    deployed = Deployed(
        prefect, pool("docker"), 'networks=["front"]', "mem_limit=512", env, image=IMAGE
    )

    job = deployed.job
    assert deployed.entrypoint == "prefect_executions.service.flows.executions_service"
    assert deployed.parameters == {"host": "0.0.0.0", "port": 4300}
    assert (job["image"], job["networks"], job["mem_limit"]) == (IMAGE, ["front"], "512")
    assert job["env"]["FORWARDED_ALLOW_IPS"] == "172.16.0.0/12"
    assert job["command"] == "prefect flow-run execute"
    assert "front" in deployed.told
    assert "only when there is a key" in deployed.told


def test_a_docker_container_is_reached_by_its_machine(
    prefect: SyncPrefectClient, pool: Pool
) -> None:
    deployed = Deployed(prefect, pool("docker"), "network_mode=host", image=IMAGE)

    assert deployed.job["network_mode"] == "host"
    assert deployed.parameters == {"host": "127.0.0.1", "port": 4300}


def test_a_docker_container_is_reached_by_a_published_port(
    prefect: SyncPrefectClient, pool: Pool
) -> None:
    def publish(template: dict[str, Any]) -> None:
        template["variables"]["properties"]["container_create_kwargs"] = {"type": "object"}
        variable = "{{ container_create_kwargs }}"
        template["job_configuration"]["container_create_kwargs"] = variable

    name = pool("docker", publish)
    way = 'container_create_kwargs={"ports": {"4300/tcp": 4300}}'
    assert f"--job-variable '{way}'" in refusal(name, image=IMAGE)

    deployed = Deployed(prefect, name, way, image=IMAGE)

    assert deployed.job["container_create_kwargs"] == {"ports": {"4300/tcp": 4300}}
    assert deployed.parameters == {"host": "0.0.0.0", "port": 4300}
    assert "port: 4301" in refusal(name, way, image=IMAGE, port=4301)


def test_a_pod_is_reached_by_a_service(prefect: SyncPrefectClient, pool: Pool) -> None:
    deployed = Deployed(
        prefect,
        pool("kubernetes"),
        "namespace=agents",
        "labels.app.kubernetes.io/name=x",
        image=IMAGE,
    )

    manifest = deployed.job["job_manifest"]
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    assert manifest["metadata"]["namespace"] == "agents"
    assert manifest["metadata"]["labels"] == {"app.kubernetes.io/name": "x"}
    assert deployed.parameters == {"host": "0.0.0.0", "port": 4300}
    # Prefect's worker puts these on the pod.
    [selector] = [word for word in deployed.told.split() if word.startswith("prefect.io/")]
    assert deployed.job["labels"][selector.rstrip(":")] == "executions-service"


def test_an_ecs_task_is_reached_at_its_address(prefect: SyncPrefectClient, pool: Pool) -> None:
    deployed = Deployed(prefect, pool("ecs:push"), "cpu=512", "env.A=1", image=IMAGE)

    [container] = deployed.job["task_definition"]["containerDefinitions"]
    request = deployed.job["task_run_request"]
    assert container["image"] == IMAGE
    assert request["launchType"] == "FARGATE"
    assert request["overrides"]["cpu"] == 512
    assert request["overrides"]["containerOverrides"][0]["environment"] == {"A": "1"}
    assert deployed.parameters == {"host": "0.0.0.0", "port": 4300}


def test_an_ecs_task_on_ec2_needs_a_mapped_port(prefect: SyncPrefectClient, pool: Pool) -> None:
    def map_port(template: dict[str, Any]) -> None:
        [container] = template["job_configuration"]["task_definition"]["containerDefinitions"]
        container["portMappings"] = [{"containerPort": 4300}]

    assert "launch_type=FARGATE" in refusal(pool("ecs"), "launch_type=EC2", image=IMAGE)

    mapped = Deployed(prefect, pool("ecs", map_port), "launch_type=EC2", image=IMAGE)
    own = Deployed(prefect, pool("ecs"), "launch_type=EC2", "task_definition_arn=arn:aws:ecs:1")

    assert mapped.parameters == own.parameters == {"host": "0.0.0.0", "port": 4300}
    assert own.job["task_run_request"]["taskDefinition"] == "arn:aws:ecs:1"
    assert "image: " in refusal(pool("ecs"), "task_definition_arn=arn:aws:ecs:1", image=IMAGE)


def test_a_pool_may_name_the_image(prefect: SyncPrefectClient, pool: Pool) -> None:
    def name(template: dict[str, Any]) -> None:
        template["variables"]["properties"]["image"]["default"] = IMAGE

    deployed = Deployed(prefect, pool("kubernetes", name))

    manifest = deployed.job["job_manifest"]
    assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


@pytest.mark.parametrize(
    "default", [None, "prefecthq/prefect:3-latest", "docker.io/prefecthq/prefect"]
)
@pytest.mark.parametrize("type_", ["docker", "kubernetes", "ecs", "azure-container-instance"])
def test_the_image_of_prefect_is_refused(pool: Pool, type_: str, default: str | None) -> None:
    def name(template: dict[str, Any]) -> None:
        template["variables"]["properties"]["image"]["default"] = default

    told = refusal(pool(type_, name))

    assert "image: " in told
    assert "Give --image" in told
    assert ("port: " in told) is (type_ == "docker")  # all that is missing is said at once


@pytest.mark.parametrize("type_", ["cloud-run", "cloud-run-v2", "vertex-ai"])
def test_a_job_that_takes_no_requests_is_refused(pool: Pool, type_: str) -> None:
    assert "takes no requests. Run `prefect-executions serve" in refusal(pool(type_), image=IMAGE)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_container_does_not_listen_on_its_own_loopback(pool: Pool, host: str) -> None:
    assert f"host: '{host}'" in refusal(pool("kubernetes"), image=IMAGE, host=host)


def test_no_pool_is_no_deployment(stack: Stack) -> None:
    assert refusal("no-such-pool").startswith("pool: there is no work pool 'no-such-pool'.")


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        (["image=b"], "image: it is a job variable, too"),
        (["networks=front"], "job-variable: Validation failed for field 'networks'"),
        (["nets=1"], "it has auto_remove, command, "),
        (["env"], "job-variable: 'env' is not NAME=VALUE."),
        (["env.=1"], "job-variable: 'env.=1' is not NAME=VALUE."),
        (["=1"], "job-variable: '=1' is not NAME=VALUE."),
        (["name=a", "name.b=c"], "'name' is given whole and by its keys"),
    ],
)
def test_a_job_variable_that_can_t_be_is_refused(
    pool: Pool, variables: list[str], why: str
) -> None:
    assert why in refusal(pool("docker"), *variables, image=IMAGE)


def test_another_deployment_of_the_same_name_is_compared_as_well(
    prefect: SyncPrefectClient, pool: Pool
) -> None:
    name = pool("kubernetes")
    Deployed(prefect, name, image=IMAGE)

    told = refusal(name, "pod_watch_timeout_seconds=soon", name=f"to-{name}", image=IMAGE)

    assert "'pod_watch_timeout_seconds'" in told


def test_the_image_of_a_process_is_refused(pool: Pool) -> None:
    assert "has no variable for it" in refusal(pool("process"), image=IMAGE)
