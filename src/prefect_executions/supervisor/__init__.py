"""The supervisor: it finishes what processes, workers and services leave undone when they die."""

from prefect_executions.supervisor.supervisor import supervise

__all__ = ["supervise"]
