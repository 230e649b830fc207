"""The service as a Prefect flow, and its deployment."""

from prefect import flow
from prefect.deployments.runner import DeploymentApplyError, EntrypointType

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.service.server import serve


@flow(name="executions-service")
def executions_service(host: str = "127.0.0.1", port: int = 4300) -> None:
    """Serve executions over REST until the run is cancelled.

    Args:
        host: The address to listen on; a loopback one unless there is a key.
        port: The port.
    """
    serve(host=host, port=port)


def deploy_service(*, pool: str, name: str, host: str, port: int) -> str:
    """Deploy the service to a work pool.

    Args:
        pool: The work pool; this package must be installed where its workers run.
        name: The name of the deployment.
        host: The address that a run listens on.
        port: The port.

    Returns:
        What to do next.

    Raises:
        PrefectUnavailable: Prefect does not answer, or refuses: perhaps there is no such pool.
    """
    deployment = executions_service.to_deployment(
        name,
        parameters={"host": host, "port": port},
        description="The REST service; start a run of it, and cancel that to stop it.",
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=pool,
    )
    try:
        with prefect_errors():
            deployment.apply()  # type: ignore[union-attr]
    except DeploymentApplyError as error:
        raise PrefectUnavailable(f"{error}") from error
    full = f"{executions_service.name}/{name}"
    return f"{full} is deployed to {pool}. Start it: prefect deployment run {full}"
