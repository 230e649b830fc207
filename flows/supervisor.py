"""The supervisor as a flow, for where it shall run apart from the service, which has its own."""

from prefect import flow

from prefect_executions.supervisor import supervise


@flow(name="executions-supervisor")
def executions_supervisor() -> None:
    """Look after executions until the run is cancelled."""
    supervise()
