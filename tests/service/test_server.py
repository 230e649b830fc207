"""Starting the server."""

import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.service.server import serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_a_key_it_only_listens_on_loopback(prefect: SyncPrefectClient, host: str) -> None:
    with pytest.raises(ValueError, match=r"host: .* can be reached by others"):
        serve(host=host, port=1)
