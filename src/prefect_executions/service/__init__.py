"""The REST service: `create_app` makes it, `serve` runs it inside a Prefect flow."""

from prefect_executions.service.app import create_app
from prefect_executions.service.server import serve

__all__ = ["create_app", "serve"]
