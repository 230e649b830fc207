"""Executions as Prefect's flow runs: creating, suspending, resuming, ending and removing them.

One execution is one flow run, so nothing maps one to the other but their ids, and Prefect is the
only truth about status.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
    Scheduled,
)

from prefect_executions import serialization
from prefect_executions.errors import (
    AnswerError,
    DeploymentNotFound,
    ExecutionConflict,
    ExecutionNotFound,
    ParametersError,
)
from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import detail_of, prefect_errors
from prefect_executions.prefect.pauses import (
    Form,
    asks_for_checkpoint,
    described,
    lacks_form,
    paused,
    save_form,
)
from prefect_executions.prefect.states import (
    CREATING,
    follow_up,
    hold,
    is_bare_pause,
    is_created,
    lost_its_process,
    read_states,
    refusal,
    require_restartable,
    restore,
    scheduled_again,
    set_state,
    state_of,
    status_of,
    uncovered,
)
from prefect_executions.prefect.tags import DELETING, OUTSIDE, tags_of

OUTSIDE_DEPLOYMENT = "agent/outside-prefect"
_PAGE = 200  # what Prefect lists at once

# The process worker reports a crash a second time, 3 to 6 s after the first; a run that was
# scheduled in between would take that for a crash of its new attempt.
CRASH_SETTLES = timedelta(seconds=10)

# Prefect kills a cancelled process after 30 s. A run that is Cancelling for longer has lost its
# worker, and nobody will ever make it Cancelled.
CANCEL_ENDS = timedelta(seconds=60)

# A pause is there a moment before its form, without which Prefect resumes nothing.
FORM_LOOKS = 20  # how often it is looked for
FORM_PAUSE = 0.25  # seconds between two of these

TAKING_LOOKS = 50  # how often a run is looked at that a worker is just taking
TAKING_PAUSE = 0.1  # seconds between two of these


class FlowRuns:
    """The flow runs that executions are, on a Prefect server.

    Args:
        client: Prefect's.
        store: The name of the Execution Store block that they are kept in.
        wait: Sleeps for so many seconds.

    Every method raises `PrefectUnavailable` when the server does not answer, and
    `ExecutionNotFound` when it does not know the run.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        *,
        store: str = "default",
        wait: Callable[[float], None] = sleep,
    ) -> None:
        self.client = client
        self.tags = tags_of(store)
        self._wait = wait

    def read(self, run_id: UUID) -> FlowRun:
        """Ask Prefect for a run."""
        with prefect_errors(run_id):
            return self.client.read_flow_run(run_id)

    def find(self, run_id: UUID) -> FlowRun | None:
        """Ask Prefect for a run that may be gone."""
        try:
            return self.read(run_id)
        except ExecutionNotFound:
            return None

    def being_deleted(self) -> list[FlowRun]:
        """The runs in this store that somebody has asked to delete."""
        return self._list(FlowRunFilter(tags=FlowRunFilterTags(all_=[*self.tags, DELETING])))

    def in_state(self, *types: StateType, ended_after: datetime | None = None) -> list[FlowRun]:
        """The runs in this store whose state is of a type, but for those that are being deleted.

        Args:
            types: One of these types.
            ended_after: Only those that ended after this time.
        """
        filter_ = FlowRunFilter(
            tags=FlowRunFilterTags(all_=self.tags),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
            end_time=FlowRunFilterEndTime(after_=ended_after) if ended_after else None,
        )
        return [run for run in self._list(filter_) if DELETING not in run.tags]

    def _list(self, filter_: FlowRunFilter) -> list[FlowRun]:
        """All runs that a filter finds; one that changes meanwhile may be left out."""
        return [run for page in pages_of(self.client, filter_) for run in page]

    def create(
        self,
        deployment: str | None,
        *,
        name: str,
        parameters: dict[str, Any],
        tags: list[str],
        key: str | None = None,
    ) -> FlowRun:
        """Create a run in a state that no worker takes; `schedule` or `start` releases it.

        Args:
            deployment: What runs it; None: an agent outside Prefect.
            name: What it is called.
            parameters: Of the deployment's flow.
            tags: Its tags, beside those that all have.
            key: Of the request: a run that was created with it is returned, and none created.

        Raises:
            DeploymentNotFound: there is no such deployment.
            ParametersError: the deployment's flow does not take these parameters.
        """
        tags = [*self.tags, *([] if deployment else [OUTSIDE]), *tags]
        with prefect_errors():
            if key is not None and (there := self._with_key(key)) is not None:
                return there
            deployment_id = self._find(deployment) if deployment else self.outside()
            try:
                # Of requests at once for one deployment Prefect lets one create. For several
                # deployments each may: who gives them one key has made a mistake, and gets both.
                return self.client.create_flow_run_from_deployment(
                    deployment_id,
                    name=name,
                    parameters=parameters,
                    tags=tags,
                    state=Pending(name=CREATING),
                    # The client repeats a request whose answer was lost.
                    idempotency_key=f"execution-{uuid4()}" if key is None else self._key(key),
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (409, 422):
                    raise ParametersError(detail_of(error.response)) from error
                raise

    def _find(self, deployment: str) -> UUID:
        try:
            try:
                return self.client.read_deployment(UUID(deployment)).id
            except ValueError:
                return self.client.read_deployment_by_name(deployment).id
        except (ObjectNotFound, ValueError, httpx.InvalidURL):
            raise DeploymentNotFound(deployment) from None

    def outside(self) -> UUID:
        """The deployment of the runs of agents outside Prefect; it is made if need be.

        It has nothing that a worker could run, and gives its runs the buttons in the Prefect UI.
        """
        flow_name, name = OUTSIDE_DEPLOYMENT.split("/")
        try:
            return self.client.read_deployment_by_name(OUTSIDE_DEPLOYMENT).id
        except ObjectNotFound:
            return self.client.create_deployment(
                self.client.create_flow_from_name(flow_name),
                name,
                description="Executions that agents outside Prefect run, and report on over REST.",
            )

    def _key(self, key: str) -> str:
        return f"execution-{serialization.digest(*self.tags, key)}"

    def _with_key(self, key: str) -> FlowRun | None:
        """The run that was created with a key, whatever its deployment."""
        filter_ = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[self._key(key)]))
        return next(iter(self.client.read_flow_runs(flow_run_filter=filter_, limit=1)), None)

    def schedule(self, run: FlowRun) -> FlowRun:
        """Let a worker take a run that was just created, unless somebody else has done so."""
        run = self.read(run.id)
        return run if is_created(run) else self._set(run.id, Scheduled(), "start")

    def start(self, run: FlowRun) -> FlowRun:
        """Say that an agent outside Prefect runs a run from now on.

        Prefect lets Running replace whatever has been set since the run was read. A pause or a
        cancellation among it is set again.

        Raises:
            ExecutionConflict: the run was paused or ended meanwhile.
        """
        operation = "begin an attempt of"
        running = follow_up(self.client, run.id, state_of(run).id, Running(), operation)
        if running is not None:
            return running
        status = status_of(self.read(run.id))
        raise ExecutionConflict(execution_id(run.id), operation, status, "That came just now.")

    def complete(self, run: FlowRun) -> FlowRun:
        """Say that an agent outside Prefect has completed its run."""
        return self._set(run.id, Completed(message="Completed by its agent"), "complete")

    def suspend(self, run_id: UUID, *, key: str, reason: str | None, form: Form) -> FlowRun:
        """Suspend a run: its process leaves at its next checkpoint.

        Args:
            run_id: The run.
            key: Of the pause, which says when it ends.
            reason: What people see.
            form: What the Resume form asks.

        Raises:
            ExecutionConflict: Prefect does not allow it: the run ended meanwhile.
        """
        run = self._begun_to_start(run_id)
        if state_of(run).is_paused():
            return run
        # Prefect lets only a Running run be suspended. One that no process has taken yet is
        # suspended by force; if a process takes it at that very moment, it finds at its start that
        # it was suspended and leaves (see `Ownership`).
        force = not state_of(run).is_running()
        run = self._set(run_id, paused(key, reason), "pause", force=force)
        save_form(self.client, run_id, state_of(run), form)
        return run

    def _begun_to_start(self, run_id: UUID) -> FlowRun:
        """Read a run; one that a worker is just taking, when that is over.

        Prefect's worker says Pending, and then Submitting. If it is told between these two that the
        run is paused, it ends, and with it all of its flow processes.
        """
        run = self.read(run_id)
        for _ in range(TAKING_LOOKS):
            if not (state_of(run).is_pending() and state_of(run).name == "Pending"):
                break
            self._wait(TAKING_PAUSE)
            run = self.read(run_id)
        return run

    def complete_pause(self, run: FlowRun, form: Callable[[], Form]) -> None:
        """Give a pause its form: one made in the Prefect UI, or whose maker has died before that.

        What a flow asks only the flow knows: it is resumed without an answer, and asks anew.

        Args:
            run: The run.
            form: The form of a pause in which nothing is asked but where to continue from.
        """
        state = state_of(run)
        if is_bare_pause(state):
            asked = form()
            if self.is_still(run):
                hold(self.client, run, asked)
        elif lacks_form(self.client, run.id, state):
            lost = Form({"type": "object", "properties": {}}, "The flow will ask once more.")
            save_form(self.client, run.id, state, form() if asks_for_checkpoint(state) else lost)

    def resume(
        self, run_id: UUID, *, answer: dict[str, Any] | None = None, asked_anew: bool = False
    ) -> FlowRun:
        """Let a worker continue a run that is suspended or has ended.

        A crash that was reported less than 10 s ago is waited for to settle.

        Args:
            run_id: The run.
            answer: To what it asks.
            asked_anew: Whether it goes back to before it has asked, and so needs no answer.

        Raises:
            ExecutionConflict: Prefect does not allow it.
            AnswerError: the answer does not fit what was asked, or there is none.
        """
        run = self.read(run_id)
        state = state_of(run)
        asks = state.is_paused() and bool(state.state_details.run_input_keyset)
        if answer is not None and not asks:
            raise AnswerError("nothing is asked; leave it out.")
        if asks and asked_anew:
            return self._set(run_id, AwaitingRetry(message="Resumed"), "resume", force=True)
        if state.is_paused() and not lost_its_process(state):
            given, run = self._resume_paused(run, answer)
            if given.status is SetStateStatus.ACCEPT:
                return run
            if asks and state_of(run).id == state.id:
                reason = getattr(given.details, "reason", None) or "it was refused."
                raise AnswerError(f"{reason} {described(self.client, run_id, state)}")
            # A pause whose time-out has passed is failed by Prefect only now, when it is resumed.
            if not state_of(run).is_failed():
                raise refusal(run_id, "resume", run, given.details)
            state = state_of(run)
        if state.is_crashed() and OUTSIDE not in run.tags:
            settled = state.timestamp + CRASH_SETTLES
            left = settled - datetime.now(UTC)
            self._wait(min(max(left, timedelta(0)), CRASH_SETTLES).total_seconds())
            run = self.read(run_id)  # a supervisor may have been quicker
        require_restartable(run)
        return self._set(run_id, AwaitingRetry(message="Resumed"), "resume")

    def _resume_paused(
        self, run: FlowRun, answer: dict[str, Any] | None
    ) -> tuple[OrchestrationResult[Any], FlowRun]:
        """What Prefect says to a Resume, and the run after that."""
        state, was_there = state_of(run), False
        for _ in range(FORM_LOOKS):
            with prefect_errors(run.id):
                given = self.client.resume_flow_run(run.id, run_input=answer)
            run = self.read(run.id)
            if given.status is SetStateStatus.ACCEPT or state_of(run).id != state.id or was_there:
                return given, run
            was_there = not lacks_form(self.client, run.id, state)
            if not was_there:
                self._wait(FORM_PAUSE)
        hint = "It is just being paused; try again."
        raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)

    def cancel(self, run_id: UUID) -> FlowRun:
        """Ask for the process to be stopped: SIGTERM, and SIGKILL after 30 s."""
        run = self.read(run_id)
        if status_of(run).ended:
            return run
        if state_of(run).is_running():
            return self._set(run_id, Cancelling(), "terminate", force=True)
        # Nobody would ever turn Cancelling into Cancelled where no process runs.
        return self._set(run_id, Cancelled(), "terminate", force=True)

    def crash(self, run: FlowRun, message: str) -> None:
        """Say that a run's process has died, if the run is still as it was read."""
        if self.is_still(run):
            self._set(run.id, Crashed(message=message), "end")

    def states(self, run: FlowRun) -> list[State[Any]]:
        """The states that a run has had, oldest first."""
        return read_states(self.client, run.id)

    def undo_crash(self, run: FlowRun, states: list[State[Any]]) -> bool:
        """Give a run the state back that a crash has covered, if it was more than a crash.

        A worker that finds a process dead says Crashed whatever the run's state is: if it had been
        suspended, cancelled or scheduled again before, then that is what somebody wants of it.

        Returns:
            Whether it was so.
        """
        last = next((state for state in reversed(states) if not state.is_crashed()), None)
        wanted = None if last is None else uncovered(last)
        if last is not None and last.is_scheduled() and run.deployment_id is not None:
            wanted = scheduled_again(last)
        if wanted is not None and self.is_still(run):
            restore(self.client, run.id, wanted)
        return wanted is not None

    def undo_repeated_cancellation(self, run: FlowRun, states: list[State[Any]]) -> bool:
        """Let a run go on that somebody let go on before its worker reported its end once more.

        A worker on a busy machine reports a process that it has cancelled up to three times, within
        a minute, each time in the same words, and over whatever has been set in between.

        Returns:
            Whether it was so.
        """
        told = [state for state in states if not (state.is_pending() or state.is_crashed())]
        asked = max((at for at, state in enumerate(told) if state.is_cancelling()), default=-1)
        since = told[asked + 1 :]
        reports = [state for state in since if state.is_cancelled()]
        goes_on = [state for state in since if state.is_scheduled()]
        if not (
            asked >= 0
            and goes_on
            and since[-2:] == [goes_on[-1], reports[-1]]
            and len(since) == len(reports) + len(goes_on)
            and reports[0].message  # that of a person has none
            and {state.message for state in reports} == {reports[0].message}
            and reports[-1].timestamp - told[asked].timestamp < CANCEL_ENDS
            and run.deployment_id is not None
        ):
            return False
        if self.is_still(run):
            restore(self.client, run.id, scheduled_again(goes_on[-1]))
        return True

    def retry(self, run: FlowRun, *, at: datetime, message: str) -> bool:
        """Let a worker continue a run at a time, if it is still as it was read; whether it was.

        Raises:
            ExecutionConflict: Prefect does not allow it: it has no deployment.
        """
        retry: State[Any] = AwaitingRetry(scheduled_time=at, message=message)
        return self.is_still(run) and bool(
            follow_up(self.client, run.id, state_of(run).id, retry, "retry")
        )

    def start_again(self, run: FlowRun) -> bool:
        """Let a worker take a run that another never began, if it is still so; whether it was."""
        again: State[Any] = Scheduled(message="Its worker never began")
        return self.is_still(run) and bool(
            follow_up(self.client, run.id, state_of(run).id, again, "start")
        )

    def fail(self, run: FlowRun, message: str) -> FlowRun:
        """Fail a run, if it is still as it was read."""
        if not self.is_still(run):
            return self.read(run.id)
        return self._set(run.id, Failed(message=message), "fail", force=True)

    def terminate(self, run: FlowRun, message: str) -> None:
        """Cancel a paused run, if it is still as it was read."""
        if self.is_still(run):
            self._set(run.id, Cancelled(message=message), "terminate", force=True)

    def is_still(self, run: FlowRun) -> bool:
        """Whether a run is in the very state in which it was read."""
        now = self.find(run.id)
        return now is not None and state_of(now).id == state_of(run).id

    def end_cancelling(self, run: FlowRun) -> FlowRun:
        """Make a run Cancelled that is Cancelling for so long that nobody else will.

        At once, if an agent outside Prefect runs it: there is no process here that would have to
        end first.
        """
        state = state_of(run)
        if not state.is_cancelling():
            return run
        if OUTSIDE not in run.tags and datetime.now(UTC) - state.timestamp < CANCEL_ENDS:
            return run
        if not self.is_still(run):
            return self.read(run.id)
        return self._set(run.id, Cancelled(message=state.message), "terminate", force=True)

    def mark_deleting(self, run: FlowRun) -> None:
        """Note that a run is to be deleted, so that this can be finished by anybody."""
        if DELETING not in run.tags:
            with prefect_errors(run.id):
                self.client.update_flow_run(run.id, tags=[*run.tags, DELETING])

    def delete(self, run_id: UUID) -> None:
        """Remove a run and its artifacts; it stops no process."""
        self.read(run_id)
        self.delete_artifacts(run_id)
        with prefect_errors(run_id):
            self.client.delete_flow_run(run_id)

    def delete_artifacts(self, run_id: UUID) -> None:
        """Remove the artifacts of a run, which Prefect keeps when the run is gone."""
        with prefect_errors(run_id):
            filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            while artifacts := self.client.read_artifacts(artifact_filter=filter_, limit=200):
                for artifact in artifacts:
                    with suppress(ObjectNotFound):  # somebody else deletes the run, too
                        self.client.delete_artifact(artifact.id)

    def _set(
        self, run_id: UUID, state: State[Any], operation: str, *, force: bool = False
    ) -> FlowRun:
        return set_state(self.client, run_id, state, operation, force=force)


def pages_of(
    client: SyncPrefectClient, filter_: FlowRunFilter, sort: FlowRunSort | None = None
) -> Iterator[list[FlowRun]]:
    """All runs that a filter finds, as many at once as Prefect lists.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    offset = 0
    while True:
        with prefect_errors():
            page = client.read_flow_runs(
                flow_run_filter=filter_, sort=sort, limit=_PAGE, offset=offset
            )
        yield page
        if len(page) < _PAGE:
            return
        offset += len(page)
