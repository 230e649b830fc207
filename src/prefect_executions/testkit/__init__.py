"""Testing flows: executions in memory that crash and pause where a test wants it.

The test brings the Prefect server, such as `prefect_test_harness`. Attempts run in the process of
the test, one after the other, as a worker would start them.
"""

from prefect_executions.testkit.kit import TestKit, testing
from prefect_executions.testkit.processes import Crash, MemoryStore
from prefect_executions.testkit.replaying import replay
from prefect_executions.testkit.survival import Survival
from prefect_executions.testkit.trial import Trial

__all__ = ["Crash", "MemoryStore", "Survival", "TestKit", "Trial", "replay", "testing"]
