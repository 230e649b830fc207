"""Suspending and resuming flow runs in Prefect, with their Resume forms.

All functions raise `PrefectUnavailable` when Prefect does not answer, and `ExecutionNotFound` when
it does not know the run.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import AwaitingRetry, Scheduled

from prefect_executions.errors import AnswerError, ExecutionConflict
from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import passing, prefect_errors
from prefect_executions.prefect.pauses import (
    Form,
    asks_for_checkpoint,
    describe_form,
    lacks_form,
    pause_key,
    paused,
    renew_form,
    save_form,
)
from prefect_executions.prefect.states import (
    is_bare_pause,
    lost_its_process,
    require_restartable,
    scheduled_again,
    state_of,
    status_of,
    uncovered,
)
from prefect_executions.prefect.tags import OUTSIDE, parent_of
from prefect_executions.prefect.transitions import (
    covered_by,
    is_still,
    read_run,
    read_states,
    refusal,
    restore,
    set_state,
)

# The process worker reports a crash a second time, 3 to 6 s after the first. A run that was
# scheduled in between would take that for a crash of its new attempt.
CRASH_SETTLES = timedelta(seconds=10)

# A pause exists a moment before its form, and is for a moment without it when the form is renewed.
# Prefect can't resume it then, and says so with these words, which a test compares.
_NO_FORM = "Run input schema not found."
FORM_TRIES = 20  # how often a run is resumed whose form is not there
FORM_PAUSE = 0.25  # seconds between two tries

DUE = timedelta(seconds=30)  # a worker reads a run earlier than it is due, by 10 s by default
PUT_OFF = timedelta(seconds=60)  # if the pause is not carried out, the run goes on after that
POLLED = timedelta(seconds=90)  # a queue that no worker has asked for so long has no worker
READING_TRIES = 30  # how often a run that was put off is read, which a worker may yet take
READING_PAUSE = 0.5  # seconds between two tries; a worker was seen to need 8 s

TAKING_TRIES = 120  # how often a run is read that a worker is just taking
TAKING_PAUSE = 0.25  # seconds between two tries
TAKING_ENDS = timedelta(seconds=60)  # a worker that needs longer has died


def suspend(
    client: SyncPrefectClient,
    run_id: UUID,
    *,
    key: str,
    reason: str | None,
    form: Form,
    wait: Callable[[float], None],
) -> FlowRun:
    """Suspend a run: its process leaves at its next checkpoint.

    Args:
        client: Prefect's client.
        run_id: The run.
        key: The key of the pause, which holds its deadline.
        reason: The message of the state.
        form: What the Resume form asks.
        wait: Sleeps for so many seconds.

    Raises:
        ExecutionConflict: Prefect refuses: the run has just ended; or a worker is just taking it.
    """
    run = _read_when_taken(client, run_id, wait)
    if state_of(run).is_paused():
        return run
    # Prefect suspends no run without a deployment: a child is paused, and its process leaves.
    keeps = run.deployment_id is None and parent_of(run) is not None
    # Prefect suspends only a Running run without force. A run that no process has taken yet is
    # suspended by force; a process that takes it at that moment finds this out when it starts, and
    # leaves (see `Ownership`).
    force = not state_of(run).is_running()
    state = paused(key, reason, keeps_process=keeps)
    run = set_state(client, run_id, state, "pause", force=force)
    save_form(client, run_id, state_of(run), form)
    return run


def _read_when_taken(
    client: SyncPrefectClient, run_id: UUID, wait: Callable[[float], None]
) -> FlowRun:
    """Read a run; if a worker is just taking it, wait until it has.

    Prefect's worker reads which runs are due, and sets each Pending, and then Submitting. When a
    run is paused in between, the worker ends, and all of its flow processes with it. So a run that
    is due is put off first: no worker reads it any more, and one that has read it takes it soon.
    Where no worker asks for runs, none has.

    Raises:
        ExecutionConflict: A worker needs very long to take it.
    """
    run = read_run(client, run_id)
    if _is_due(run):
        later: State[Any] = Scheduled(
            scheduled_time=datetime.now(UTC) + PUT_OFF, message="It is to be paused"
        )
        run = set_state(client, run_id, later, "pause")
        for _ in range(READING_TRIES if _has_worker(client, run) else 0):
            if not state_of(run).is_scheduled():
                break
            wait(READING_PAUSE)
            run = read_run(client, run_id)
    for _ in range(TAKING_TRIES):
        if not _is_being_taken(run):
            return run
        wait(TAKING_PAUSE)
        run = read_run(client, run_id)
    hint = "A worker is just taking it; try again in a moment."
    raise ExecutionConflict(execution_id(run_id), "pause", status_of(run), hint)


def _has_worker(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether anything may be asking for a run that is due: a worker, or `flow.serve()`."""
    if run.work_pool_name is None or run.work_queue_name is None:
        return True
    with prefect_errors(run.id), passing(HTTPStatus.NOT_FOUND):
        polled = client.read_work_queue_by_name(run.work_queue_name, run.work_pool_name).last_polled
        return polled is not None and datetime.now(UTC) - polled < POLLED
    return True


def _is_being_taken(run: FlowRun) -> bool:
    """Whether a worker that lives has set Pending on a run, and is to set Submitting."""
    state = state_of(run)
    if not (state.is_pending() and state.name == "Pending"):
        return False
    return bool(datetime.now(UTC) - state.timestamp < TAKING_ENDS)


def _is_due(run: FlowRun) -> bool:
    """Whether a worker may have read that a run is due, and be about to take it."""
    at = state_of(run).state_details.scheduled_time
    if OUTSIDE in run.tags or not state_of(run).is_scheduled() or at is None:
        return False
    return bool(at - DUE < datetime.now(UTC))


def hold(client: SyncPrefectClient, run: FlowRun, form: Form) -> None:
    """Make a pause from the Prefect UI last, and give it a Resume form.

    A state that was set in between, such as a Resume, is set again.

    Args:
        client: Prefect's client.
        run: The paused run, as it was read.
        form: What the Resume form asks.
    """
    held = set_state(
        client, run.id, paused(pause_key(), state_of(run).message), "pause", force=True
    )
    before = covered_by(client, held)
    if before.id != state_of(run).id:
        goes_on = before.is_scheduled() or before.is_pending() or before.is_running()
        again = scheduled_again(before) if goes_on else uncovered(before)
        if again is not None:
            restore(client, run.id, again)
            return
    save_form(client, run.id, state_of(held), form)


def complete_pause(
    client: SyncPrefectClient,
    run: FlowRun,
    form: Callable[[], Form],
    is_left: Callable[[], bool],
) -> None:
    """Give a pause the form that it lacks.

    A pause from the Prefect UI has none, and neither has one whose process died before saving it.
    Only the flow knows what it asks: without its form it is resumed without an answer, and asks
    again. So a question is given a form only once its process has left.

    Args:
        client: Prefect's client.
        run: The paused run.
        form: Makes the form that asks where to continue from.
        is_left: Whether the run's process has left.
    """
    state = state_of(run)
    if is_bare_pause(state):
        if is_still(client, run):
            renew_pause(client, run, form)
    elif not lacks_form(client, run.id, state):
        return
    elif asks_for_checkpoint(state):
        renew_pause(client, run, form)
    elif is_left():
        lost = Form({"type": "object", "properties": {}}, "The flow will ask once more.")
        save_form(client, run.id, state, lost)


def renew_pause(client: SyncPrefectClient, run: FlowRun, form: Callable[[], Form]) -> None:
    """Let the Resume form of a pause offer the checkpoints that have been saved since.

    A pause from the Prefect UI gets a form. A question of the flow stays as it is.

    Args:
        client: Prefect's client.
        run: The run, which need not be paused.
        form: Makes the form that asks where to continue from.
    """
    if is_bare_pause(state_of(run)):
        hold(client, run, form())
        run = read_run(client, run.id)
    if asks_for_checkpoint(state_of(run)):
        renew_form(client, run.id, state_of(run), form)


def resume(
    client: SyncPrefectClient,
    run_id: UUID,
    *,
    answer: dict[str, Any] | None = None,
    asked_anew: bool = False,
    wait: Callable[[float], None],
) -> FlowRun:
    """Let a worker continue a run that is suspended or has ended.

    Waits until a crash is 10 s old, see `CRASH_SETTLES`.

    Args:
        client: Prefect's client.
        run_id: The run.
        answer: The answer to what the pause asks.
        asked_anew: Whether the run goes back to before the question, and so needs no answer.
        wait: Sleeps for so many seconds.

    Raises:
        ExecutionConflict: Prefect refuses.
        AnswerError: The answer does not fit the question, or is missing.
    """
    run = read_run(client, run_id)
    state = state_of(run)
    asks = state.is_paused() and bool(state.state_details.run_input_keyset)
    if answer is not None and not asks:
        raise AnswerError("nothing is asked; leave it out.")
    if asks and asked_anew:
        return set_state(client, run_id, AwaitingRetry(message="Resumed"), "resume", force=True)
    if state.is_paused() and not lost_its_process(state):
        given, run = _resume_paused(client, run, answer, wait)
        if given.status is SetStateStatus.ACCEPT:
            return run
        if asks and state_of(run).id == state.id:
            reason = getattr(given.details, "reason", None) or "it was refused."
            raise AnswerError(f"{reason} {describe_form(client, run_id, state)}")
        # Prefect fails a pause whose time-out has passed only now, when it is resumed.
        if not state_of(run).is_failed():
            raise refusal(run, "resume", given.details)
        state = state_of(run)
    if state.is_crashed() and OUTSIDE not in run.tags:
        left = state.timestamp + CRASH_SETTLES - datetime.now(UTC)
        wait(min(max(left, timedelta(0)), CRASH_SETTLES).total_seconds())
        run = read_run(client, run_id)  # a supervisor may have been quicker
    require_restartable(run)
    return set_state(client, run_id, AwaitingRetry(message="Resumed"), "resume")


def _resume_paused(
    client: SyncPrefectClient,
    run: FlowRun,
    answer: dict[str, Any] | None,
    wait: Callable[[float], None],
) -> tuple[OrchestrationResult[Any], FlowRun]:
    """Resume a paused run as Prefect does; returns its answer, and the run after it."""
    for _ in range(FORM_TRIES):
        with prefect_errors(run.id):
            given = client.resume_flow_run(run.id, run_input=answer)
        run = read_run(client, run.id)
        if getattr(given.details, "reason", None) != _NO_FORM:
            return given, run
        wait(FORM_PAUSE)
    hint = "It is just being paused; try again."
    raise ExecutionConflict(execution_id(run.id), "resume", status_of(run), hint)


def pause_ended(client: SyncPrefectClient, run_id: UUID, key: str) -> tuple[bool, bool]:
    """Whether a run was paused under a key, and whether that pause was resumed."""
    states = read_states(client, run_id)
    at = [
        place
        for place, known in enumerate(states)
        if known.is_paused() and known.state_details.pause_key == key
    ]
    if not at:
        return False, False
    after = states[at[-1] + 1 :][:1]
    return True, any(state.name in ("Resuming", "Running") for state in after)
