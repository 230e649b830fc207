"""The routes of the REST API, as one router; a module for each part of its documents."""

from fastapi import APIRouter

from prefect_executions.service.routes import agents, checkpoints, control, executions

# In the order of the documents. FastAPI prepares the routes of each included router when a request
# first reaches it, which is not safe beside another app's threads: one router is prepared once.
router = APIRouter(
    routes=[
        route for part in (executions, control, checkpoints, agents) for route in part.router.routes
    ]
)

__all__ = ["router"]
