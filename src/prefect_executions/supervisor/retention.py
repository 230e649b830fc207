"""Retention: old checkpoints are removed, and executions that ended long ago.

How much is kept is set by an execution's own `config`, or else by the flow's `@execution`, or else
by the store. By default everything is kept.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import checkpoint_seq, execution_id
from prefect_executions.log.claims import SETTLES
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.models import ExecutionConfig
from prefect_executions.prefect.flow_runs import pages_of
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import DELETING, RETENTION, fork_tag
from prefect_executions.supervisor.duty import NEVER, DutyContext, Interval

logger = logging.getLogger(__name__)

TIDIES = timedelta(hours=1)  # how often what need not be kept is removed
TIDYING_SECONDS = 1.0  # how long a look does so at most

_NEVER_MORE = datetime.max.replace(tzinfo=UTC)


class Retention:
    """Finds and removes what need not be kept any longer.

    Args:
        executions: The executions.
        default: How much is kept of an execution whose `config` does not set it.
        clock: The present time.
    """

    def __init__(
        self,
        executions: Executions,
        default: ExecutionConfig,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._executions = executions
        self._default = default
        self._clock = clock
        # Ended executions of which nothing is to be removed: in which state, and until when.
        self._done: dict[UUID, tuple[UUID, datetime]] = {}

    def due(self) -> Iterator[FlowRun]:
        """The runs of which something may have to be removed.

        If some are deleted on the way, others move up and are left for the next time.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        now, there = self._clock(), set[UUID]()
        # A run whose own config removes something is tagged.
        marked = () if self._default.removes else (RETENTION,)
        for run in self._tagged(*self._executions.flow_runs.tags, *marked):
            there.add(run.id)
            state = state_of(run)
            known, until = self._done.get(run.id, (None, NEVER))
            is_done = known == state.id and now < until
            # A paused or scheduled run may be rolled back to an old checkpoint at any time.
            closed = state.is_running() or status_of(run).ended
            if closed and not (is_done or DELETING in run.tags) and now - state.timestamp > SETTLES:
                yield run
        self._done = {run_id: done for run_id, done in self._done.items() if run_id in there}

    def apply(self, run: FlowRun) -> str | None:
        """Remove what need not be kept of an execution; one LIST and a round of GETs find it.

        Nothing is removed if the run has changed since it was found.

        Returns:
            What was done, or None when nothing was.

        Raises:
            ExecutionNotFound: it was deleted in the meantime.
        """
        if not self._executions.flow_runs.is_still(run):
            return None
        log, state, now = self._executions.log(execution_id(run.id)), state_of(run), self._clock()
        config = log.config(log.living_head(journal=False)).over(self._default)
        deleted_at = _NEVER_MORE
        if config.delete_after_seconds is not None:
            deleted_at = state.timestamp + timedelta(seconds=config.delete_after_seconds)
        if status_of(run).ended and now >= deleted_at:
            if not self._executions.flow_runs.is_still(run):  # reading the log took time
                return None
            self._executions.delete(execution_id(run.id), patience=0)
            return "deleted, since it had ended long ago"
        removed = 0
        if config.keep_checkpoints is not None:
            removed = prune(
                log,
                newest=config.keep_checkpoints,
                labelled=bool(config.keep_labelled),
                also=self._forked(log),
                before=now - SETTLES,
            )
        if status_of(run).ended:  # only now, so that a store that is away is asked again
            self._done[run.id] = state.id, deleted_at
        return f"removed {removed} old entries of its log" if removed else None

    def _forked(self, log: ExecutionLog) -> set[int]:
        """The checkpoints that other executions were forked from."""
        origins = set()
        for run in self._tagged(fork_tag(log.execution_id)):
            for created in self._executions.log(execution_id(run.id)).outlines_of([0]):
                fork = (created.meta or {})["fork"]
                origins.add(checkpoint_seq(log.execution_id, fork["checkpoint_id"]))
        return origins

    def _tagged(self, *tags: str) -> Iterator[FlowRun]:
        filter_ = FlowRunFilter(tags=FlowRunFilterTags(all_=list(tags)))
        for page in pages_of(self._executions.flow_runs.client, filter_):
            yield from page


class RetentionDuty:
    """Removes what need not be kept, every hour, a short time in each look.

    Args:
        context: What all duties work with.
        default: How much is kept of an execution whose `config` does not set it.
    """

    name = "remove what need not be kept"

    def __init__(self, context: DutyContext, default: ExecutionConfig) -> None:
        self._context = context
        self._retention = Retention(context.executions, default, clock=context.clock)
        self._interval = Interval(TIDIES)
        self._rest: Iterator[FlowRun] = iter(())

    def due(self, now: datetime) -> Iterator[FlowRun]:
        """Some of the runs of which something may have to be removed, for a short time."""
        if self._interval.restart(now):
            self._rest = self._retention.due()
        began = monotonic()
        try:
            for run in self._rest:
                yield run
                if monotonic() - began > TIDYING_SECONDS:
                    break
        except PrefectUnavailable:
            self._interval = Interval(TIDIES)  # begin again in the next look
            raise

    def act(self, run: FlowRun) -> None:
        """Remove what need not be kept of an execution."""
        if (done := self._retention.apply(run)) is not None:
            self._context.note("removed what need not be kept")
            logger.info("%s: %s", execution_id(run.id), done)
