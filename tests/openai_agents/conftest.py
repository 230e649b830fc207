"""Agents with counted effects: no model is called over the network."""

import pytest
from agents import set_tracing_disabled

from trials import acts, made

set_tracing_disabled(True)


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    acts.clear()
    made.clear()
