"""The service alone, in a process of its own, to be measured from outside: `PORT CACHE_BYTES`."""

import sys

import uvicorn
from prefect.client.orchestration import get_client

from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service import create_app
from prefect_executions.service.app import Limits
from prefect_executions.service.keyring import Keyring
from prefect_executions.service.metrics import MeteredObjects, Metrics
from prefect_executions.storage.cache import CachedObjects
from prefect_executions.stores.store import load_store

KEY = "benchmark"


def main() -> None:
    """Serve until killed."""
    port, cache_bytes = map(int, sys.argv[1:])
    with get_client(sync_client=True) as client:
        metrics = Metrics()
        objects = MeteredObjects(load_store().objects(), metrics)
        app = create_app(
            Executions(CachedObjects(objects, max_bytes=cache_bytes), FlowRuns(client)),
            Keyring(client, api_key=KEY),
            limits=Limits(rate="1000000/second"),
            metrics=metrics,
        )
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
