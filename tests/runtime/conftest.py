"""Flows of the tests of the runtime run as fast as Prefect can."""

import pytest


@pytest.fixture(autouse=True)
def unburdened(request: pytest.FixtureRequest) -> None:
    """Wherever there is a server, all is `quick`."""
    if "stack" in request.fixturenames:
        request.getfixturevalue("quick")
