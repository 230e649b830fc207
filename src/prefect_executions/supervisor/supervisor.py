"""The supervisor does what is left undone when processes, workers and services die.

Any number may run at once, and each may be killed at any line: whatever one does is decided by
what Prefect and the log say, guarded by the log's own race for the next entry, and finished by the
next if it was done in part.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from threading import Event
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID, uuid4

from opentelemetry.trace import get_current_span
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext

from prefect_executions.background import Scheduler
from prefect_executions.blocks.store import load_store
from prefect_executions.errors import (
    ExecutionConflict,
    ExecutionDeleted,
    ExecutionNotFound,
    PrefectUnavailable,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.models import ExecutionConfig, OnTimeout
from prefect_executions.prefect.artifacts import PageArtifact
from prefect_executions.prefect.events import (
    Heartbeats,
    beat_of_supervisor,
    is_kept,
    last_sign,
    send_deleted,
)
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import deadline
from prefect_executions.prefect.resume_form import CHOICES, resume_form
from prefect_executions.prefect.states import is_created, state_of, status_of
from prefect_executions.prefect.suspension import CRASH_SETTLES, complete_pause
from prefect_executions.prefect.tags import OUTSIDE
from prefect_executions.prefect.transitions import (
    cancel_paused,
    crash,
    start_again,
    undo_crash,
    undo_repeated_cancellation,
)
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import Objects
from prefect_executions.supervisor.deletions import DeletedRuns
from prefect_executions.supervisor.retention import Retention
from prefect_executions.telemetry import show_log, tracer

logger = logging.getLogger(__name__)

R = TypeVar("R", FlowRun, UUID)

RARELY = 12  # every how many looks it looks at what is not urgent, or is much,
MINUTE = timedelta(seconds=60)  # and after this time in any case
LOOK_HANGS = 300.0  # seconds after which a look that has not come further counts as stuck
FORM_SETTLES = timedelta(minutes=10)  # its process has left by then, and has seen to it
CREATION_ENDS = timedelta(seconds=60)  # a run that is being created for longer was left half-made
COLLEAGUE_ACTS = timedelta(seconds=15)  # how long another supervisor may take for what it began
TIDIES = timedelta(hours=1)  # how often what need not be kept is removed
TIDYING_SECONDS = 1.0  # how long a look does so at most
FAILURES = 3  # after how many runs whose store or Prefect is away a look leaves the others
STARTS = 3  # how often a run that died before its first attempt began is started again
_NEVER = datetime.min.replace(tzinfo=UTC)


class Supervisor:
    """Looks after all executions in a store.

    Args:
        executions: The executions.
        client: Prefect's.
        settings: How soon silence is a crash.
        retention: How much stays of an execution that does not say so itself.
        clock: The present time.
        note: Called with the name of each thing that it does.
    """

    def __init__(
        self,
        executions: Executions,
        client: SyncPrefectClient,
        settings: ExecutionsSettings,
        *,
        retention: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - it can't be changed
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.id = uuid4().hex
        self._executions = executions
        self._flow_runs = executions.flow_runs
        self._client = client
        self._silence = timedelta(seconds=settings.silence_seconds)
        self._pending = timedelta(seconds=settings.pending_seconds)
        self._agent_silence = timedelta(seconds=settings.agent_silence_seconds)
        self._pause = settings.heartbeat_seconds / 2
        self._rarely = min(timedelta(seconds=RARELY * self._pause), MINUTE)
        self._clock = clock
        self._tell = note
        self._heard_since: datetime | None = None  # since when Prefect has kept all heartbeats
        self._looked_at_all = _NEVER
        self._moved_at = monotonic()  # when a look has come further
        self._due: dict[UUID, datetime] = {}  # until when a silent run is taken for alive
        self._census = DeletedRuns(client, executions.flow_runs.tags)
        self._gone: set[UUID] = set()  # runs that were deleted in Prefect itself
        self._own_beat: datetime | None = None  # the newest own heartbeat that Prefect has kept
        self._counted_at: datetime | None = None  # the same, when the census was last right
        self._shown: dict[UUID, UUID] = {}  # ended runs whose pages are right, with their states
        # Paused runs that had their forms: in which state, and when.
        self._formed: dict[UUID, tuple[UUID, datetime]] = {}
        self._settled: dict[UUID, UUID] = {}  # crashed runs to leave alone, each with its state
        self._retention = Retention(executions, retention, clock=clock)
        self._tidied = _NEVER
        self._tidying: Iterator[FlowRun] = iter(())

    def watch(self, stop: Callable[[float], bool]) -> None:
        """Look after executions until `stop`, which waits for so many seconds, says true."""

        # A look at many takes longer than a heartbeat may be old.
        def beat() -> None:
            if monotonic() - self._moved_at < LOOK_HANGS:
                beat_of_supervisor(self.id)

        heart = Scheduler("supervisor-heart")
        heart.every(self._silence.total_seconds() / 4, beat)
        try:
            while not stop(self._pause):
                self.look()
        finally:
            heart.stop()

    def look(self) -> None:
        """Do once what is to be done; what fails is logged, and done the next time."""
        with tracer.start_as_current_span("supervisor look"):
            self._look()

    def _look(self) -> None:
        self._moved_at = monotonic()
        now = self._clock()
        rarely = now - self._looked_at_all >= self._rarely
        if rarely:
            self._looked_at_all = now
        recently = None if rarely else now - 2 * self._rarely
        beat_of_supervisor(self.id)
        self._each(self._flow_runs.being_deleted, self._finish_deletion)
        self._each(lambda: self._silent(now), self._bury)
        self._each(lambda: self._crashed(now, recently), lambda run: self._recover(run, now))
        self._each(
            lambda: self._flow_runs.in_state(StateType.CANCELLING), self._flow_runs.end_cancelling
        )
        self._each(
            lambda: self._flow_runs.in_state(StateType.PENDING),
            lambda run: self._end_pending(run, now),
        )
        self._each(lambda: self._ended(now), self._look_at_end)
        self._each(lambda: self._removed(thoroughly=rarely), self._clear)
        if rarely:
            self._each(self._paused, lambda run: self._look_at_pause(run, now))
        self._each(lambda: self._untidy(now), self._tidy)

    def _each(self, find: Callable[[], Iterable[R]], act: Callable[[R], object]) -> None:
        """Act on each run that is found; one that makes trouble is not in the others' way.

        What is away for several of them is away for all.
        """
        failures = 0
        try:
            for run in find():
                self._moved_at = monotonic()
                run_id = run if isinstance(run, UUID) else run.id
                try:
                    self._unless_deleted(act, run)
                except (Superseded, ExecutionNotFound, ExecutionConflict) as changed:
                    logger.info("%s: somebody was quicker: %s", execution_id(run_id), changed)
                except (PrefectUnavailable, StoreUnavailable) as away:
                    failures += 1
                    if failures == FAILURES:
                        raise
                    logger.warning("%s: trying again soon: %s", execution_id(run_id), away)
                except Exception:
                    logger.exception("%s could not be looked after", execution_id(run_id))
        except (PrefectUnavailable, StoreUnavailable) as away:
            logger.warning("Trying again soon: %s", away)
        except Exception:
            logger.exception("Could not look after executions")

    def _unless_deleted(self, act: Callable[[R], object], run: R) -> None:
        try:
            act(run)
        except ExecutionDeleted:  # whoever deleted it died before it could finish
            if isinstance(run, FlowRun):
                self._flow_runs.mark_deleting(run)

    def _note(self, action: str) -> None:
        get_current_span().add_event(action)
        self._tell(action)

    def _log(self, run: FlowRun) -> ExecutionLog:
        return self._executions.log(execution_id(run.id))

    def _head(self, log: ExecutionLog) -> Head | None:
        """The head of a log; None if there is none.

        Raises:
            ExecutionDeleted: it ends with the tombstone.
        """
        try:
            return log.living_head()
        except ExecutionDeleted:
            raise
        except ExecutionNotFound:
            return None

    # ------------------------------------------------------------------ deletions

    def _finish_deletion(self, run: FlowRun) -> None:
        if self._executions.delete(execution_id(run.id), patience=0):
            self._note("finished a deletion")
            logger.info("Finished the deletion of %s", execution_id(run.id))

    def _removed(self, *, thoroughly: bool) -> list[UUID]:
        """The runs that were deleted in Prefect itself, and are yet to be cleared away.

        A database that was replaced, or restored to an earlier time, does not know of runs either,
        nor of this supervisor's heartbeats: nobody has deleted those, and they are left to `gc`.
        """
        if self._own_beat is None:
            return []
        missing = self._census.missing(thoroughly=thoroughly)
        beat, self._counted_at = self._counted_at, self._own_beat
        if missing and beat is not None and not is_kept(self._client, self.id, beat):
            logger.error(
                "Prefect's database is not as it was: of %d executions it does not know any more. "
                "Nothing of them is removed; see `prefect-executions gc --dry-run`.",
                len(missing),
            )
            missing = set()
        self._gone |= missing
        return list(self._gone)

    def _clear(self, run_id: UUID) -> None:
        """Remove what is left of an execution whose run was deleted in Prefect."""
        if self._flow_runs.find(run_id) is None:
            id_ = execution_id(run_id)
            with suppress(ExecutionNotFound):  # it was deleted here
                self._executions.delete(id_)
                send_deleted(run_id, id_)
                self._note("cleared what was deleted in Prefect")
                logger.info("%s was deleted in Prefect; its checkpoints are removed", id_)
            self._flow_runs.delete_artifacts(run_id)
        self._gone.discard(run_id)

    # ------------------------------------------------------------------ silence

    def _silent(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that are Running in Prefect and give no sign of life.

        Silence only tells something while heartbeats are kept at all, which this supervisor sees by
        its own.
        """
        heard = Heartbeats.since(self._client, now - self._silence)
        own = heard.supervisors.get(self.id)
        self._own_beat = own or self._own_beat
        if own is None or now - own > self._silence / 2:
            self._heard_since = None
            return []
        self._heard_since = self._heard_since or own
        if now - self._heard_since < self._silence:
            return []
        running = self._flow_runs.in_state(StateType.RUNNING)
        self._due = {run.id: self._due[run.id] for run in running if run.id in self._due}
        return [
            run
            for run in running
            if run.id not in heard.runs
            and now - state_of(run).timestamp > self._silence
            and now > self._due.get(run.id, _NEVER)
        ]

    def _bury(self, run: FlowRun) -> None:
        """Declare a run crashed, and its attempt dead since its last sign of life.

        The head comes first: whatever has begun since then collides with what is written here.
        """
        state, log = state_of(run), self._log(run)
        head = self._head(log)
        alive = last_sign(self._client, run.id, state.timestamp)
        silence = self._silence
        if head is not None and OUTSIDE in run.tags:
            alive = max(alive, head.entry.at)
            silence = max(silence, self._silence_of_agent(head))
        dead = self._clock() - alive
        if dead <= silence:
            self._due[run.id] = alive + silence
            return
        if not self._flow_runs.is_still(run):
            return
        if head is not None and head.entry.kind is Kind.RESULT:
            self._flow_runs.complete(run)
            self._note("finished a completion")
            return
        reason = f"No heartbeat since {alive:%Y-%m-%d %H:%M:%S} UTC: its process has died."
        answers = state.id.hex
        if head and not (head.entry.kind is Kind.CRASH and head.entry.answers == answers):
            log.crash(head, answers=answers, dead_seconds=dead.total_seconds(), reason=reason)
        crash(self._client, run, reason)
        self._note("declared a crash")
        logger.warning("%s has crashed. %s", execution_id(run.id), reason)

    def _silence_of_agent(self, head: Head) -> timedelta:
        """How long an agent outside Prefect may say nothing: three of its checkpoint intervals."""
        seconds = head.created.config.checkpoint_interval_seconds
        return self._agent_silence if seconds is None else timedelta(seconds=3 * seconds)

    # ------------------------------------------------------------------ crashes

    def _crashed(self, now: datetime, since: datetime | None) -> Iterable[FlowRun]:
        runs = list(self._flow_runs.in_state(StateType.CRASHED, ended_after=since))
        if since is None:
            known = {run.id for run in runs}
            self._settled = {id_: state for id_, state in self._settled.items() if id_ in known}
        return [
            run
            for run in runs
            if self._settled.get(run.id) != state_of(run).id
            and now - state_of(run).timestamp > CRASH_SETTLES
        ]

    def _recover(self, run: FlowRun, now: datetime) -> None:
        """Let a worker continue a crashed run, if it may be tried again."""
        states = self._flow_runs.states(run)
        if undo_crash(self._client, run, states):
            self._note("restored a state")
            logger.warning("%s had been left before its process died", execution_id(run.id))
            return
        state, log = state_of(run), self._log(run)
        head = self._head(log)
        if head is None:
            self._settled[run.id] = state.id
            return
        # Of one that has not begun nobody knows what `@execution` says.
        default = ExecutionConfig(max_retries=STARTS if head.entry.begun is None else None)
        config = log.config(head).over(default)
        granted = _is_granted(head, states)
        if granted and now - head.entry.at < COLLEAGUE_ACTS:
            return
        if not granted:
            if run.deployment_id is None or head.entry.retries >= (config.max_retries or 0):
                self._settled[run.id] = state.id
                return
            if not self._flow_runs.is_still(run):  # whoever begins from now on collides in the log
                return
            head = log.retry(head, answers=state.id.hex, reason=state.message or "Crashed")
        message = f"Retry {head.entry.retries} of {config.max_retries} after a crash"
        delay = timedelta(seconds=config.retry_delay_seconds or 0)
        if self._flow_runs.retry(run, at=max(now, state.timestamp + delay), message=message):
            self._note("retried after a crash")
            logger.warning("%s: %s", execution_id(run.id), message)

    # ------------------------------------------------------------------ pauses

    def _paused(self) -> Iterable[FlowRun]:
        """The runs that are paused."""
        runs = self._flow_runs.in_state(StateType.PAUSED)
        known = {run.id for run in runs}
        self._formed = {id_: seen for id_, seen in self._formed.items() if id_ in known}
        return runs

    def _look_at_pause(self, run: FlowRun, now: datetime) -> None:
        """End a pause whose time has come, and mend one that can't last or can't be ended."""
        log = self._log(run)
        state = state_of(run)
        known, seen = self._formed.get(run.id, (None, _NEVER))
        is_new = now - state.timestamp < FORM_SETTLES
        if is_new or known != state.id or now - seen > FORM_SETTLES:
            complete_pause(self._client, run, lambda: resume_form(log.read(checkpoints=CHOICES)))
            self._formed[run.id] = state.id, now
        ends = deadline(state)
        if ends is None:
            return
        at, on_timeout = ends
        if at > now or not self._flow_runs.is_still(run):
            return
        message = f"Nobody resumed it until {at:%Y-%m-%d %H:%M:%S} UTC."
        if on_timeout is OnTimeout.FAIL:
            self._flow_runs.fail(run, message)
        elif on_timeout is OnTimeout.TERMINATE:
            cancel_paused(self._client, run, message)
        else:
            self._flow_runs.resume(run.id)
        self._note("ended a pause")
        logger.info("%s: %s It is to %s.", execution_id(run.id), message, on_timeout)

    # ------------------------------------------------------------------ pages

    def _ended(self, now: datetime) -> Iterable[FlowRun]:
        """The runs that have ended just now, in another way than by completing."""
        runs = self._flow_runs.in_state(
            StateType.FAILED,
            StateType.CRASHED,
            StateType.CANCELLED,
            ended_after=now - 2 * self._rarely,
        )
        known = {run.id for run in runs}
        self._shown = {id_: state for id_, state in self._shown.items() if id_ in known}
        return [run for run in runs if self._shown.get(run.id) != state_of(run).id]

    def _look_at_end(self, run: FlowRun) -> None:
        """Let the page of a run tell that it has ended, where its process could not."""
        if state_of(run).is_cancelled() and undo_repeated_cancellation(
            self._client, run, self._flow_runs.states(run)
        ):
            self._note("restored a state")
            logger.warning("%s goes on: it was cancelled before", execution_id(run.id))
            return
        page = PageArtifact(self._client, run.id)
        shown = page.find()
        page.remove_duplicates()
        if shown != status_of(run).value:
            page.show(self._executions.run_page(run))
        self._shown[run.id] = state_of(run).id

    # ------------------------------------------------------------------ retention

    def _untidy(self, now: datetime) -> Iterable[FlowRun]:
        """Some of the runs of which something may have to be removed: others can't wait long."""
        if now - self._tidied >= TIDIES:
            self._tidied, self._tidying = now, self._retention.due()
        began = monotonic()
        try:
            for run in self._tidying:
                yield run
                if monotonic() - began > TIDYING_SECONDS:
                    break
        except PrefectUnavailable:
            self._tidied = _NEVER  # once more from the beginning
            raise

    def _tidy(self, run: FlowRun) -> None:
        """Remove what need not be kept of an execution any longer."""
        if (done := self._retention.apply(run)) is not None:
            self._note("removed what need not be kept")
            logger.info("%s: %s", execution_id(run.id), done)

    # ------------------------------------------------------------------ half-done starts

    def _end_pending(self, run: FlowRun, now: datetime) -> None:
        """Release or remove a run whose creation was left, restart one whose worker died."""
        age = now - state_of(run).timestamp
        if is_created(run):
            if age > self._pending and start_again(self._client, run):
                self._note("started again")
                logger.warning("%s never began; scheduled again", execution_id(run.id))
        elif age > CREATION_ENDS:
            Creation(self._executions).finish(run)
            self._note("finished a creation")


def _is_granted(head: Head, states: list[State[Any]]) -> bool:
    """Whether one more attempt was granted, and no process has been started for it since."""
    if head.entry.kind is not Kind.RETRY:
        return False
    since = takewhile(lambda state: not state.is_pending(), reversed(states))
    return any(state.id.hex == head.entry.answers for state in since)


def supervise(
    stop: Event | None = None,
    *,
    note: Callable[[str], None] = lambda _: None,
    metered: Callable[[Objects], Objects] = lambda objects: objects,
) -> None:
    """Look after all executions.

    Args:
        stop: Ends it, when set. By default the end of the flow run that it is called in does.
        note: Called with the name of each thing that it does.
        metered: Makes of the store one whose requests are counted.

    Raises:
        StoreNotFound: there is no store of the name in the settings.
    """
    show_log()
    context = FlowRunContext.get() if stop is None else None
    ended = stop or Event()

    def stopped(seconds: float) -> bool:
        if context is not None:
            context.flow_run_suspension_request.raise_if_requested()
        return ended.wait(seconds)

    with get_client(sync_client=True) as client:
        settings = ExecutionsSettings()
        store = None
        while store is None:
            try:
                store = load_store(settings.store)
            except PrefectUnavailable as away:
                logger.warning("Trying again soon: %s", away)
                if stopped(settings.heartbeat_seconds):
                    return
        executions = Executions(metered(store.objects()), FlowRuns(client, store=settings.store))
        supervisor = Supervisor(executions, client, settings, retention=store.retention, note=note)
        supervisor.watch(stopped)
