"""Running a flow's function as an attempt of its execution: beginning, trying again, ending."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from prefect.client.orchestration import get_client
from prefect.futures import resolve_futures_to_states
from prefect.logging import get_run_logger
from rich.filesize import decimal

from prefect_executions.background import Scheduler
from prefect_executions.blocks.store import ExecutionStore
from prefect_executions.errors import (
    AlreadyExists,
    ExecutionDeleted,
    ExecutionNotFound,
    PrefectUnavailable,
    StoreUnavailable,
)
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.log.entry import Entry
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.models import ExecutionConfig
from prefect_executions.prefect.artifacts import AttemptPage, PageArtifact
from prefect_executions.prefect.events import CheckpointNews, beat_of_run, send_attempt_ended
from prefect_executions.prefect.resume_form import go_back
from prefect_executions.prefect.tags import RETENTION, add_tags, tags_of
from prefect_executions.runtime.interrupts import Interrupt, TaskInterrupt, ThreadInterrupt
from prefect_executions.runtime.ownership import Ownership
from prefect_executions.runtime.run import Run, entered, patiently
from prefect_executions.runtime.writer import Durability, LogWriter
from prefect_executions.serialization import JsonType, migrated
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.steps.undo import undo_async, undo_sync

R = TypeVar("R")
S = TypeVar("S")


def open_run(
    store: Callable[[], ExecutionStore],
    state_type: JsonType[S],
    settings: ExecutionConfig,
    durability: Durability,
    migrate: Callable[[Any], Any] | None,
    interrupt: Interrupt,
) -> Run[S]:
    """Begin an attempt of the execution that this flow run is; `Run.close` ends it.

    Args:
        store: Loads the store.
        state_type: The type of the state.
        settings: The flow's own settings.
        durability: When what it saves is durable.
        migrate: Makes of an older state, as JSON, one that fits its type.
        interrupt: Ends the flow's function.

    Raises:
        NotAnExecution: there is no flow run here.
        Pause: the run is not this process's (any more); Prefect ends the process quietly.
        StateError: the state in the log does not fit the type.
        DurationExceeded: the execution has no time left.
        CheckpointNotFound: the one chosen in the Resume form is not there.
        StoreUnavailable, PrefectUnavailable: for a minute, and no supervisor can try again.
    """
    with ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        ownership = Ownership.here(client)
        # Two, so that a slow store does not keep the heart from beating.
        heart, pacer = Scheduler("execution-heart"), Scheduler("execution-pacer")
        stack.callback(heart.stop)
        heart.every(
            ExecutionsSettings().heartbeat_seconds,
            lambda: beat_of_run(ownership.run.id, ownership.run.name),
            at_once=True,
        )
        warn = partial(get_run_logger().warning, "%s")
        try:
            patiently(ownership.check_start)  # a run held meanwhile must not wait for the store
            kept_in = patiently(store)
            log = ExecutionLog(kept_in.objects(), execution_id(ownership.run.id))
            tags = [*tags_of(kept_in.name), *([RETENTION] if settings.removes else [])]
            patiently(lambda: add_tags(client, ownership.run, *tags))
            patiently(lambda: ownership.take_choice(lambda choice: go_back(log, choice, warn)))
            before = patiently(lambda: _version_before(log))
            head = patiently(lambda: _begin(log, ownership, settings))
        except (StoreUnavailable, PrefectUnavailable) as away:
            if ownership.can_be_rescheduled:
                ownership.give_up(f"{away}")
            raise
        run_id, name = ownership.run.id, ownership.run.name
        stack.callback(send_attempt_ended, run_id, name, head.entry.attempt)
        news = CheckpointNews(heart.after)
        stack.callback(news.close)
        page = AttemptPage(PageArtifact(client, run_id), log, head, ownership.active_seconds())
        stack.callback(page.close)
        stack.callback(pacer.stop)  # before the last page, which may take a while
        logger = get_run_logger()

        def tell(head: Head, seconds: float) -> None:
            news.saved(run_id, name, head.entry)
            page.saved(head)
            logger.info("%s", _saved(head.entry, seconds))

        writer = LogWriter(log, head, durability, patiently=patiently, tell=tell)
        saved_by = f"version {before} of the flow" if before else "its creator, or older code"
        state = migrated(state_type, head.state, migrate, saved_by)
        config = head.created.config.over(settings)
        run = Run(writer, state_type, ownership, config, state, ended=page.ended)
        run.start(pacer, interrupt)
        run.on_close(stack.pop_all().close)
    place = f"continues from {run.resumed_from}" if run.resumed_from else "starts"
    logger.info("Execution %s: attempt %d %s", run.id, run.attempt, place)
    if before not in (None, ownership.version):
        logger.warning(
            "The flow is of version %s; the attempt before was of version %s",
            ownership.version,
            before,
        )
    return run


def run_sync(
    begin: Callable[[Interrupt], Run[Any]], fn: Callable[..., R], args: Any, kwargs: dict[str, Any]
) -> R:
    """Call a flow's function as an attempt of its execution."""
    while True:
        interrupt = ThreadInterrupt()
        run = begin(interrupt)
        try:
            interrupt.arm()
            run.require_time()  # before, there was nothing to interrupt
            with entered(run):
                undo_sync(run)
                result = fn(*args, **kwargs)
                resolve_futures_to_states(result)  # steps among them are still to be recorded
            interrupt.disarm()
            run.finish()
            return result
        except BaseException as failure:
            interrupt.disarm(failure)
            run.fail(failure)
        finally:
            run.close()


async def run_async(
    begin: Callable[[Interrupt], Run[Any]],
    fn: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
) -> Any:
    """`run_sync` for an async function: what blocks is done in threads."""
    while True:
        interrupt = TaskInterrupt()
        run = await _begun(partial(begin, interrupt))
        try:
            interrupt.arm()
            run.require_time()  # before, there was nothing to interrupt
            with entered(run):
                await undo_async(run)
                result = await fn(*args, **kwargs)
                await asyncio.to_thread(resolve_futures_to_states, result)
            interrupt.disarm()
            await asyncio.to_thread(run.finish)
            return result
        except BaseException as failure:
            interrupt.disarm(failure)
            await asyncio.to_thread(run.fail, failure)
        finally:
            await asyncio.to_thread(run.close)


async def _begun(begin: Callable[[], Run[Any]]) -> Run[Any]:
    """Begin in a thread; who is cancelled meanwhile leaves no run behind."""
    lock, begun, is_cancelled = Lock(), list[Run[Any]](), False

    def close_all() -> None:
        while begun:
            begun.pop().close()

    def beginning() -> Run[Any]:
        run = begin()
        with lock:
            begun.append(run)
            if is_cancelled:
                close_all()
        return run

    try:
        return await asyncio.to_thread(beginning)
    except asyncio.CancelledError:
        with lock:
            is_cancelled = True
            close_all()
        raise


def _saved(entry: Entry, seconds: float) -> str:
    label = f' "{entry.label}"' if entry.label else ""
    return (
        f"Checkpoint {checkpoint_id(entry.seq)}{label} saved: {decimal(entry.stored)} in "
        f"{seconds * 1000:.0f} ms (state {decimal(entry.size)})"
    )


def _version_before(log: ExecutionLog) -> str | None:
    """The version of the flow in the attempt before this one, if that is known."""
    try:
        begun = log.begun(log.living_head())
    except ExecutionNotFound:
        return None
    return None if begun is None else begun.version


def _begin(log: ExecutionLog, ownership: Ownership, settings: ExecutionConfig) -> Head:
    """Append the attempt; where nobody made a log for this flow run yet, that comes first."""
    own = settings.model_dump(mode="json") if settings != ExecutionConfig() else None
    try:
        return log.attempt(lambda _: ownership.check_start(), config=own, version=ownership.version)
    except ExecutionDeleted:
        ownership.leave()
    except ExecutionNotFound:
        ownership.check_start()
    meta = {
        "name": ownership.run.name,
        "description": None,
        "agent_id": None,
        "task_type": None,
        "config": ExecutionConfig().model_dump(mode="json"),
    }
    try:
        log.create(meta, b"{}")
    except AlreadyExists:
        get_run_logger().debug("Another process made the log of %s", log.execution_id)
    return log.attempt(lambda _: ownership.check_start(), config=own, version=ownership.version)
