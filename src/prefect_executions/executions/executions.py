"""Acting on executions from outside a run: checkpoint, pause, resume, delete."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.config import OnTimeout, Status
from prefect_executions.errors import (
    AnswerError,
    ExecutionConflict,
    ExecutionNotFound,
    StateError,
    Superseded,
)
from prefect_executions.executions.families import (
    awaited_by,
    require_outermost_deployed,
    require_parents_wait,
    resume_parents,
)
from prefect_executions.executions.reader import ExecutionReader
from prefect_executions.executions.rules import (
    act_on_report,
    require_cancellable,
    require_deployed,
    require_newest,
    require_no_process,
    require_pausable,
    require_reportable,
    require_resumable,
)
from prefect_executions.executions.views import checkpoint_of, execution_of
from prefect_executions.forgotten import warning
from prefect_executions.ids import checkpoint_seq, flow_run_id
from prefect_executions.log.entry import Entry
from prefect_executions.log.journal import Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.models import Execution, Resumed, Saved, StepBehind
from prefect_executions.prefect.events import send_checkpoint_saved, send_deleted, was_deleted
from prefect_executions.prefect.pauses import forget_choice, name_answerer, pause_key
from prefect_executions.prefect.resume_form import resume_form
from prefect_executions.prefect.states import state_of, status_of
from prefect_executions.prefect.tags import DELETING, OUTSIDE

logger = logging.getLogger(__name__)

DELETION_KNOWN = timedelta(days=7)  # Prefect keeps events for as long by default
DELETE_PATIENCE = 10.0  # seconds that a delete waits for the process to end


@dataclass(frozen=True)
class Executions(ExecutionReader):
    """The executions in a store, on a Prefect server: to read, and to act on.

    Args:
        objects: The store.
        flow_runs: Their flow runs.
        clock: Returns the present time.
        sight: Which of the executions are seen.
        wait: Sleeps for so many seconds.
        tell: Sends the event that a checkpoint was saved.

    Every method raises what those of `ExecutionReader` raise.
    """

    wait: Callable[[float], None] = sleep
    tell: Callable[[UUID, str, Entry], None] = send_checkpoint_saved

    def checkpoint(
        self,
        execution_id: str,
        *,
        state: Any,
        label: str | None = None,
        attempt: int | None = None,
        by: str = "hand",
        reason: str | None = None,
        after: str | None = None,
    ) -> Saved:
        """Save a checkpoint by hand, or for an external agent.

        Not while a process runs the execution in Prefect: it keeps its own state, so that its next
        checkpoint would hide this one.

        Args:
            execution_id: Its id.
            state: The state.
            label: What people see.
            attempt: The external agent's attempt; nothing is saved if it is not the newest. None
                for a checkpoint by hand.
            by: Who saves it by hand.
            reason: Why it is saved.
            after: The checkpoint that was corrected: nothing is saved when another one is the
                newest. None for any.

        Returns:
            The checkpoint, and whether an external agent should go on.

        Raises:
            StateError: part of the state can't be kept; nothing was saved.
            ExecutionConflict: the execution has ended, a process runs it, or `after` is not its
                newest checkpoint; nothing was saved.
            CheckpointNotFound: `after` is not the id of a checkpoint.
            Superseded: another attempt has begun, or is about to; nothing was saved.
        """
        data = serialization.dump(state)
        only_after = None if after is None else checkpoint_seq(execution_id, after)
        log = self.log(execution_id)
        nonces = [log.new_nonce()]
        while True:
            head = log.living_head()
            # In this order: a process that begins after the run was read writes after this head.
            run = self.flow_runs.end_cancelling(self.run(execution_id))
            require_reportable(run, head, attempt)
            require_newest(run, head, only_after)
            if attempt is None and not head.entry.fenced and OUTSIDE not in run.tags:
                require_no_process(run, is_left=self.is_left(run))
            # Others may have begun something meanwhile: whether it may be saved after that is
            # seen from the next head.
            with suppress(Superseded):
                saved = log.checkpoint(
                    head,
                    data,
                    label=label,
                    nonces=nonces,
                    by=by if attempt is None else None,
                    reason=reason,
                    only_after=only_after,
                )
                break
        entry = saved.entry
        self.tell(run.id, run.name, entry)
        if OUTSIDE in run.tags:
            status = act_on_report(self.flow_runs, run, saved, self.clock())
        else:
            status = status_of(run)
        return Saved(checkpoint=checkpoint_of(entry, state), status=status, attempt=entry.attempt)

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
            until: When the pause ends by itself, within a minute; by default never.
            on_timeout: What happens to the execution then.

        Returns:
            The execution, and whether this changed anything: False when it was already paused.

        Raises:
            ExecutionConflict: it has ended; or a worker needs very long to take it.
        """
        run = self.flow_runs.settled(self.run(execution_id))
        history = self.log(execution_id).read(checkpoints=100, journal=True)
        require_pausable(run)
        require_outermost_deployed(self.flow_runs, run)
        changed = status_of(run) is not Status.PAUSED
        run = self.flow_runs.suspend(
            run.id, key=pause_key(until, on_timeout), reason=reason, form=resume_form(history)
        )
        return execution_of(run, history, self.clock(), states=False), changed

    def cancel(self, execution_id: str) -> tuple[Execution, bool]:
        """Terminate an execution and keep it: its process is stopped, and it can be resumed.

        Args:
            execution_id: Its id.

        Returns:
            The execution, and whether this changed anything: False when it was terminated already.

        Raises:
            ExecutionConflict: it has completed or failed.
        """
        run = self.flow_runs.settled(self.run(execution_id))
        require_cancellable(run)
        changed = status_of(run) is not Status.TERMINATED
        if changed:
            run = self.flow_runs.cancel(run.id)
        run = self.flow_runs.end_cancelling(run)
        history = self.log(execution_id).read(checkpoints=100)
        return execution_of(run, history, self.clock(), states=False), changed

    def resume(
        self,
        execution_id: str,
        *,
        checkpoint_id: str | None = None,
        answer: Any = None,
        force: bool = False,
        by: str | None = None,
        reason: str | None = None,
    ) -> Resumed:
        """Resume a paused, failed or terminated execution.

        One that waits for an execution called in it resumes that, and gets its answer there.

        Args:
            execution_id: Its id.
            checkpoint_id: Roll back to this checkpoint; `ckpt_000000` starts over. By default it
                continues from its newest state.
            answer: The answer to what the flow asks, as JSON; None for no answer.
            force: Roll back a running one, too: it is paused first.
            by: Who answers, or rolls it back; it is kept with the answer, or the roll-back.
            reason: Why they roll it back.

        Returns:
            The execution, and the steps that were done after the checkpoint: their effects have
            happened.

        Raises:
            CheckpointNotFound: it has no such checkpoint; nothing was changed.
            ExecutionConflict: it is running, or has completed; or it was called in another one,
                and goes on with that; or its deployment is gone.
            AnswerError: the answer does not fit what is asked; nothing was changed.
        """
        _require_object(answer)
        run = self.run(execution_id)
        log = self.log(execution_id)
        log.living_head(journal=False)  # raises when it has been deleted
        run = self.flow_runs.end_cancelling(self.flow_runs.settled(run))
        if force and checkpoint_id is not None and answer is None:
            run = self._paused_to_go_back(run, log, checkpoint_id)
        require_resumable(run)
        require_deployed(self.flow_runs, run)
        lost: list[Record] = []
        if checkpoint_id is not None:
            if answer is not None:
                raise AnswerError("leave it out with checkpoint_id: a roll-back asks again.")
            lost = self._roll_back(run, log, checkpoint_id, by, reason)
        try:
            if checkpoint_id is None:
                run = self._go_on(run, answer, by)
            else:
                run = self.flow_runs.resume(run.id, asked_anew=True)
        except ExecutionConflict as conflict:
            # If somebody else has just resumed it, it continues from the checkpoint all the same.
            if checkpoint_id is None or conflict.status != Status.RUNNING:
                raise
            run = self.flow_runs.read(run.id)
        execution = execution_of(run, log.read(checkpoints=100), self.clock(), states=False)
        steps = [
            StepBehind(
                step=record.step,
                recorded_at=record.at,
                called_with=record.called_with,
                undo=record.undo,
            )
            for record in lost
        ]
        return Resumed(**dict(execution), steps_behind=steps)

    def _go_on(self, run: FlowRun, answer: Any, by: str | None) -> FlowRun:
        """Resume an execution, and the child that it waits for, or the parents that wait for it."""
        waiting = awaited_by(self.flow_runs, run)
        require_parents_wait(self.flow_runs, waiting)
        resumed = self._resume_with(waiting, answer, by)
        resume_parents(self.flow_runs, waiting)
        return resumed if waiting.id == run.id else self.flow_runs.read(run.id)

    def _resume_with(self, run: FlowRun, answer: Any, by: str | None) -> FlowRun:
        """Resume a run with the answer to its question, and keep the name of who answers."""
        key, client = state_of(run).state_details.pause_key, self.flow_runs.client
        if answer is None or by is None or key is None:
            return self.flow_runs.resume(run.id, answer=answer)
        name_answerer(client, run.id, key, by)
        try:
            return self.flow_runs.resume(run.id, answer=answer)
        except (AnswerError, ExecutionConflict):
            name_answerer(client, run.id, key, None)
            raise

    def _paused_to_go_back(self, run: FlowRun, log: ExecutionLog, checkpoint_id: str) -> FlowRun:
        """Pause an execution if it is running, unless it could not be rolled back then."""
        if status_of(run) is not Status.RUNNING:
            return run
        require_deployed(self.flow_runs, run)
        log.at_checkpoint(checkpoint_seq(log.execution_id, checkpoint_id), journal=False)
        self.pause(log.execution_id, reason=f"It goes back to {checkpoint_id}.")
        return self.flow_runs.read(run.id)

    def _roll_back(
        self,
        run: FlowRun,
        log: ExecutionLog,
        checkpoint_id: str,
        by: str | None,
        reason: str | None,
    ) -> list[Record]:
        """Roll an execution back, and return the records of steps after the checkpoint."""
        id_ = log.execution_id
        if run.deployment_id is None:
            hint = "It has no deployment: no other process can go on from a checkpoint."
            raise ExecutionConflict(id_, "roll back", status_of(run), hint)
        lost: list[Record] = []
        log.rollback(checkpoint_seq(id_, checkpoint_id), tell=lost.extend, by=by, reason=reason)
        if lost:
            logger.warning("%s goes back. %s", id_, warning(checkpoint_id, lost))
        forget_choice(self.flow_runs.client, run.id, self.flow_runs.states(run))
        return lost

    def delete(self, execution_id: str, *, patience: float = DELETE_PATIENCE) -> bool:
        """Delete an execution; a running one is terminated first.

        The flow run is marked first and removed last, so that the supervisor or another call can
        finish a deletion that was interrupted.

        Args:
            execution_id: Its id.
            patience: How long to wait for its process to end, in seconds.

        Returns:
            Whether all of it is gone: False when its process needs longer to end.
        """
        run_id = flow_run_id(execution_id)
        log = self.log(execution_id)
        run = self.flow_runs.find(run_id)
        # Whose an execution is, is known by its run alone.
        if self.sight.is_narrow and (run is None or not self.sight.sees(run)):
            raise ExecutionNotFound(execution_id)
        if (run is None or DELETING not in run.tags) and not log.exists():
            raise ExecutionNotFound(execution_id)
        if run is not None:
            self.flow_runs.mark_deleting(run)
        with suppress(ExecutionNotFound):  # the log is gone already
            log.delete()
        if run is not None:
            send_deleted(run.id, run.name)
        if not self._cancel_and_wait(run_id, patience):
            return False
        log.purge()
        with suppress(ExecutionNotFound):
            self.flow_runs.delete(run_id)
        return True

    def was_deleted(self, execution_id: str) -> bool:
        """Whether an execution has been deleted, as far as Prefect keeps events.

        A caller that does not see all is not told, as the event does not say whose it was.
        """
        since = self.clock() - DELETION_KNOWN
        run_id = flow_run_id(execution_id)
        return not self.sight.is_narrow and was_deleted(self.flow_runs.client, run_id, since)

    def finish_cancelling(self, run_id: UUID) -> bool:
        """Make a run Cancelled if nothing else will; return whether it has ended.

        A run that was deleted has ended.
        """
        run = self.flow_runs.find(run_id)
        return run is None or state_of(self.flow_runs.end_cancelling(run)).is_final()

    def _cancel_and_wait(self, run_id: UUID, patience: float) -> bool:
        """Cancel a run and wait for its process to end; return whether it has."""
        deadline = monotonic() + patience
        with suppress(ExecutionNotFound):  # it is gone, deleted here or in the Prefect UI
            self.flow_runs.cancel(run_id)
        while not self.finish_cancelling(run_id):
            if monotonic() > deadline:
                return False
            self.wait(0.2)
        return True


def _require_object(answer: Any) -> None:
    """Check that an answer is None or a JSON object; Prefect's server fails on anything else.

    Raises:
        AnswerError: it is neither.
    """
    if not (answer is None or isinstance(answer, dict)):
        raise AnswerError(f"is a {type(answer).__name__}; give an object.")
    try:
        serialization.dump(answer, at="…")
    except StateError as error:
        raise AnswerError(f"{error.path} {error.problem}") from error
