"""The supervisor: a loop over duties, each of which finishes one kind of undone work.

Any number of supervisors may run at once, and each may be killed at any line. What to do is decided
by Prefect and the log alone, writers race for the log's next entry, and what one supervisor has
left half-done is finished by the next.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from prefect_executions.background import Scheduler
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import (
    ExecutionConflict,
    ExecutionDeleted,
    ExecutionNotFound,
    PrefectUnavailable,
    StoreUnavailable,
    Superseded,
)
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import Objects
from prefect_executions.stores.store import load_store
from prefect_executions.supervisor.crashes import CrashedRuns, PendingRuns, SilentRuns
from prefect_executions.supervisor.deletions import DeletedRuns, UnfinishedDeletions
from prefect_executions.supervisor.duty import Duty, DutyContext
from prefect_executions.supervisor.endings import CancellingRuns, EndedRuns
from prefect_executions.supervisor.heartbeat import OwnHeartbeat
from prefect_executions.supervisor.pauses import PausedRuns
from prefect_executions.supervisor.retention import RetentionDuty
from prefect_executions.telemetry import show_log, tracer

logger = logging.getLogger(__name__)

SHARE_SECONDS = 1.0  # how long a look goes on with one kind of work that can wait
LOOK_HANGS = 300.0  # seconds without progress after which a look counts as stuck
FAILURES = 3  # for how many runs Prefect or the store may be away before a look skips the others


@dataclass
class Share:
    """A duty with a share of the time of each look; what is left over waits for the next.

    So however much there is to remove, the next look at what has died comes soon.

    Args:
        duty: The duty.
        seconds: How long a look goes on with it; what has begun is brought to its end.
        rest: The runs that are left over.
    """

    duty: Duty[Any]
    seconds: float
    rest: deque[Any] = field(default_factory=deque)

    def due(self, now: datetime) -> Iterator[Any]:
        """Some of the runs for which the duty is due."""
        if not self.rest:
            self.rest.extend(self.duty.due(now))
        began = monotonic()
        while self.rest:
            yield self.rest.popleft()
            if monotonic() - began >= self.seconds:
                return


class Supervisor:
    """Looks after all executions in a store.

    Args:
        executions: The executions.
        client: Prefect's client.
        settings: How soon silence is a crash.
        retention: How much is kept of an execution whose `config` does not set it.
        clock: The present time.
        note: Called with the name of each thing that is done.

    Attributes:
        heartbeat: Its own heartbeat.
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
        self._context = context = DutyContext(executions, client, settings, clock, note)
        self.heartbeat = OwnHeartbeat(executions.flow_runs.store, context.silence)
        self._at_once: tuple[Duty[Any], ...] = (
            SilentRuns(context, self.heartbeat),
            CrashedRuns(context),
            CancellingRuns(context),
            PendingRuns(context),
        )
        can_wait: tuple[Duty[Any], ...] = (
            UnfinishedDeletions(context),
            EndedRuns(context),
            DeletedRuns(context, self.heartbeat),
            PausedRuns(context),
        )
        removal = RetentionDuty(context, retention, self.heartbeat)
        self._by_and_by = (
            *(Share(duty, SHARE_SECONDS) for duty in can_wait),
            Share(removal, settings.retention_seconds),
        )
        self._moved_at = monotonic()  # when a look has last made progress

    def watch(self, stop: Callable[[float], bool]) -> None:
        """Look after executions until `stop`, which waits for so many seconds, returns true."""

        # A look at many runs takes longer than a heartbeat may be old.
        def beat() -> None:
            if monotonic() - self._moved_at < LOOK_HANGS:
                self.heartbeat.send()

        scheduler = Scheduler("supervisor-heart")
        scheduler.every(self._context.silence.total_seconds() / 4, beat)
        try:
            while not stop(self._context.pause_seconds):
                self.look()
        finally:
            scheduler.stop()

    def look(self) -> None:
        """Do once all that is due; what fails is logged, and done the next time."""
        with tracer.start_as_current_span("supervisor look"):
            self._moved_at = monotonic()
            self.heartbeat.send()
            for duty in self._at_once:
                self._perform(duty, duty.due)
            for share in self._by_and_by:
                self._perform(share.duty, share.due)

    def _perform(self, duty: Duty[Any], due: Callable[[datetime], Iterable[Any]]) -> None:
        """Act on each run for which a duty is due; a failure for one does not hinder the others.

        After `FAILURES` runs for which Prefect or the store was away, both count as away for all.
        """
        logger.debug("Next duty: %s", duty.name)
        failures = 0
        try:
            for run in due(self._context.clock()):
                self._moved_at = monotonic()
                run_id = run if isinstance(run, UUID) else run.id
                try:
                    self._act(duty, run)
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

    def _act(self, duty: Duty[Any], run: FlowRun | UUID) -> None:
        try:
            duty.act(run)
        except ExecutionDeleted:  # its deletion was left half-done
            if isinstance(run, FlowRun):
                self._context.flow_runs.mark_deleting(run)


def supervise(
    stop: Event | None = None,
    *,
    note: Callable[[str], None] = lambda _: None,
    metered: Callable[[Objects], Objects] = lambda objects: objects,
) -> None:
    """Look after all executions.

    Args:
        stop: Ends it when set; by default it ends with the flow run that it is called in.
        note: Called with the name of each thing that is done.
        metered: Makes of the store one whose requests are counted.

    Raises:
        StoreNotFound: there is no store of the name in the settings.
        ForeignStore: it belongs to another Prefect, whose supervisor looks after it.
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
                found = load_store(settings.store)
                found.claim()
                store = found
            except (PrefectUnavailable, StoreUnavailable) as away:
                logger.warning("Trying again soon: %s", away)
                if stopped(settings.heartbeat_seconds):
                    return
        if store.notice is not None:
            logger.info("%s", store.notice)
        executions = Executions(metered(store.open()), FlowRuns(client, store=settings.store))
        supervisor = Supervisor(executions, client, settings, retention=store.retention, note=note)
        supervisor.watch(stopped)
