"""A log in memory, whose requests to the store are counted."""

import pytest

from conftest import Clock
from logs import ID
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting


@pytest.fixture
def store(memory: MemoryObjects) -> Counting:
    return Counting(memory)


@pytest.fixture
def log(store: Counting, clock: Clock) -> ExecutionLog:
    return ExecutionLog(store, ID, clock=clock)


@pytest.fixture
def head(log: ExecutionLog) -> Head:
    """The head of a log with an attempt."""
    log.create({"name": "a task"}, b'{"n": 0}')
    return log.attempt()
