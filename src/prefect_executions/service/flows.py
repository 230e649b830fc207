"""The service as a flow that Prefect starts, shows, logs and stops."""

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
    """Deploy the service to a work pool; what to do next.

    Args:
        pool: The work pool; where its workers run, this package has to be installed.
        name: Of the deployment.
        host: The address that a run listens on.
        port: The port.

    Raises:
        PrefectUnavailable: Prefect does not answer, or refuses: it has no such pool, perhaps.
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
