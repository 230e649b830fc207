"""A keyring for the tests of the middleware."""

import pytest

from guarded import NOWHERE, SETTINGS_KEY, Known


@pytest.fixture
def keyring() -> Known:
    return Known(NOWHERE, api_key=SETTINGS_KEY)
