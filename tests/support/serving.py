"""The REST service on a port of this machine, for clients in other processes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import uvicorn
from fastapi import FastAPI
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.executions.executions import Executions
from prefect_executions.local import free_ports
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service import create_app
from prefect_executions.service.keyring import Keyring
from prefect_executions.storage.objects import Objects
from rest import KEY


@contextmanager
def served(
    prefect: SyncPrefectClient,
    objects: Objects,
    *,
    store: str,
    api_key: str | None = KEY,
    **options: Any,
) -> Iterator[str]:
    """Start a replica of the service. Returns its URL."""
    flow_runs = FlowRuns(prefect, store=store, wait=lambda _: None)
    keyring = Keyring(prefect, api_key=api_key)
    app = create_app(Executions(objects, flow_runs), keyring, **options)
    try:
        with serving(app) as url:
            yield url
    finally:
        keyring.close()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application on a port of this machine. Returns its URL."""
    port = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    # In this context, so that events go to the server in the current settings.
    run = copy_context().run
    thread = threading.Thread(target=run, args=(server.run,), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.hub.close()
        server.should_exit = True
        thread.join()
