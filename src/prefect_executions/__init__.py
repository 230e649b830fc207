"""Durable executions for long-running agent tasks on Prefect: checkpoints in S3, pause, resume."""

from prefect_executions.decorators import execution
from prefect_executions.errors import (
    CheckpointNotFound,
    ExecutionConflict,
    ExecutionError,
    ExecutionNotFound,
    NotAnExecution,
    StateError,
    StoreError,
    StoreUnavailable,
)
from prefect_executions.models import Checkpoint, Execution, ExecutionConfig, Status
from prefect_executions.run import Run
from prefect_executions.steps import step
from prefect_executions.testkit import testing

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "CheckpointNotFound",
    "Execution",
    "ExecutionConfig",
    "ExecutionConflict",
    "ExecutionError",
    "ExecutionNotFound",
    "NotAnExecution",
    "Run",
    "StateError",
    "Status",
    "StoreError",
    "StoreUnavailable",
    "execution",
    "step",
    "testing",
]
