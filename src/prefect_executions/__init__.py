"""Durable executions for long-running agent tasks on Prefect: checkpoints in S3, pause, resume."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_executions.config import ExecutionConfig, Status
    from prefect_executions.errors import (
        CheckpointNotFound,
        ExecutionConflict,
        ExecutionError,
        ExecutionNotFound,
        NotAnExecution,
        StateError,
        StoreError,
        StoreRefused,
        StoreUnavailable,
    )
    from prefect_executions.models import Checkpoint, Execution
    from prefect_executions.runtime.decorator import execution
    from prefect_executions.runtime.run import Run
    from prefect_executions.steps.named import arecord, record
    from prefect_executions.steps.step import step
    from prefect_executions.testkit import replay, testing

__version__ = "0.1.0"

_HOMES = {
    "config": ["ExecutionConfig", "Status"],
    "runtime.decorator": ["execution"],
    "errors": [
        "CheckpointNotFound",
        "ExecutionConflict",
        "ExecutionError",
        "ExecutionNotFound",
        "NotAnExecution",
        "StateError",
        "StoreError",
        "StoreRefused",
        "StoreUnavailable",
    ],
    "models": ["Checkpoint", "Execution"],
    "runtime.run": ["Run"],
    "steps.named": ["arecord", "record"],
    "steps.step": ["step"],
    "testkit": ["replay", "testing"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

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
    "StoreRefused",
    "StoreUnavailable",
    "arecord",
    "execution",
    "record",
    "replay",
    "step",
    "testing",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for: the client and the CLI do without Prefect, which takes seconds."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What there is, loaded or not."""
    return sorted({*globals(), *__all__})
