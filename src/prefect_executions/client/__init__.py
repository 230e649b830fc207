"""A client of the REST service, sync and async; it needs neither Prefect nor a store.

from prefect_executions.client import Client

with Client("https://executions.example.com", "pxk_…") as client:
    execution = client.create(name="survey", deployment="survey/default")
    ended = client.wait(execution.id, timeout=3600)
"""

from prefect_executions.client.aio import AsyncClient
from prefect_executions.client.bisection import Bisection, bisect
from prefect_executions.client.problems import (
    AttemptSuperseded,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    ServiceError,
    Unauthorized,
    Unavailable,
)
from prefect_executions.client.sync import Client

__all__ = [
    "AsyncClient",
    "AttemptSuperseded",
    "Bisection",
    "Client",
    "Conflict",
    "Forbidden",
    "Invalid",
    "NotFound",
    "RateLimited",
    "ServiceError",
    "Unauthorized",
    "Unavailable",
    "bisect",
]
