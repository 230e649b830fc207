"""The REST service as a flow: deploy it, and Prefect starts, shows, logs and stops it."""

from prefect import flow

from prefect_executions.service import serve


@flow(name="executions-service")
def executions_service(host: str = "127.0.0.1", port: int = 4300) -> None:
    """Serve executions over REST until the run is cancelled.

    Args:
        host: The address to listen on; a loopback one unless an API key is set.
        port: The port.
    """
    serve(host=host, port=port)
