"""The routes of the REST API, as one router for each part of its documents."""

from prefect_executions.service.routes import agents, checkpoints, control, executions

# In the order of the documents.
ROUTERS = (executions.router, control.router, checkpoints.router, agents.router)

__all__ = ["ROUTERS"]
