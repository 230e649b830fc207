"""Agents with counted effects: no model is called over the network."""

import pytest

from trials import acts, made


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    acts.clear()
    made.clear()
