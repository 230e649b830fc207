"""What is removed of executions by and by: old checkpoints, and what has ended long ago.

An execution's own `config` says how much stays of it; where that is silent the flow's `@execution`,
and then the store. Without a word of any of them everything stays.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from prefect_executions.executions.executions import Executions
from prefect_executions.ids import checkpoint_seq, execution_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.models import ExecutionConfig
from prefect_executions.prefect.flow_runs import pages_of
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import DELETING, RETENTION, fork_tag

# Nothing is removed that was written just now, nor of an execution whose state has just changed.
SETTLES = timedelta(minutes=10)

_NEVER = datetime.min.replace(tzinfo=UTC)
_NEVER_MORE = datetime.max.replace(tzinfo=UTC)


class Retention:
    """Removes what need not be kept any longer.

    Args:
        executions: The executions.
        default: For those that do not say themselves how much stays.
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
        # Ended executions that are done with: in which state, and until when.
        self._done: dict[UUID, tuple[UUID, datetime]] = {}

    def due(self) -> Iterator[FlowRun]:
        """The runs of which something may have to be removed.

        Where some are deleted on the way, others move up and are left for the next time.

        Raises:
            PrefectUnavailable: Prefect does not answer.
        """
        now, there = self._clock(), set[UUID]()
        # If the store says nothing, those that do are tagged.
        marked = () if self._default.removes else (RETENTION,)
        for run in self._tagged(*self._executions.flow_runs.tags, *marked):
            there.add(run.id)
            state = state_of(run)
            known, until = self._done.get(run.id, (None, _NEVER))
            is_done = known == state.id and now < until
            # Of one that is paused, or about to go on, somebody may choose an old checkpoint.
            closed = state.is_running() or status_of(run).ended
            if closed and not (is_done or DELETING in run.tags) and now - state.timestamp > SETTLES:
                yield run
        self._done = {run_id: done for run_id, done in self._done.items() if run_id in there}

    def apply(self, run: FlowRun) -> str | None:
        """Remove what need not be kept of an execution: one LIST and a round of GETs to know that.

        Nothing, if it is not any more as it was found: somebody may be choosing a checkpoint.

        Returns:
            What was done; None: nothing.

        Raises:
            ExecutionNotFound: it is gone meanwhile.
        """
        if not self._executions.flow_runs.is_still(run):
            return None
        log, state, now = self._executions.log(execution_id(run.id)), state_of(run), self._clock()
        config = log.config(log.living_head()).over(self._default)
        deleted_at = _NEVER_MORE
        if config.delete_after_seconds is not None:
            deleted_at = state.timestamp + timedelta(seconds=config.delete_after_seconds)
        if status_of(run).ended and now >= deleted_at:
            if not self._executions.flow_runs.is_still(run):  # the log took its time
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
        if status_of(run).ended:  # not before: a store that is away is asked once more
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
