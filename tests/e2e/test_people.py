"""Flows that wait for people: questions, pauses and undone steps, with real processes."""

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest

from prefect_executions.prefect.pauses import deadline, lacks_form
from world import Answer, World, eventually, kill


def effects(world: World, execution: Answer) -> list[str]:
    file = world.data / f"{execution['id']}.effects"
    return file.read_text().splitlines() if file.exists() else []


def until_paused(world: World, execution: Answer) -> Answer:
    def has_paused(now: Answer) -> bool:
        """A late report of a crash may replace the pause for a moment."""
        assert now["prefect"]["state_name"] != "Failed", world.run(execution).state
        return bool(now["status"] == "paused")

    paused = world.until(execution, "it pauses", has_paused)
    world.until_process_ends(world.pid(execution))
    eventually(lambda: asks(world, execution), "its form is there")
    return paused


def asks(world: World, execution: Answer) -> bool:
    run = world.run(execution)
    return run.state is not None and not lacks_form(world.prefect, run.id, run.state)


def answer(world: World, execution: Answer, status: int = 202, **given: Any) -> Answer:
    path = world.path(execution, "/resume")

    def send() -> httpx.Response | None:
        """Send again when a late report of a crash replaces the question for a moment."""
        answered = world.rest.post(path, json={"input": given})
        covered = answered.status_code == 422 and "nothing is asked" in answered.text
        return None if covered and status != 422 else answered

    reply: Answer = world.ok(eventually(send, "it can be answered"), status)
    return reply


@pytest.mark.journey
def test_a_question_ends_the_process_and_its_answer_starts_another(world: World) -> None:
    execution = world.create("asking")
    first = until_paused(world, execution)
    state = world.run(execution).state
    assert state is not None
    assert state.message == "Shall we go on with 0?"
    assert [c["label"] for c in first["checkpoints"]] == ["Shall we go on with 0?"]
    keys = state.state_details.run_input_keyset or {}
    schema = json.loads(world.prefect.read_flow_run_input(world.run(execution).id, keys["schema"]))
    assert schema["properties"]["decision"]["enum"] == ["yes", "no"]

    answer(world, execution, decision="yes", by="Ada")
    until_paused(world, execution)
    answer(world, execution, decision="no")
    until_paused(world, execution)
    world.resume(execution)  # the last question has a default for each of its fields
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    assert ended["state"]["n"] == 3
    assert effects(world, execution) == ["before 0", "after 0", "before 1", "after 1"]
    assert ended["prefect"]["attempt"] == 4


def test_an_answer_that_does_not_fit_changes_nothing(world: World) -> None:
    execution = world.create("asking", rounds=1)
    until_paused(world, execution)
    before = world.run(execution).state

    wrong = answer(world, execution, 422, decision="perhaps")
    missing = world.ok(world.rest.post(world.path(execution, "/resume")), 422)

    assert wrong["code"] == missing["code"] == "input_invalid"
    assert wrong["errors"][0]["field"] == "input"
    assert "decision" in missing["detail"]
    assert world.run(execution).state.id == before.id  # type: ignore[union-attr]
    assert world.get(execution)["status"] == "paused"

    answer(world, execution, decision="yes")
    until_paused(world, execution)
    answer(world, execution, text="done")
    assert world.until_ended(execution)["status"] == "completed"


def test_input_where_nothing_is_asked_is_refused(world: World) -> None:
    execution = world.create("failing", message="no")
    world.until_ended(execution)
    refused = answer(world, execution, 422, decision="yes")
    assert refused["detail"] == "input: nothing is asked; leave it out."


def test_an_async_flow_asks_and_pauses(world: World) -> None:
    execution = world.create("asking-async")
    until_paused(world, execution)
    answer(world, execution, decision="yes", by="Bob")
    paused = until_paused(world, execution)
    assert paused["checkpoints"][0]["label"] == "Have a look"
    world.resume(execution)
    assert world.until_ended(execution)["status"] == "completed"
    assert effects(world, execution) == ["before", "after"]


def test_an_answered_question_is_not_asked_again_after_a_crash(world: World) -> None:
    execution = world.create("asking", config={"max_retries": 3}, rounds=2)
    until_paused(world, execution)
    answer(world, execution, decision="yes", by="Ada")
    world.until_attempt(execution, 2)
    with suppress(ProcessLookupError):  # it has paused, and left
        kill(world.pid(execution))  # before or after it took the answer: both must end well
    world.until(execution, "it asks again", lambda e: len(questions(world, e)) == 2)
    until_paused(world, execution)
    answer(world, execution, decision="no")
    world.until(execution, "and again", lambda e: len(questions(world, e)) == 3)
    until_paused(world, execution)
    world.resume(execution)
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    asked = ["Shall we go on with 0?", "Shall we go on with 1?", "Anything else?"]
    assert questions(world, execution) == asked
    done = effects(world, execution)
    assert sorted(set(done)) == ["after 0", "after 1", "before 0", "before 1"]
    assert len(done) <= 5  # the kill may have been between an effect and its record


def questions(world: World, execution: Answer) -> list[str]:
    """Each question as often as it was asked; a pause that a crash had replaced comes back."""
    paused = [state for state in world.states(execution) if state.state_details.pause_key]
    asked = {state.state_details.pause_key: state.message or "" for state in paused}
    return [*asked.values()]


def test_a_flow_pauses_itself_once_at_each_place(world: World) -> None:
    execution = world.create("pausing", seconds=None, on_timeout="resume")
    paused = until_paused(world, execution)
    assert paused["state"]["n"] == 1
    state = world.run(execution).state
    assert state is not None
    assert state.message == "Have a look"

    # A roll-back to the pause's own checkpoint continues after it.
    world.resume(execution, paused["checkpoints"][0]["id"])
    again = until_paused(world, execution)
    assert world.run(execution).state.message == "Have another look"  # type: ignore[union-attr]
    world.resume(execution)
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    assert effects(world, execution) == ["first", "second", "third"]
    assert again["prefect"]["attempt"] == 2


@pytest.mark.parametrize(
    ("on_timeout", "status"),
    [("resume", "running"), ("fail", "failed"), ("terminate", "terminated")],
)
def test_a_pause_ends_by_itself_when_its_time_has_come(
    world: World, on_timeout: str, status: str
) -> None:
    execution = world.create("pausing", seconds=1, on_timeout=on_timeout)

    def is_over(now: Answer) -> bool:
        return bool(
            now["status"] == status
            if status != "running"
            else now["prefect"]["attempt"] == 2 and now["status"] == "paused"
        )

    world.until(execution, "its time has come", is_over)
    assert any(deadline(state) for state in world.states(execution))


@pytest.mark.journey
def test_the_resume_form_rolls_back(world: World) -> None:
    execution = world.create("undoing")
    until_paused(world, execution)
    run = world.run(execution)
    assert run.state is not None
    keys = run.state.state_details.run_input_keyset or {}
    schema = json.loads(world.prefect.read_flow_run_input(run.id, keys["schema"]))
    text = json.loads(world.prefect.read_flow_run_input(run.id, keys["description"]))
    choices = schema["properties"]["checkpoint"]["enum"]
    chosen = next(choice for choice in choices if " one " in choice)
    assert choices[0] == "latest"
    assert ": reversible will be undone; effect will not be undone" in text

    # What the form does in the Prefect UI.
    given = world.prefect.resume_flow_run(run.id, run_input={"checkpoint": chosen})
    assert given.status.value == "ACCEPT"
    again = world.until(
        execution,
        "it pauses again",
        lambda e: e["status"] == "paused" and e["prefect"]["attempt"] == 2,
    )

    assert effects(world, execution) == ["one", "two", "three", "undo THREE", "two", "three"]
    assert again["state"]["n"] == 1 + 3  # the state of "one", and a flow that starts again


def test_a_roll_back_says_what_lies_behind_and_undoes_it_newest_first(world: World) -> None:
    execution = world.create("undoing")
    paused = until_paused(world, execution)
    started_over = world.resume(execution, "ckpt_000000")
    world.until(execution, "attempt 2 pauses", lambda e: e["prefect"]["attempt"] == 2)
    until_paused(world, execution)

    assert [(s["step"], s["undo"]) for s in started_over["steps_behind"]] == [
        ("reversible", True),
        ("effect", False),
        ("reversible", True),
    ]
    assert effects(world, execution) == [
        *("one", "two", "three"),
        *("undo THREE", "undo ONE"),
        *("one", "two", "three"),
    ]
    assert len(paused["checkpoints"]) == 4
    world.resume(execution)
    assert world.until_ended(execution)["status"] == "completed"
