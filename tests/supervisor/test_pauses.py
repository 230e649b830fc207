"""Pauses: their forms, and how they end in time."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Cancelled, Crashed, Paused, Pending, Running, Scheduled, Suspended

from idle import IdleWorld
from prefect_executions.config import OnTimeout
from prefect_executions.errors import ExecutionConflict
from prefect_executions.ids import execution_id
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import (
    Form,
    asks_for_checkpoint,
    lacks_form,
    pause_key,
    paused,
    question_key,
    read_form,
    save_form,
)
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.suspension import complete_pause, hold, renew_pause
from prefect_executions.prefect.transitions import undo_start
from world import eventually


def test_a_pause_in_the_prefect_ui_loses_its_time_out_and_gets_a_form(here: IdleWorld) -> None:
    run = here.create()
    expires = datetime.now(UTC) + timedelta(seconds=300)
    here.executions.checkpoint(execution_id(run.id), state={"n": 1}, label="first")
    here.set(run, Running(), Suspended(message="why", pause_expiration_time=expires))

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("Suspended", "why")
    assert state.state_details.pause_timeout is None
    assert state.state_details.pause_reschedule
    assert asks_for_checkpoint(state)
    keys = state.state_details.run_input_keyset or {}
    schema = json.loads(here.prefect.read_flow_run_input(run.id, keys["schema"]))
    offered = schema["properties"]["checkpoint"]["enum"]
    assert [choice.split(" · ")[0:2] for choice in offered[1:]] == [["ckpt_000001", "first"]]


COVERED = [Suspended(message="why"), Cancelled(message="why")]


def covered(here: IdleWorld, state: State[Any]) -> FlowRun:
    """A run whose process set Running over a state as it started, and was then ended by Prefect."""
    run = here.create(max_retries=3)
    here.set(run, Pending(name="Submitting"), state, Running())
    return here.prefect.read_flow_run(run.id)


def test_a_pause_that_a_process_has_covered_and_left_so_is_set_again(here: IdleWorld) -> None:
    run, supervisor = covered(here, COVERED[0]), here.supervisor()

    def look() -> bool:
        supervisor.look()
        return here.name_of(run) == "Suspended"

    eventually(look, "the event of the pause is stored, and the pause set again")
    supervisor.look()

    state = state_of(here.prefect.read_flow_run(run.id))
    assert state.message == "why"
    assert asks_for_checkpoint(state)


@pytest.mark.parametrize("state", COVERED, ids=["paused", "cancelled"])
def test_what_a_process_has_covered_and_left_so_is_set_again_without_an_event(
    here: IdleWorld, state: State[Any]
) -> None:
    run = covered(here, state)

    here.silent_runs().act(run)

    now = state_of(here.prefect.read_flow_run(run.id))
    assert (now.name, now.message) == (state.name, "why")


@pytest.mark.parametrize(
    "states",
    [
        [Suspended(), Scheduled(name="Resuming"), Pending(), Running()],
        [Paused(), Running()],  # a process has kept it, and goes on
    ],
    ids=["resumed", "kept"],
)
def test_a_run_that_goes_on_after_a_pause_covers_nothing(
    here: IdleWorld, states: list[State[Any]]
) -> None:
    run = here.create()
    here.set(run, Running(), *states)
    before = here.prefect.read_flow_run(run.id)

    assert undo_start(here.prefect, before) is None
    assert state_of(here.prefect.read_flow_run(run.id)).id == state_of(before).id


@pytest.mark.parametrize(
    ("between", "is_then"),
    [
        ([Scheduled(name="Resuming")], "AwaitingRetry"),
        ([Scheduled(name="Resuming"), Pending()], "AwaitingRetry"),
        ([Cancelled()], "Cancelled"),
        ([Suspended(pause_key="another")], "Suspended"),
        ([Crashed()], "Suspended"),
        ([], "Suspended"),
    ],
    ids=["resumed", "taken", "cancelled", "held", "crashed", "nothing"],
)
def test_what_comes_between_a_pause_and_its_form_lasts(
    here: IdleWorld, between: list[State[Any]], is_then: str
) -> None:
    """The form is set by force, which would replace a Resume that came in between."""
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))
    as_it_was_read = here.prefect.read_flow_run(run.id)
    here.set(run, *between)

    hold(here.prefect, as_it_was_read, Form({"type": "object", "properties": {}}, ""))

    assert here.name_of(run) == is_then


def offering(checkpoint: str) -> Form:
    return Form({"type": "object", "properties": {"checkpoint": {"enum": [checkpoint]}}}, "")


def form_of(here: IdleWorld, run: FlowRun) -> Form | None:
    return read_form(here.prefect, run.id, state_of(here.prefect.read_flow_run(run.id)))


@pytest.mark.parametrize("has_form", [False, True], ids=["of the UI", "over REST"])
def test_the_process_that_leaves_meets_a_form_that_was_read_before_its_last_checkpoint(
    here: IdleWorld, has_form: bool
) -> None:
    run = here.create()
    here.set(run, Running(), paused(pause_key(), "why") if has_form else Suspended(message="why"))
    run = here.prefect.read_flow_run(run.id)
    supervisors = iter([None])

    def last() -> Form:
        for _ in supervisors:  # it is quicker, just now
            complete_pause(here.prefect, run, lambda: offering("the one before"), lambda: False)
        return offering("the last")

    renew_pause(here.prefect, run, last)

    assert form_of(here, run) == offering("the last")


def test_a_supervisor_that_gives_a_form_reads_the_log_after_it(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))
    newest = iter(["the one before", "the last", "the last"])

    read = here.prefect.read_flow_run(run.id)
    complete_pause(here.prefect, read, lambda: offering(next(newest)), lambda: False)

    assert form_of(here, run) == offering("the last")


def test_a_pause_waits_while_a_worker_is_just_taking_the_run(here: IdleWorld) -> None:
    """A worker that finds the run paused would end, and with it all of its flow processes."""
    run = here.create()
    here.set(run, Pending())
    states = iter([Pending(name="Submitting")])

    def goes_on(_: float) -> None:
        here.set(run, *([state] if (state := next(states, None)) else []))

    flow_runs = FlowRuns(here.prefect, wait=goes_on)
    flow_runs.suspend(run.id, key=pause_key(), reason=None, form=Form({"type": "object"}, ""))

    before, last = flow_runs.states(run)[-2:]
    assert (before.name, last.name) == ("Submitting", "Suspended")


def test_a_resume_waits_for_the_form_of_a_pause_that_is_just_made(here: IdleWorld) -> None:
    """Prefect refuses to resume without it; a client that polls for the pause comes too early."""
    run = here.create()
    here.set(run, Running())
    with patch("prefect_executions.prefect.suspension.save_form"):
        run = here.executions.flow_runs.suspend(
            run.id, key=pause_key(), reason=None, form=Form({"type": "object"}, "")
        )
    state = state_of(run)
    assert lacks_form(here.prefect, run.id, state)

    def comes(_: float) -> None:
        save_form(here.prefect, run.id, state, Form({"type": "object"}, ""))

    resumed = FlowRuns(here.prefect, wait=comes).resume(run.id)

    assert state_of(resumed).is_scheduled()


@pytest.mark.parametrize("held", [False, True], ids=["made", "renewed"])
def test_a_resume_waits_for_a_form_that_comes_and_goes(
    here: IdleWorld, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor writes it, and again as a checkpoint came: each time it is away for a moment."""
    run, form = here.create(), Form({"type": "object"}, "")
    here.set(run, Running(), paused(pause_key(), "why") if held else Suspended(message="why"))
    resume, away = here.prefect.resume_flow_run, iter([True, True])

    def resume_meanwhile(*args: Any, **named: Any) -> Any:
        if form_of(here, run) is None and not held:
            hold(here.prefect, here.prefect.read_flow_run(run.id), form)
        state = state_of(here.prefect.read_flow_run(run.id))
        save_form(here.prefect, run.id, state, form)
        if not next(away, False):
            return resume(*args, **named)
        for key in ("schema", "description"):
            here.prefect.delete_flow_run_input(
                run.id, (state.state_details.run_input_keyset or {})[key]
            )
        given = resume(*args, **named)
        save_form(here.prefect, run.id, state, form)  # there again for who looks why
        return given

    monkeypatch.setattr(here.prefect, "resume_flow_run", resume_meanwhile)

    resumed = FlowRuns(here.prefect, wait=lambda _: None).resume(run.id)

    assert state_of(resumed).is_scheduled()


def test_a_resume_of_a_pause_whose_form_does_not_come_says_so(here: IdleWorld) -> None:
    run = here.create()
    here.set(run, Running(), paused(pause_key(), "why"))

    with pytest.raises(ExecutionConflict, match="try again"):
        FlowRuns(here.prefect, wait=lambda _: None).resume(run.id)


def test_a_pause_that_was_restored_without_its_form_gets_one(here: IdleWorld) -> None:
    """As when a process starts, finds its run suspended, and has not read the log yet."""
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert asks_for_checkpoint(state)
    assert not lacks_form(here.prefect, run.id, state)


@pytest.mark.parametrize("crashes", [False, True], ids=["suspended", "and crashed"])
def test_a_flow_that_asks_for_an_input_keeps_its_question(here: IdleWorld, crashes: bool) -> None:
    """The flow has set the time-out, and finds its answer by the keys of the pause."""
    run = here.create()
    expires = datetime.now(UTC) + timedelta(seconds=3600)
    asking: State[Any] = Suspended(pause_expiration_time=expires, pause_key="key")
    asking.state_details.run_input_keyset = {"schema": "a", "response": "b"}
    here.set(run, Running())
    here.log(run).attempt()
    here.set(run, asking, *([Crashed()] if crashes else []))
    here.later = timedelta(seconds=20)

    here.supervisor().look()

    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    assert state.name == "Suspended"
    assert state.state_details.run_input_keyset == {"schema": "a", "response": "b"}
    assert state.state_details.pause_key == "key"
    assert state.state_details.pause_timeout is not None


def test_a_pause_that_has_its_form_is_left_alone(
    here: IdleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.create()
    here.set(run, Running(), Suspended(message="why"))
    supervisor = here.supervisor()
    supervisor.look()
    here.later = timedelta(minutes=11)
    supervisor.look()
    asked = []
    complete = "prefect_executions.supervisor.pauses.complete_pause"
    monkeypatch.setattr(complete, lambda *of: asked.append(of))

    here.later = timedelta(minutes=13)
    supervisor.look()

    assert not asked


def paused_until(here: IdleWorld, on_timeout: OnTimeout) -> FlowRun:
    run = here.create()
    here.set(run, Running())
    until = datetime.now(UTC) + timedelta(seconds=30)
    here.executions.pause(execution_id(run.id), until=until, on_timeout=on_timeout)
    return run


@pytest.mark.parametrize(
    ("on_timeout", "name"),
    [
        (OnTimeout.RESUME, "Resuming"),
        (OnTimeout.FAIL, "Failed"),
        (OnTimeout.TERMINATE, "Cancelled"),
    ],
)
def test_a_pause_ends_when_its_time_has_come_and_not_before(
    here: IdleWorld, on_timeout: OnTimeout, name: str
) -> None:
    run = paused_until(here, on_timeout)
    here.supervisor().look()
    assert here.name_of(run) == "Suspended"

    here.later = timedelta(seconds=31)
    here.supervisor().look()
    here.supervisor().look()

    assert here.name_of(run) == name
    state = here.prefect.read_flow_run(run.id).state
    assert state is not None
    if on_timeout is not OnTimeout.RESUME:
        assert "Nobody resumed it until" in (state.message or "")


def test_who_resumes_in_time_hears_no_more_of_the_deadline(here: IdleWorld) -> None:
    run = paused_until(here, OnTimeout.FAIL)
    here.executions.resume(execution_id(run.id))
    here.set(run, Running(), Suspended())  # and another pause, without a deadline
    here.later = timedelta(seconds=31)

    here.supervisor().look()

    assert here.name_of(run) == "Suspended"


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("saved", [False, True], ids=["nothing of it", "half of it"])
def test_a_pause_whose_form_was_never_saved_gets_one(
    here: IdleWorld, asks: bool, saved: bool
) -> None:
    """The process that paused it has died in between; Prefect would refuse to resume it."""
    run = here.create()
    here.set(run, Running())
    lost = paused(question_key() if asks else pause_key(), "why")
    here.prefect.set_flow_run_state(run.id, lost)
    refused = here.prefect.resume_flow_run(run.id)
    assert refused.status is SetStateStatus.REJECT
    if saved:
        keys = lost.state_details.run_input_keyset or {}
        here.prefect.create_flow_run_input(run.id, keys["description"], '"why"')

    here.later = timedelta(minutes=1)  # it has been silent since
    here.supervisor().look()
    keys = here.prefect.read_flow_run(run.id).state.state_details.run_input_keyset  # type: ignore[union-attr]
    schema = here.prefect.read_flow_run_input(run.id, keys["schema"])

    assert ("latest" in schema) is not asks
    assert here.prefect.resume_flow_run(run.id).status is SetStateStatus.ACCEPT


def test_a_question_is_left_to_the_process_that_is_just_asking_it(here: IdleWorld) -> None:
    """A slow one has suspended the run, and has not saved the form yet."""
    run = here.create()
    here.set(run, Running())
    asks = paused(question_key(), "why")
    here.prefect.set_flow_run_state(run.id, asks)
    supervisor = here.supervisor()
    supervisor.look()

    asked = Form({"type": "object", "properties": {"approved": {"type": "boolean"}}}, "Really?")
    save_form(here.prefect, run.id, state_of(here.prefect.read_flow_run(run.id)), asked)
    here.later = timedelta(minutes=1)
    supervisor.look()

    assert form_of(here, run) == asked
