"""The supervisor: it does what is left undone when processes, workers and services die."""

from prefect_executions.supervisor.supervisor import supervise

__all__ = ["supervise"]
