"""Retention: old checkpoints are removed, and executions that ended long ago.

How much is kept is set by an execution's own `config`, or else by the flow's `@execution`, or else
by the store. By default everything is kept.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from prefect_executions.config import ExecutionConfig
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import checkpoint_seq, execution_id
from prefect_executions.log.claims import SETTLES
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.prefect.listing import Walk, in_states, pages_of
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import DELETING, RETENTION, fork_tag
from prefect_executions.supervisor.duty import NEVER, DutyContext, Interval
from prefect_executions.supervisor.heartbeat import OwnHeartbeat
from prefect_executions.supervisor.rounds import Rounds

logger = logging.getLogger(__name__)

TIDIES = timedelta(hours=1)  # how often what need not be kept is removed

_NEVER_MORE = datetime.max.replace(tzinfo=UTC)


class Retention:
    """Finds and removes what need not be kept any longer.

    Args:
        executions: The executions.
        default: How much is kept of an execution whose `config` does not set it.
        clock: The present time.
        owns: Whether a run is to be dealt with here; others are left to other supervisors.
    """

    def __init__(
        self,
        executions: Executions,
        default: ExecutionConfig,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        owns: Callable[[UUID], bool] = lambda _: True,
    ) -> None:
        self._executions = executions
        self._default = default
        self._clock = clock
        self._owns = owns
        # A run whose own config removes something is tagged.
        marked = () if default.removes else (RETENTION,)
        flow_runs = executions.flow_runs
        tags = [*flow_runs.tags, *marked]
        self._rounds = Rounds(lambda: Walk(flow_runs.client, in_states(tags)))
        # Ended executions of which nothing is to be removed: in which state, and until when.
        self._done: dict[UUID, tuple[UUID, datetime]] = {}

    @property
    def is_over(self) -> bool:
        """Whether all runs have been gone through, and the next call of `due` begins anew."""
        return self._rounds.is_new

    def due(self) -> list[FlowRun]:
        """Those of the next 200 runs of which something may have to be removed.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        page, gone = self._rounds.next(self._done)
        for run_id in gone:
            del self._done[run_id]
        return [run for run in page if self._owns(run.id) and self._is_due(run)]

    def _is_due(self, run: FlowRun) -> bool:
        now, state = self._clock(), state_of(run)
        known, until = self._done.get(run.id, (None, NEVER))
        if DELETING in run.tags or (known == state.id and now < until):
            return False
        # A paused or scheduled run may be rolled back to an old checkpoint at any time.
        closed = state.is_running() or status_of(run).ended
        return closed and now - state.timestamp > SETTLES

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
        forks = in_states([fork_tag(log.execution_id)])
        for page in pages_of(self._executions.flow_runs.client, forks):
            for run in page:
                for created in self._executions.log(execution_id(run.id)).outlines_of([0]):
                    fork = (created.meta or {})["fork"]
                    origins.add(checkpoint_seq(log.execution_id, fork["checkpoint_id"]))
        return origins


class RetentionDuty:
    """Removes what need not be kept, every hour, by and by; supervisors share it by run.

    Args:
        context: What all duties work with.
        default: How much is kept of an execution whose `config` does not set it.
        heartbeat: The supervisor's heartbeat, which knows the other supervisors.
    """

    name = "remove what need not be kept"

    def __init__(
        self, context: DutyContext, default: ExecutionConfig, heartbeat: OwnHeartbeat
    ) -> None:
        self._context = context
        self._retention = Retention(
            context.executions, default, clock=context.clock, owns=heartbeat.owns
        )
        self._interval = Interval(TIDIES)

    def due(self, now: datetime) -> list[FlowRun]:
        """Some of the runs of which something may have to be removed; none for most of the time."""
        if self._retention.is_over and not self._interval.restart(now):
            return []
        return self._retention.due()

    def act(self, run: FlowRun) -> None:
        """Remove what need not be kept of an execution."""
        if (done := self._retention.apply(run)) is not None:
            self._context.note("removed what need not be kept")
            logger.info("%s: %s", execution_id(run.id), done)
