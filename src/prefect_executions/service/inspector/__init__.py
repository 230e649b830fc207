"""The inspector: pages at `/ui`, rendered on the server, that show executions and act on them."""

from prefect_executions.service.inspector.pages import inspector
from prefect_executions.service.inspector.rendering import OPEN_PATHS, PATH
from prefect_executions.service.inspector.session import Session

__all__ = ["OPEN_PATHS", "PATH", "Session", "inspector"]
