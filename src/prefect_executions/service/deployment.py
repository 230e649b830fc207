"""The deployment of the service to a work pool."""

from collections.abc import Iterable

from prefect.client.orchestration import get_client
from prefect.deployments.runner import DeploymentApplyError, EntrypointType
from prefect.exceptions import ObjectNotFound

from prefect_executions.addresses import is_loopback
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.service.flows import executions_service
from prefect_executions.service.pools import place


def deploy_service(
    *,
    pool: str,
    name: str,
    host: str | None = None,
    port: int,
    image: str | None = None,
    job_variables: Iterable[str] = (),
) -> str:
    """Deploy the service to a work pool.

    Args:
        pool: The work pool; this package must be installed where its workers run, or in the image.
        name: The name of the deployment.
        host: The address that a run listens on; by default loopback, or all addresses where a run
            has a container with a network of its own.
        port: The port.
        image: The image of the containers, where the pool has some.
        job_variables: Job variables, each as `NAME=VALUE`, or as `NAME.KEY=VALUE` for one entry
            of an object.

    Returns:
        What to do next.

    Raises:
        ValueError: There is no such pool, or a run there would not start, or its port would not be
            reached from outside; the message says what is missing.
        PrefectUnavailable: Prefect does not answer, or refuses.
    """
    with prefect_errors(), get_client(sync_client=True) as client:
        try:
            work_pool = client.read_work_pool(pool)
        except ObjectNotFound:
            raise ValueError(
                f"pool: there is no work pool {pool!r}. Make it: "
                f"prefect work-pool create {pool} --type process"
            ) from None
    placement = place(work_pool, image=image, given=job_variables, host=host, port=port)
    deployment = executions_service.to_deployment(
        name,
        parameters={"host": placement.host, "port": port},
        description="The REST service; start a run of it, and cancel that to stop it.",
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=pool,
        job_variables=placement.job_variables,
    )
    try:
        with prefect_errors():
            deployment.apply()  # type: ignore[union-attr]
    except DeploymentApplyError as error:
        raise PrefectUnavailable(f"{error}") from error
    full = f"{executions_service.name}/{name}"
    lines = [f"{full} is deployed to {pool}. Start it: prefect deployment run {full}"]
    if not is_loopback(placement.host):
        lines.append(
            f"It listens on {placement.host}, and starts only when there is a key: "
            "prefect-executions keys create"
        )
    return "\n".join([*lines, *([placement.reached] if placement.reached else [])])
