"""The checkpointer passes LangGraph's own suite, whole, on every kind of store."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import CapabilityReport

from prefect_executions.langgraph import Saver
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.s3 import S3Objects

LAWS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


def report_on(objects: Objects) -> CapabilityReport:
    @checkpointer_test(name=type(objects).__name__)
    async def saver() -> AsyncIterator[Saver]:
        yield Saver(objects)

    return asyncio.run(validate(saver))


def require_whole(report: CapabilityReport) -> None:
    """Every law of every capability, none failed, none skipped, none that the suite gained."""
    report.print_report()
    found = {
        name: (result.tests_passed, result.tests_failed, result.tests_skipped, result.failures)
        for name, result in report.results.items()
    }
    assert found == {name: (count, 0, 0, []) for name, count in LAWS.items()}
    assert report.passed_all()


def test_in_memory(memory: MemoryObjects) -> None:
    require_whole(report_on(memory))


def test_in_a_directory(directory: DirectoryObjects) -> None:
    require_whole(report_on(directory))


@pytest.mark.journey
def test_on_a_real_s3_server(s3: S3Objects) -> None:
    require_whole(report_on(s3))
