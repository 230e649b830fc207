"""The REST service as a flow: deploy it, and Prefect starts, shows, logs and stops it."""

from prefect_executions.service.flows import executions_service

__all__ = ["executions_service"]
