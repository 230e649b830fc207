"""Fixtures of the tests of steps: no effects at the start, and a store that fails."""

from collections.abc import Iterator

import pytest

from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.testkit import TestKit, testing
from stores import Counting, Faulty
from trials import acts, made


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    acts.clear()
    made.clear()


@pytest.fixture
def faulty() -> Faulty:
    return Faulty(Counting(MemoryObjects()))


@pytest.fixture
def faulty_kit(quick: None, faulty: Faulty) -> Iterator[TestKit]:
    with testing(faulty) as kit:
        yield kit
