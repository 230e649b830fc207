"""Get, checkpoint, pause, resume, delete: what acts on executions from outside a run."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.errors import (
    AnswerError,
    CheckpointNotFound,
    CursorError,
    DurationExceeded,
    ExecutionConflict,
    ExecutionNotFound,
    StateError,
    Superseded,
)
from prefect_executions.executions.search import Search, created_at
from prefect_executions.executions.views import (
    active_seconds,
    checkpoint_of,
    checkpoints_of,
    execution_of,
    patch_of,
    run_page_of,
    summary_of,
)
from prefect_executions.ids import checkpoint_seq, execution_id, flow_run_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.models import (
    Checkpoint,
    CheckpointPage,
    Cost,
    Diff,
    Execution,
    ExecutionFilter,
    OnTimeout,
    Order,
    Page,
    Resumed,
    Saved,
    Status,
    StepBehind,
    require_open,
    require_pausable,
    require_resumable,
)
from prefect_executions.prefect.events import (
    has_ended,
    send_attempt_ended,
    send_checkpoint_saved,
    send_deleted,
)
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import forget_choice, pause_key
from prefect_executions.prefect.resume_form import resume_form, warning
from prefect_executions.prefect.run_page import NEWEST, RunPage
from prefect_executions.prefect.states import is_created, require_restartable, state_of, status_of
from prefect_executions.prefect.tags import DELETING, OUTSIDE, agent_tag
from prefect_executions.storage.objects import Objects

logger = logging.getLogger(__name__)

DELETE_PATIENCE = 10.0  # seconds that a delete waits for the process to end

_SETTLED = timedelta(minutes=1)  # more than reading takes, and clocks differ

_beside = ThreadPoolExecutor(32, thread_name_prefix="executions-store")


@dataclass(frozen=True)
class Executions:
    """The executions in a store, on a Prefect server.

    Args:
        objects: The store.
        flow_runs: Their flow runs.
        clock: The present time.
        wait: Sleeps for so many seconds.
        agents: Only the executions of these agents are seen; None: all are.
        tell: Says that a checkpoint was saved.

    Every method raises `ExecutionNotFound` for an id that is none, is not seen, or has been
    deleted, `StoreUnavailable` when the store does not answer, and `PrefectUnavailable` when
    Prefect does not. Nothing is kept here: any number of instances may act on the same executions.
    """

    objects: Objects
    flow_runs: FlowRuns
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    wait: Callable[[float], None] = sleep
    agents: frozenset[str] | None = None
    tell: Callable[[UUID, str, Entry], None] = send_checkpoint_saved

    def seen_by(self, agents: frozenset[str] | None) -> "Executions":
        """The executions of some agents; None: of all."""
        return replace(self, agents=agents)

    # ------------------------------------------------------------------ reading

    def get(
        self, execution_id: str, *, checkpoints: int | None = 100, states: bool = True
    ) -> Execution:
        """Read an execution.

        Args:
            execution_id: Its id.
            checkpoints: How many of the newest to include; None for all.
            states: Whether the checkpoints come with their states.
        """
        return self.get_with_version(execution_id, checkpoints=checkpoints, states=states)[0]

    def get_with_version(
        self, execution_id: str, *, checkpoints: int | None = 100, states: bool = True
    ) -> tuple[Execution, str]:
        """`get`, and `version` of what it gives."""
        log = self.log(execution_id)
        reading = _beside.submit(log.read, checkpoints=checkpoints)
        run = self.run(execution_id)
        history = reading.result()
        # A log is written before its run ends or is paused: one that has just done so may have
        # been read without what it ended with.
        if status_of(run) != Status.RUNNING and self.clock() - state_of(run).timestamp < _SETTLED:
            history = log.read(checkpoints=checkpoints)
        execution = execution_of(run, history, self.clock(), states=states)
        return execution, _version(run, history.head.entry.seq)

    def run_page(self, run: FlowRun) -> RunPage:
        """What the page of a flow run in the Prefect UI tells."""
        return run_page_of(
            run, self.log(execution_id(run.id)).read(checkpoints=NEWEST), self.clock()
        )

    def version(self, execution_id: str) -> str:
        """What changes whenever the execution does, but for the time that passes."""
        newest = _beside.submit(self.log(execution_id).newest)
        run = self.run(execution_id)
        return _version(run, newest.result())

    def search(
        self,
        filter_: ExecutionFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = Order.NEWEST_FIRST,
    ) -> Page:
        """List executions, by what Prefect knows of them; the store is not asked.

        What has been told is not told again, and nothing is left out, whatever comes and goes
        between two pages.

        Args:
            filter_: Which.
            limit: How many at most; a page may have fewer though more follow.
            cursor: `next_cursor` of the page before.
            order: Newest or oldest first.

        Raises:
            CursorError: the cursor is not of this list.
        """
        search = Search(self.flow_runs.tags, filter_, order, self.agents)
        runs, next_cursor = search.page(self.flow_runs.client, limit=limit, cursor=cursor)
        items = [summary_of(run, created_at(run)) for run in runs]
        return Page(items=items, next_cursor=next_cursor)

    def checkpoints(
        self, execution_id: str, *, limit: int = 50, cursor: str | None = None, states: bool = False
    ) -> CheckpointPage:
        """List the checkpoints of an execution, newest first.

        Args:
            execution_id: Its id.
            limit: How many at most.
            cursor: `next_cursor` of the page before.
            states: Whether they come with their states.

        Raises:
            CursorError: the cursor is not of this list.
        """
        self.run(execution_id)
        log = self.log(execution_id)
        if cursor is None:
            history = log.read(checkpoints=limit)
        else:
            try:
                history = log.read_before(checkpoint_seq(execution_id, cursor), checkpoints=limit)
            except CheckpointNotFound as unknown:
                raise CursorError(f"{unknown}") from None
        items = checkpoints_of(history, states=states)
        more = len(items) == limit and history.numbers[-1] > 1
        return CheckpointPage(items=items, next_cursor=items[-1].id if more else None)

    def read_checkpoint(self, execution_id: str, checkpoint_id: str) -> Checkpoint:
        """Read one checkpoint, with its state.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        head = self._at(execution_id, checkpoint_id)
        return checkpoint_of(head.entry, serialization.load(head.state))

    def diff(self, execution_id: str, checkpoint_id: str, other_id: str) -> Diff:
        """What changes the state of one checkpoint into that of another, as JSON Patch (RFC 6902).

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        before, after = (
            serialization.load(self._at(execution_id, checkpoint).state)
            for checkpoint in (checkpoint_id, other_id)
        )
        patch = patch_of(before, after)
        return Diff(
            execution_id=execution_id, checkpoint_id=checkpoint_id, other_id=other_id, patch=patch
        )

    def cost(self, execution_id: str) -> Cost:
        """What an execution keeps in the store, by a LIST for every 1,000 entries."""
        self.run(execution_id)
        entries, size = self.log(execution_id).cost()
        return Cost(execution_id=execution_id, entries=entries, puts=entries, bytes_stored=size)

    # ------------------------------------------------------------------ acting

    def checkpoint(
        self, execution_id: str, *, state: Any, label: str | None = None, attempt: int | None = None
    ) -> Saved:
        """Save a checkpoint by hand; the answer tells whether the execution should go on.

        A process that runs the execution in Prefect keeps its own state: its next checkpoint comes
        after this one.

        Args:
            execution_id: Its id.
            state: The state.
            label: What people see.
            attempt: Only as this attempt, if it is the newest.

        Raises:
            StateError: part of the state can't be kept; nothing was saved.
            ExecutionConflict: the execution has ended; nothing was saved.
            Superseded: another attempt has begun, or is to begin; nothing was saved.
        """
        data = serialization.dump(state)
        run = self.run(execution_id)
        log = self.log(execution_id)
        head = self.head_for(run, log, attempt)
        while True:
            try:
                saved = log.checkpoint(head, data, label=label)
            except Superseded:  # an attempt began just now
                if attempt is not None:
                    raise
                head = self.head_for(run, log, attempt)  # this checkpoint comes after it
            else:
                break
        entry = saved.entry
        self.tell(run.id, run.name, entry)
        # Of an agent outside Prefect it is a report, and its sign of life.
        status = self.standing(run, saved) if OUTSIDE in run.tags else status_of(run)
        return Saved(checkpoint=checkpoint_of(entry, state), status=status, attempt=entry.attempt)

    def head_for(self, run: FlowRun, log: ExecutionLog, attempt: int | None) -> Head:
        """The head of a log that may be written to, by an attempt if one is given.

        Raises:
            ExecutionConflict: the execution has ended, or is just being completed.
            Superseded: the attempt is not the newest, or another one is to begin.
        """
        head = log.living_head()
        self.require_reportable(run, log, head, attempt)
        return head

    def require_reportable(
        self, run: FlowRun, log: ExecutionLog, head: Head, attempt: int | None
    ) -> None:
        """Check that there may be written after a head, by an attempt if one is given.

        Raises:
            ExecutionConflict, Superseded: see `head_for`.
        """
        # An agent outside Prefect learns of it here, and so its process is told.
        status = status_of(self.flow_runs.end_cancelling(run))
        require_open(log.execution_id, status)
        if attempt is None:
            if head.entry.kind is Kind.RESULT:
                hint = "It is just being completed."
                raise ExecutionConflict(log.execution_id, "checkpoint", status, hint)
            return
        if attempt != head.entry.attempt:
            raise Superseded(log.execution_id, attempt, f"attempt {head.entry.attempt}")
        if head.entry.fenced or not (state_of(run).is_running() or state_of(run).is_paused()):
            raise Superseded(log.execution_id, attempt, "one that is to begin")

    def pause(
        self,
        execution_id: str,
        *,
        reason: str | None = None,
        until: datetime | None = None,
        on_timeout: OnTimeout = OnTimeout.RESUME,
    ) -> tuple[Execution, bool]:
        """Pause an execution: its process ends at its next checkpoint.

        Args:
            execution_id: Its id.
            reason: What people see.
            until: When the pause ends by itself, within a minute; by default it does not.
            on_timeout: What becomes of the execution then.

        Returns:
            The execution, and whether that changed anything: not if it was paused already.

        Raises:
            ExecutionConflict: it has ended.
        """
        run = self.run(execution_id)
        history = self.log(execution_id).read(checkpoints=100)
        require_pausable(execution_id, status_of(run))
        changed = status_of(run) is not Status.PAUSED
        run = self.flow_runs.suspend(
            run.id, key=pause_key(until, on_timeout), reason=reason, form=resume_form(history)
        )
        return execution_of(run, history, self.clock(), states=False), changed

    def resume(
        self, execution_id: str, *, checkpoint_id: str | None = None, answer: Any = None
    ) -> Resumed:
        """Resume a paused, failed or terminated execution.

        Args:
            execution_id: Its id.
            checkpoint_id: Roll back to this checkpoint; `ckpt_000000` starts over. By default it
                continues from its newest state.
            answer: To what the flow asks, as JSON; None: nothing is answered.

        Returns:
            The execution, and which steps lie behind the checkpoint: their effects have happened.

        Raises:
            CheckpointNotFound: it has no such checkpoint; nothing was changed.
            ExecutionConflict: it runs, or has completed.
            AnswerError: the answer does not fit what is asked; nothing was changed.
        """
        if not (answer is None or isinstance(answer, dict)):
            raise AnswerError(f"is a {type(answer).__name__}; give an object.")
        try:
            serialization.dump(answer, at="…")
        except StateError as error:  # Prefect would fail over it
            raise AnswerError(f"{error.path} {error.problem}") from error
        run = self.run(execution_id)
        log = self.log(execution_id)
        log.living_head()
        run = self.flow_runs.end_cancelling(run)
        require_resumable(execution_id, status_of(run))
        require_restartable(run)
        lost: list[Record] = []
        if checkpoint_id is not None:
            if answer is not None:
                raise AnswerError("who rolls back is asked anew; give it without checkpoint_id.")
            if run.deployment_id is None:
                hint = "It has no deployment: no other process can go on from a checkpoint."
                raise ExecutionConflict(execution_id, "roll back", status_of(run), hint)
            log.rollback(checkpoint_seq(execution_id, checkpoint_id), tell=lost.extend)
            if lost:
                logger.warning("%s goes back. %s", execution_id, warning(checkpoint_id, lost))
            forget_choice(self.flow_runs.client, run.id, self.flow_runs.states(run))
        try:
            run = self.flow_runs.resume(run.id, answer=answer, asked_anew=checkpoint_id is not None)
        except ExecutionConflict as conflict:
            # Who else lets it go on just now, lets it go on from the checkpoint.
            if checkpoint_id is None or conflict.status != Status.RUNNING:
                raise
            run = self.flow_runs.read(run.id)
        history = log.read(checkpoints=100)
        execution = execution_of(run, history, self.clock(), states=False)
        steps = [
            StepBehind(step=record.step, recorded_at=record.at, undo=record.undo) for record in lost
        ]
        return Resumed(**dict(execution), steps_behind=steps)

    def delete(self, execution_id: str, *, patience: float = DELETE_PATIENCE) -> bool:
        """Delete an execution; one that runs is terminated first.

        What has begun is finished by a repeat, or by the supervisor: the flow run is marked first,
        and removed last.

        Args:
            execution_id: Its id.
            patience: How long to wait for its process to end, in seconds.

        Returns:
            Whether all of it is gone. If not, its process needs longer to end.
        """
        log = self.log(execution_id)
        run = self.flow_runs.find(flow_run_id(execution_id))
        if run is None and self.agents is not None:  # nobody can tell any more whose it was
            raise ExecutionNotFound(execution_id)
        if run is not None and not self._sees(run):
            raise ExecutionNotFound(execution_id)
        if (run is None or DELETING not in run.tags) and not log.exists():
            raise ExecutionNotFound(execution_id)
        if run is not None:
            self.flow_runs.mark_deleting(run)
        with suppress(ExecutionNotFound):  # the log is gone already
            log.delete()
        if run is not None:
            send_deleted(run.id, run.name)
        if not self._end(flow_run_id(execution_id), patience):
            return False
        log.purge()
        with suppress(ExecutionNotFound):
            self.flow_runs.delete(flow_run_id(execution_id))
        return True

    def _end(self, run_id: UUID, patience: float) -> bool:
        """Cancel a run, and wait for its process to end; whether it has."""
        deadline = monotonic() + patience
        with suppress(ExecutionNotFound):  # it is gone, deleted here or in the Prefect UI
            self.flow_runs.cancel(run_id)
        while not self.has_ended(run_id):
            if monotonic() > deadline:
                return False
            self.wait(0.2)
        return True

    def has_ended(self, run_id: UUID) -> bool:
        """Whether a run that was cancelled has no process any more; one that is gone has none."""
        run = self.flow_runs.find(run_id)
        return run is None or state_of(self.flow_runs.end_cancelling(run)).is_final()

    def log(self, execution_id: str) -> ExecutionLog:
        """The log of an execution, which may not exist."""
        return ExecutionLog(self.objects, execution_id, clock=self.clock)

    def run(self, execution_id: str) -> FlowRun:
        """The flow run that an execution is."""
        run = self.flow_runs.read(flow_run_id(execution_id))
        if not is_created(run) or DELETING in run.tags or not self._sees(run):
            raise ExecutionNotFound(execution_id)
        return run

    def standing(self, run: FlowRun, head: Head) -> Status:
        """Where an agent outside Prefect stands that reports, and is told so.

        If it is paused, it leaves; if it was active for longer than it may be, it has failed.
        """
        if state_of(run).is_paused():
            send_attempt_ended(run.id, run.name, head.entry.attempt)
        limit = head.created.config.max_duration_seconds
        active = active_seconds(run, head, self.clock())
        if limit is not None and state_of(run).is_running() and active > limit:
            run = self.flow_runs.fail(run, f"{DurationExceeded(execution_id(run.id), limit)}")
        return status_of(run)

    def has_begun(self, execution_id: str, attempt: int) -> bool:
        """Whether an attempt has begun, and runs or has run."""
        run = self.run(execution_id)
        head = self.log(execution_id).living_head()
        return head.entry.attempt >= attempt and not state_of(run).is_scheduled()

    def has_left(self, execution_id: str) -> bool:
        """Whether no process of an execution that is paused or has ended is at work any more."""
        run = self.run(execution_id)
        states = self.flow_runs.states(run)
        began = next((state for state in reversed(states) if state.is_running()), None)
        if began is None or state_of(run).is_running():
            return began is None
        return has_ended(self.flow_runs.client, run.id, began.timestamp)

    def _sees(self, run: FlowRun) -> bool:
        return self.agents is None or any(agent_tag(agent) in run.tags for agent in self.agents)

    def _at(self, execution_id: str, checkpoint_id: str) -> Head:
        self.run(execution_id)
        return self.log(execution_id).at_checkpoint(checkpoint_seq(execution_id, checkpoint_id))


def _version(run: FlowRun, newest: int | None) -> str:
    return f"{state_of(run).id.hex}-{newest}"
