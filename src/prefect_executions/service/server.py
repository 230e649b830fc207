"""Run the REST service inside a Prefect flow, so that Prefect starts, shows, logs and stops it."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread

import uvicorn
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from prefect_executions.blocks import load_store
from prefect_executions.executions import Executions
from prefect_executions.flow_runs import FlowRuns
from prefect_executions.service.app import create_app
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.supervisor import supervise

_SHUTDOWN_SECONDS = 20  # Prefect kills a cancelled process after 30


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers: signals are Prefect's, which turns them into exceptions."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(*, host: str, port: int) -> None:
    """Serve until the flow run is cancelled or suspended; requests under way are finished.

    A supervisor runs beside it.

    Call it from a sync flow: an async one would take its requests along when it is cancelled.

    Args:
        host: The address to listen on; without an API key a loopback one.
        port: The port.

    Raises:
        ValueError: an address that others can reach, and no API key.
        UnsuitableStore: the store does not keep conditional writes.
        RuntimeError: the address can't be listened on.
    """
    settings = ExecutionsSettings()
    api_key = settings.api_key.get_secret_value() if settings.api_key else None
    if not api_key and not _is_loopback(host):
        raise ValueError(
            f"host: {host!r} can be reached by others, and there is no key. Set "
            "PREFECT_INTEGRATIONS_EXECUTIONS_API_KEY, or listen on 127.0.0.1."
        )
    store = load_store(settings.store)
    store.check()
    with get_client(sync_client=True) as client:
        app = create_app(
            Executions(store.objects(), FlowRuns(client, store=settings.store)),
            api_key=api_key,
            max_body_bytes=settings.max_body_bytes,
        )
        server = _Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,  # uvicorn's own disables Prefect's log handlers
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        get_run_logger().info("Executions are served on http://%s:%d", host, port)
        _run(server)


def _run(server: uvicorn.Server) -> None:
    """Run server and supervisor in threads while this one waits for Prefect's word to stop."""
    ended, stop = Event(), Event()
    failure: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    context = FlowRunContext.get()
    threads = [
        Thread(target=copy_context().run, args=(run,), name="executions-service"),
        Thread(target=copy_context().run, args=(supervise, stop), name="executions-supervisor"),
    ]
    for thread in threads:
        thread.start()
    try:
        # Not `Thread.join`, which no signal interrupts.
        while not ended.wait(0.5):
            if context is not None:
                context.flow_run_suspension_request.raise_if_requested()
    finally:
        server.should_exit = True
        stop.set()
        for thread in threads:
            thread.join()
    raise RuntimeError(
        f"the service ended: is {server.config.host}:{server.config.port} in use?"
    ) from (failure[0] if failure else None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
