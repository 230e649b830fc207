"""Runs the REST service inside a Prefect flow, so that Prefect starts, shows and stops it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from threading import Event, Thread

import uvicorn
from fastapi import FastAPI
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.logging import get_run_logger

from prefect_executions.addresses import is_loopback
from prefect_executions.background import Scheduler
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.artifacts import PageUpdates
from prefect_executions.prefect.events import CheckpointNews
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service.app import Limits, Openness, create_app
from prefect_executions.service.keyring import Keyring
from prefect_executions.service.metrics import MeteredObjects, Metrics
from prefect_executions.service.reach import Reach, reached
from prefect_executions.service.streams.hub import EventHub
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.cache import CachedObjects
from prefect_executions.stores.store import load_store
from prefect_executions.supervisor.supervisor import supervise
from prefect_executions.telemetry import show_log
from prefect_executions.webhooks.dispatcher import deliver

_SHUTDOWN_SECONDS = 20  # Prefect kills a cancelled process after 30
# A connection that the server closes just as its client sends a request looks like a lost answer.
# So clients have to close idle ones first: httpx does after 5 s, load balancers of AWS after 60 s.
_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers: Prefect handles signals, and turns them into exceptions."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(*, host: str, port: int) -> None:
    """Serve until the flow run is cancelled or suspended; open requests are finished.

    A run without a deployment, whose process a person has started, completes by SIGTERM or Ctrl-C.

    A supervisor and the delivery of webhooks run beside the server.

    Call it from a sync flow: the cancellation of an async flow would cancel its requests, too.

    Args:
        host: The address to listen on; a loopback address when there is no key.
        port: The port.

    Raises:
        ValueError: Others can reach the address, and there is no key.
        UnsuitableStore: The store does not support conditional writes.
        ForeignStore: The store belongs to another Prefect.
        RuntimeError: The server can't listen on the address.
    """
    show_log()
    settings = ExecutionsSettings()
    store = load_store(settings.store)
    store.check()
    store.claim()
    with ExitStack() as stack:
        metrics, hub = Metrics(), EventHub()
        metered = partial(MeteredObjects, metrics=metrics)
        reach = stack.enter_context(reached(store, settings.away_seconds, metered=metered))
        key = settings.api_key.get_secret_value() if settings.api_key else None
        keyring = Keyring(reach.client, api_key=key)
        stack.callback(keyring.close)
        if keyring.is_open and not is_loopback(host):
            raise ValueError(
                f"host: {host!r} can be reached by others, and there is no key. Make one by "
                "`prefect-executions keys create`, or listen on 127.0.0.1."
            )
        server = _Server(
            uvicorn.Config(
                _make_app(stack, settings, reach, keyring, hub, metrics),
                host=host,
                port=port,
                log_config=None,  # uvicorn's own disables Prefect's log handlers
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        get_run_logger().info("Executions are served on http://%s:%d", host, port)
        watch = partial(supervise, note=metrics.acted, metered=metered)
        _run(server, hub, beside=[watch, partial(deliver, metered=metered)])


def _make_app(
    stack: ExitStack,
    settings: ExecutionsSettings,
    reach: Reach,
    keyring: Keyring,
    hub: EventHub,
    metrics: Metrics,
) -> FastAPI:
    """Make the ASGI application; `stack` closes what it uses."""
    scheduler, page_scheduler = Scheduler("executions-news"), Scheduler("executions-pages")
    stack.callback(scheduler.stop)
    news = CheckpointNews(scheduler.after)
    stack.callback(news.close)
    objects = CachedObjects(reach.objects, max_bytes=settings.cache_bytes)
    executions = Executions(objects, FlowRuns(reach.client, store=settings.store), tell=news.saved)
    stack.callback(page_scheduler.stop)
    pages = PageUpdates(
        page_scheduler.after,
        lambda run_id: executions.run_page(executions.flow_runs.read(run_id)),
        reach.client,
    )
    stack.callback(pages.close)
    return create_app(
        executions,
        keyring,
        limits=Limits(
            settings.max_body_bytes,
            settings.rate_limit,
            settings.failure_limit,
            settings.rate_limit_storage,
            settings.stream_limit,
        ),
        openness=Openness(settings.public_docs, settings.public_metrics, settings.cors_origins),
        deployments=settings.deployments,
        allowed_deployments=settings.allowed_deployments,
        hub=hub,
        metrics=metrics,
        changed=pages.changed,
        circuits=reach.circuits,
    )


def _run(server: uvicorn.Server, hub: EventHub, beside: list[Callable[[Event], None]]) -> None:
    """Run the server in a thread, while this one waits for Prefect to stop the flow run.

    Args:
        server: The server.
        hub: Closed first, since the server does not end while streams are open.
        beside: Functions that run in other threads until an event is set.
    """
    ended, stop = Event(), Event()
    failure: list[BaseException] = []

    def run(part: Callable[[], None]) -> None:
        """Run one part; when it ends by itself, all parts end."""
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
    is_stopped = False
    try:
        # Not `Thread.join`, which no signal interrupts.
        while not ended.wait(0.5):
            if context is not None:
                context.flow_run_suspension_request.raise_if_requested()
    except (KeyboardInterrupt, TerminationSignal):
        if context is None or context.flow_run is None or context.flow_run.deployment_id:
            raise  # its worker stops it, and sets the state that it ends in
        is_stopped = True
    finally:
        hub.close()
        server.should_exit = True
        stop.set()
        for thread in threads:
            thread.join()
    if is_stopped and not failure:
        get_run_logger().info("The service was stopped, and has ended.")
        return
    has_reason = failure and not isinstance(failure[0], SystemExit)  # uvicorn's, which logs why
    why = f"{failure[0]}" if has_reason else "is the port in use?"
    raise RuntimeError(
        f"the service on {server.config.host}:{server.config.port} ended: {why}"
    ) from (failure[0] if failure else None)
