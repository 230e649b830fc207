"""The service as a Prefect flow."""

from prefect import flow

from prefect_executions.service.server import serve


@flow(name="executions-service")
def executions_service(host: str = "127.0.0.1", port: int = 4300) -> None:
    """Serve executions over REST until the run is cancelled.

    Args:
        host: The address to listen on; a loopback one unless there is a key.
        port: The port.
    """
    serve(host=host, port=port)
