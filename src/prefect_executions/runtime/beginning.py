"""Beginning an attempt: in Prefect, in the log, and in what happens beside the flow."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from rich.filesize import decimal

from prefect_executions.background import Scheduler
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import (
    AlreadyExists,
    ExecutionDeleted,
    ExecutionNotFound,
    NotAnExecution,
    PrefectUnavailable,
    StoreUnavailable,
)
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.log.entry import Entry
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.prefect.artifacts import AttemptPage, PageArtifact
from prefect_executions.prefect.deployments import tag_deployment, tags_of_deployment
from prefect_executions.prefect.events import CheckpointNews, beat_of_run, send_attempt_ended
from prefect_executions.prefect.pauses import Form, take_choice
from prefect_executions.prefect.resume_form import CHOICES, GOES_ON, go_back, resume_form
from prefect_executions.prefect.retries import withdraw_uncounted_retry
from prefect_executions.prefect.subflows import count_calls_anew
from prefect_executions.prefect.tags import RETENTION, add_tags, agent_of, inherited_tags, tags_of
from prefect_executions.prefect.task_runs import AT_ONCE, end_task_runs
from prefect_executions.runtime.alive import hold
from prefect_executions.runtime.attempt import Attempt, Options, running_attempt
from prefect_executions.runtime.checkpoints import Checkpointer, patiently
from prefect_executions.runtime.effects import EffectGuard
from prefect_executions.runtime.flow_timeout import FlowTimeout
from prefect_executions.runtime.interrupts import Interrupt
from prefect_executions.runtime.ownership import Ownership
from prefect_executions.runtime.pauses import Pauses
from prefect_executions.runtime.run import Run
from prefect_executions.runtime.time_limit import TimeLimit
from prefect_executions.runtime.waiting import Waiting
from prefect_executions.runtime.way_back import way_back
from prefect_executions.runtime.writer import LogWriter
from prefect_executions.serialization import migrated
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.replay import Replay

_WAY_BACK = (
    "`prefect-executions checkpoints {0}` lists them, and "
    "`prefect-executions resume {0} --checkpoint-id ckpt_…` goes back."
)

S = TypeVar("S")


def begin_attempt(options: Options[S], interrupt: Interrupt) -> Attempt[S]:
    """Begin an attempt of the execution that this flow run is; `Attempt.close` ends it.

    Args:
        options: What `@execution` says.
        interrupt: Ends the flow's function.

    Raises:
        NotAnExecution: There is no flow run here.
        Pause: The run is not this process's (any more); Prefect ends the process quietly.
        StateError: The state in the log does not fit the type.
        DurationExceeded: The execution has no time left.
        CheckpointNotFound: The checkpoint chosen in the Resume form is not there.
        StoreUnavailable, PrefectUnavailable: For a minute, and no supervisor can try again.
    """
    context = FlowRunContext.get()
    if context is None:
        raise NotAnExecution("no flow run here; put `@flow` above `@execution`")
    with ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        around = running_attempt()
        ownership = Ownership(context, client, None if around is None else around.ownership)
        # Two threads, so that a slow store does not keep the heart from beating.
        heart, scheduler = Scheduler("execution-heart"), Scheduler("execution-scheduler")
        stack.callback(heart.stop)
        heart.every(
            ExecutionsSettings().heartbeat_seconds,
            lambda: beat_of_run(ownership.run.id, ownership.run.name),
            at_once=True,
        )
        try:
            log, before, head = _enter_log(options, client, ownership)
        except BaseException:
            send_attempt_ended(ownership.run.id, ownership.run.name, None)
            raise
        if head.entry.attempt > 1:
            _end_task_runs(client, ownership)
        if ownership.is_alone:
            stack.callback(hold(log.execution_id, ownership.attempt_id))
        count_calls_anew(ownership.context, head.entry.attempt)
        tell, page = _report(stack, client, heart, ownership, log, head)
        stack.callback(scheduler.stop)  # before the last page, which may take a while
        scheduler.after(0, partial(tag_deployment, client, ownership.run))
        writer = LogWriter(log, head, options.durability, patiently=patiently, tell=tell)
        saved_by = f"version {before} of the flow" if before else "its creator, or older code"
        is_new = head.entry.continues_from == 0 and head.state == b"{}"
        data = options.initial() if is_new else head.state
        way_back = _WAY_BACK.format(execution_id(ownership.run.id))
        state = migrated(options.state_type, data, options.migrate, saved_by, way_back=way_back)
        attempt = _assemble(options, writer, ownership, state, page)
        attempt.start(scheduler, interrupt)
        attempt.on_close(stack.pop_all().close)
    _log_beginning(attempt.run, before, ownership)
    return attempt


def _enter_log(
    options: Options[Any], client: SyncPrefectClient, ownership: Ownership
) -> tuple[ExecutionLog, str | None, Head]:
    """The log, the version of the flow in the attempt before, and the head with this attempt."""
    warn = partial(get_run_logger().warning, "%s")
    try:
        patiently(ownership.check_start)  # a run held meanwhile must not wait for the store
        store = patiently(options.store)
        log = ExecutionLog(store.open(), execution_id(ownership.run.id))
        tags = [*tags_of(store.name), *([RETENTION] if options.config.removes else [])]
        if ownership.parent is not None:
            tags += inherited_tags(ownership.parent.run)
        tags += patiently(lambda: tags_of_deployment(client, ownership.run))
        patiently(lambda: add_tags(client, ownership.run, *tags))
        patiently(lambda: withdraw_uncounted_retry(client, ownership.run))
        patiently(
            lambda: take_choice(
                client,
                ownership.run.id,
                ownership.states,
                lambda choice: go_back(log, choice, warn),
            )
        )
        before = patiently(lambda: _version_before(log))
        if store.notice is not None and before is None and ownership.parent is None:
            get_run_logger().info("%s", store.notice)
        append = partial(_append_attempt, log, ownership, options.config, log.new_nonce())
        return log, before, patiently(append)
    except (StoreUnavailable, PrefectUnavailable) as away:
        if ownership.can_be_rescheduled:
            ownership.give_up(f"{away}")
        raise


def _end_task_runs(client: SyncPrefectClient, ownership: Ownership) -> None:
    """End the task runs of the attempts before, which may have died."""
    try:
        end_task_runs(client, ownership.run.id, most=AT_ONCE)
    except PrefectUnavailable as away:  # they are shown as Running, which does no harm
        get_run_logger().info("Task runs of attempts before were not ended: %s", away)


def _report(
    stack: ExitStack,
    client: SyncPrefectClient,
    heart: Scheduler,
    ownership: Ownership,
    log: ExecutionLog,
    head: Head,
) -> tuple[Callable[[Head, float], None], AttemptPage]:
    """What is called with each checkpoint, to report it in Prefect; and the page of the run."""
    run_id, name = ownership.run.id, ownership.run.name
    stack.callback(send_attempt_ended, run_id, name, head.entry.attempt)
    news = CheckpointNews(heart.after)
    stack.callback(news.close)
    page = AttemptPage(PageArtifact(client, run_id), log, head, ownership.active_seconds())
    stack.callback(page.close)
    logger = get_run_logger()

    def report(head: Head, seconds: float) -> None:
        news.saved(run_id, name, head.entry)
        page.saved(head)
        logger.info("%s", _saved(head.entry, seconds))

    return report, page


def _assemble(
    options: Options[S], writer: LogWriter, ownership: Ownership, state: S, page: AttemptPage
) -> Attempt[S]:
    log, entry = writer.log, writer.head.entry
    config = writer.head.created.config.over(options.config)
    replay = Replay(writer.head.records(), writer.head.state)
    checkpoints = Checkpointer(writer, ownership, replay)
    time_limit = TimeLimit(
        log.execution_id,
        config.max_duration_seconds,
        ownership,
        dead_seconds=lambda: checkpoints.head.entry.dead_seconds,
        save=checkpoints.save_published,
    )

    def admit() -> None:
        checkpoints.check_signal()
        time_limit.require()

    def form() -> Form:
        if not ownership.can_be_rescheduled:
            return GOES_ON
        return resume_form(log.read(checkpoints=CHOICES, journal=True))

    effects = EffectGuard(writer.head.created)
    recorder = Recorder(checkpoints, replay, admit, effects.require)
    waiting = Waiting(ownership, form)
    pauses = Pauses(
        replay,
        ownership,
        waiting,
        checkpoints,
        recorder.in_flight,
        form,
    )
    run = Run(
        log.execution_id,
        entry,
        config,
        state,
        options.state_type,
        checkpoints=checkpoints,
        pauses=pauses,
        time_limit=time_limit,
    )
    return Attempt(
        run,
        recorder,
        options.state_type,
        ownership=ownership,
        waiting=waiting,
        checkpoints=checkpoints,
        time_limit=time_limit,
        flow_timeout=FlowTimeout(ownership.context),
        effects=effects,
        page=page,
    )


def _log_beginning(run: Run[Any], before: str | None, ownership: Ownership) -> None:
    logger, version = get_run_logger(), ownership.version
    place = f"continues from {run.resumed_from}" if run.resumed_from else "starts"
    logger.info("Execution %s: attempt %d %s", run.id, run.attempt, place)
    way = way_back(ownership.context.flow, run.id) if ownership.is_alone else None
    if way is not None and run.attempt == 1:
        logger.info("Should this process die, this goes on with it: %s", way)
    if before not in (None, version):
        logger.warning(
            "The flow is of version %s; the attempt before was of version %s", version, before
        )


def _saved(entry: Entry, seconds: float) -> str:
    label = f' "{entry.label}"' if entry.label else ""
    return (
        f"Checkpoint {checkpoint_id(entry.seq)}{label} saved: {decimal(entry.stored)} in "
        f"{seconds * 1000:.0f} ms (state {decimal(entry.size)})"
    )


def _version_before(log: ExecutionLog) -> str | None:
    """The version of the flow in the attempt before this one, if that is known."""
    try:
        begun = log.begun(log.living_head(journal=False))
    except ExecutionNotFound:
        return None
    return None if begun is None else begun.version


def _append_attempt(
    log: ExecutionLog, ownership: Ownership, config: ExecutionConfig, nonce: str
) -> Head:
    """Append the attempt to the log, which is made first where there is none."""
    own = config.model_dump(mode="json") if config != ExecutionConfig() else None

    def append() -> Head:
        return log.attempt(
            lambda _: ownership.check_start(), config=own, version=ownership.version, nonce=nonce
        )

    try:
        return append()
    except ExecutionDeleted:
        ownership.leave()
    except ExecutionNotFound:
        ownership.check_start()
    meta = {
        "name": ownership.run.name,
        "description": None,
        "agent_id": agent_of(ownership.run if ownership.parent is None else ownership.parent.run),
        "task_type": None,
        "config": ExecutionConfig().model_dump(mode="json"),
    }
    try:
        log.create(meta, b"{}")
    except AlreadyExists:
        get_run_logger().debug("Another process made the log of %s", log.execution_id)
    return append()
