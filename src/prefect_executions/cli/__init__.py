"""The command `prefect-executions`."""

from prefect_executions.cli.app import main

__all__ = ["main"]
