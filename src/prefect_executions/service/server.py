"""Run the REST service inside a Prefect flow, so that Prefect starts, shows, logs and stops it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from threading import Event, Thread

import uvicorn
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from prefect_executions.background import Scheduler
from prefect_executions.blocks.store import load_store
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.artifacts import PageUpdates
from prefect_executions.prefect.events import CheckpointNews
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service.app import Limits, Openness, create_app
from prefect_executions.service.keyring import Keyring
from prefect_executions.service.metrics import MeteredObjects, Metrics
from prefect_executions.service.middleware.authentication import is_loopback
from prefect_executions.service.streams.hub import EventHub
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.cache import CachedObjects
from prefect_executions.supervisor.supervisor import supervise
from prefect_executions.telemetry import show_log
from prefect_executions.webhooks.dispatcher import deliver

_SHUTDOWN_SECONDS = 20  # Prefect kills a cancelled process after 30


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers: signals are Prefect's, which turns them into exceptions."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(*, host: str, port: int) -> None:
    """Serve until the flow run is cancelled or suspended; requests under way are finished.

    A supervisor and the delivery of webhooks run beside it.

    Call it from a sync flow: an async one would take its requests along when it is cancelled.

    Args:
        host: The address to listen on; without any key a loopback one.
        port: The port.

    Raises:
        ValueError: an address that others can reach, and no key.
        UnsuitableStore: the store does not keep conditional writes.
        RuntimeError: the address can't be listened on.
    """
    show_log()
    settings = ExecutionsSettings()
    store = load_store(settings.store)
    store.check()
    with ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        key = settings.api_key.get_secret_value() if settings.api_key else None
        keyring = Keyring(client, api_key=key)
        stack.callback(keyring.close)
        if keyring.is_open and not is_loopback(host):
            raise ValueError(
                f"host: {host!r} can be reached by others, and there is no key. Make one by "
                "`prefect-executions keys create`, or listen on 127.0.0.1."
            )
        metrics, hub = Metrics(), EventHub()
        pacer = Scheduler("executions-news")
        stack.callback(pacer.stop)
        news = CheckpointNews(pacer.after)
        stack.callback(news.close)
        objects = CachedObjects(
            MeteredObjects(store.objects(), metrics), max_bytes=settings.cache_bytes
        )
        executions = Executions(objects, FlowRuns(client, store=settings.store), tell=news.saved)
        page_pacer = Scheduler("executions-pages")
        stack.callback(page_pacer.stop)
        pages = PageUpdates(
            page_pacer.after,
            lambda run_id: executions.run_page(executions.flow_runs.read(run_id)),
            client,
        )
        stack.callback(pages.close)
        app = create_app(
            executions,
            keyring,
            limits=Limits(
                settings.max_body_bytes,
                settings.rate_limit,
                settings.failure_limit,
                settings.rate_limit_storage,
            ),
            openness=Openness(settings.public_docs, settings.public_metrics, settings.cors_origins),
            deployments=settings.deployments,
            hub=hub,
            metrics=metrics,
            changed=pages.changed,
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
        metered = partial(MeteredObjects, metrics=metrics)
        watch = partial(supervise, note=metrics.acted, metered=metered)
        _run(server, hub, beside=[watch, deliver])


def _run(server: uvicorn.Server, hub: EventHub, beside: list[Callable[[Event], None]]) -> None:
    """Run the server in a thread while this one waits for Prefect's word to stop.

    Args:
        server: The server.
        hub: Keeps streams open, which would keep the server from ending.
        beside: What runs in other threads until an event is set.
    """
    ended, stop = Event(), Event()
    failure: list[BaseException] = []

    def run(part: Callable[[], None]) -> None:
        """Of these none ends before it is told to: where one does, all end."""
        try:
            part()
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    context = FlowRunContext.get()
    parts = [server.run, *(partial(each, stop) for each in beside)]
    threads = [Thread(target=copy_context().run, args=(run, part)) for part in parts]
    for thread in threads:
        thread.start()
    try:
        # Not `Thread.join`, which no signal interrupts.
        while not ended.wait(0.5):
            if context is not None:
                context.flow_run_suspension_request.raise_if_requested()
    finally:
        hub.close()
        server.should_exit = True
        stop.set()
        for thread in threads:
            thread.join()
    told = failure and not isinstance(failure[0], SystemExit)  # uvicorn's, which logs why
    why = f"{failure[0]}" if told else "is the port in use?"
    raise RuntimeError(
        f"the service on {server.config.host}:{server.config.port} ended: {why}"
    ) from (failure[0] if failure else None)
