"""Reading executions: get, search, checkpoints, versions, costs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Self

from prefect.client.schemas.objects import FlowRun, State

from prefect_executions import serialization
from prefect_executions.config import Status
from prefect_executions.errors import (
    CheckpointNotFound,
    CursorError,
    DiffTooLarge,
    ExecutionNotFound,
    QuestionNotFound,
)
from prefect_executions.executions.families import awaited_by
from prefect_executions.executions.search import Search
from prefect_executions.executions.sight import ALL, Sight
from prefect_executions.executions.views import (
    checkpoint_of,
    checkpoints_of,
    claim,
    execution_of,
    is_unclaimed,
    patch_of,
    question_of,
    run_page_of,
    steps_since,
    summary_of,
)
from prefect_executions.ids import checkpoint_seq, execution_id, flow_run_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.models import (
    Checkpoint,
    CheckpointPage,
    Cost,
    Diff,
    Execution,
    ExecutionFilter,
    Order,
    Page,
    Question,
)
from prefect_executions.prefect.events import has_ended, last_sign
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import is_question, read_form
from prefect_executions.prefect.run_page import NEWEST, RunPage
from prefect_executions.prefect.states import is_created, state_of, status_of
from prefect_executions.prefect.tags import DELETING
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import Objects

DIFF_BYTES = 4 << 20  # of two states as JSON: to compare them may take seconds
_SETTLED = timedelta(minutes=1)  # longer than any read takes, and than clocks differ

_beside = ThreadPoolExecutor(32, thread_name_prefix="executions-store")


@dataclass(frozen=True)
class ExecutionReader:
    """Reads the executions in a store, on a Prefect server.

    Args:
        objects: The store.
        flow_runs: Their flow runs.
        clock: Returns the present time.
        sight: Which of the executions are seen.

    Every method raises `ExecutionNotFound` for an id that is malformed, not seen or deleted,
    `StoreUnavailable` when the store does not answer, and `PrefectUnavailable` when Prefect does
    not. Nothing is kept here: any number of instances may use the same executions.
    """

    objects: Objects
    flow_runs: FlowRuns
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sight: Sight = ALL

    def seen_by(
        self, agents: frozenset[str] | None, deployments: frozenset[str] | None = None
    ) -> Self:
        """The executions of some agents and deployments; None for all. See `Sight`."""
        return replace(self, sight=Sight(agents, deployments))

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
        self,
        execution_id: str,
        *,
        checkpoints: int | None = 100,
        states: bool = True,
        state: bool = True,
    ) -> tuple[Execution, str]:
        """`get`, and the `version` of what it returns; `state`: whether its newest comes along."""
        log = self.log(execution_id)
        reading = _beside.submit(log.read, checkpoints=checkpoints)
        run = self.run(execution_id)
        history = reading.result()
        # The log is written before the run ends or is paused. If that has just happened, the log
        # may have been read before the last entry was written.
        if status_of(run) != Status.RUNNING and self.clock() - state_of(run).timestamp < _SETTLED:
            history = log.read(checkpoints=checkpoints)
        execution = execution_of(run, history, self.clock(), states=states, state=state)
        if is_unclaimed(run, history.head) and self._is_heard(run):
            claim(execution)
        return execution, _version(run, history.head.entry.seq)

    def version(self, execution_id: str) -> str:
        """A text that changes whenever the execution does, but not as time passes."""
        newest = _beside.submit(self.log(execution_id).newest)
        run = self.run(execution_id)
        return _version(run, newest.result())

    def run_page(self, run: FlowRun) -> RunPage:
        """What the page of a flow run in the Prefect UI shows."""
        return run_page_of(
            run, self.log(execution_id(run.id)).read(checkpoints=NEWEST), self.clock()
        )

    def search(
        self,
        filter_: ExecutionFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = Order.NEWEST_FIRST,
    ) -> Page:
        """List executions by what Prefect knows of them; the store is not read.

        Pages repeat no execution and skip none, even when executions are created or deleted between
        two pages.

        Args:
            filter_: Which executions.
            limit: How many at most; a page may have fewer even if more follow.
            cursor: `next_cursor` of the page before.
            order: Newest or oldest first.

        Raises:
            CursorError: the cursor is not of this list.
        """
        searched = self.searched(filter_, order)
        runs, next_cursor = searched.page(self.flow_runs.client, limit=limit, cursor=cursor)
        items = [summary_of(run) for run in runs]
        return Page(items=items, next_cursor=next_cursor)

    def searched(self, filter_: ExecutionFilter, order: Order = Order.NEWEST_FIRST) -> Search:
        """The list of executions that a filter finds, as `search` reads it page by page."""
        return Search(self.flow_runs.tags, filter_, order, self.sight)

    def checkpoints(
        self,
        execution_id: str,
        *,
        limit: int = 50,
        cursor: str | None = None,
        until: str | None = None,
        states: bool = False,
    ) -> CheckpointPage:
        """List the checkpoints of an execution, newest first.

        Args:
            execution_id: Its id.
            limit: How many at most.
            cursor: `next_cursor` of the page before.
            until: Begin at this one, or, where none has this id, at the newest before it. Not with
                a cursor.
            states: Whether they come with their states.

        Raises:
            CursorError: the cursor is not of this list.
            CheckpointNotFound: `until` is no id of a checkpoint.
        """
        self.run(execution_id)
        log = self.log(execution_id)
        if cursor is None and until is not None:
            seq = checkpoint_seq(execution_id, until)
            history = log.read_until(seq, checkpoints=limit)
        elif cursor is None:
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
        head = self.at_checkpoint(execution_id, checkpoint_id)
        return checkpoint_of(head.entry, serialization.load(head.state))

    def diff(self, execution_id: str, checkpoint_id: str, other_id: str) -> Diff:
        """Compare two checkpoints: their states, and what steps have recorded.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
            DiffTooLarge: the states have more than `DIFF_BYTES` together.
        """
        self.run(execution_id)
        log = self.log(execution_id)
        seqs = [checkpoint_seq(execution_id, known) for known in (checkpoint_id, other_id)]
        heads = [log.at_checkpoint(seq) for seq in seqs]
        if (size := sum(head.entry.size for head in heads)) > DIFF_BYTES:
            raise DiffTooLarge(size, DIFF_BYTES)
        patch = patch_of(*(serialization.load(head.state) for head in heads))
        return Diff(
            execution_id=execution_id,
            checkpoint_id=checkpoint_id,
            other_id=other_id,
            patch=patch,
            steps=steps_since(*heads),
        )

    def question(self, execution_id: str) -> Question:
        """What an execution asks a person, or an execution called in it that it waits for.

        A resume of either has the answer.

        Raises:
            QuestionNotFound: it asks nothing now.
        """
        run = awaited_by(self.flow_runs, self.run(execution_id))
        state = state_of(run)
        form = read_form(self.flow_runs.client, run.id, state) if is_question(state) else None
        if form is None:
            raise QuestionNotFound(execution_id)
        return question_of(run, form)

    def cost(self, execution_id: str) -> Cost:
        """Measure what an execution keeps in the store, by one LIST for every 1,000 entries."""
        self.run(execution_id)
        entries, size = self.log(execution_id).cost()
        return Cost(execution_id=execution_id, entries=entries, puts=entries, bytes_stored=size)

    def log(self, execution_id: str) -> ExecutionLog:
        """The log of an execution, which may not exist."""
        return ExecutionLog(self.objects, execution_id, clock=self.clock)

    def run(self, execution_id: str) -> FlowRun:
        """Read the flow run of an execution."""
        run = self.flow_runs.read(flow_run_id(execution_id))
        if not is_created(run) or DELETING in run.tags or not self.sight.sees(run):
            raise ExecutionNotFound(execution_id)
        return run

    def at_checkpoint(self, execution_id: str, checkpoint_id: str) -> Head:
        """Read the log of an execution as it was at a checkpoint, but for what steps had recorded.

        Raises:
            CheckpointNotFound: there is no such checkpoint.
        """
        self.run(execution_id)
        seq = checkpoint_seq(execution_id, checkpoint_id)
        return self.log(execution_id).at_checkpoint(seq, journal=False)

    def has_begun(self, execution_id: str, attempt: int) -> bool:
        """Whether an attempt has begun; it may have ended since."""
        run = self.run(execution_id)
        head = self.log(execution_id).living_head(journal=False)
        return head.entry.attempt >= attempt and not state_of(run).is_scheduled()

    def has_left(self, execution_id: str) -> bool:
        """Whether the process of a paused or ended execution is no longer at work."""
        return self.is_left(self.run(execution_id))

    def is_left(self, run: FlowRun) -> bool:
        """Whether no process is at work on a run: its own has said so, or was seen to have died.

        One that a worker has just submitted is at work, though the run is paused already: when it
        starts, it sees that, and leaves.
        """
        if _has_process(state_of(run)):
            return False
        states = self.flow_runs.states(run)
        since = [*takewhile(lambda state: not _has_process(state), reversed(states))]
        if len(since) == len(states) or any(state.is_crashed() for state in since):
            return True
        client, began = self.flow_runs.client, states[-len(since) - 1].timestamp
        if has_ended(client, run.id, began):
            return True
        silence = timedelta(seconds=ExecutionsSettings().silence_seconds)
        return self.clock() - last_sign(client, run.id, began) > silence

    def _is_heard(self, run: FlowRun) -> bool:
        """Whether what runs it has sent a heartbeat since it began."""
        began = state_of(run).timestamp
        return last_sign(self.flow_runs.client, run.id, began) > began


def _has_process(state: State[Any]) -> bool:
    """Whether a run in a state has a process, or a worker is about to start it."""
    return state.is_running() or state.is_pending()


def _version(run: FlowRun, newest: int | None) -> str:
    return f"{state_of(run).id.hex}-{newest}"
