"""`kit.crash_everywhere`: what it lets pass, and that it finds each planted fault by itself."""

import asyncio
import random
from itertools import count
from typing import Any

import pytest
from prefect import flow
from prefect.futures import as_completed
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.testkit import TestKit, Trial
from trials import act, acts, charge, later, plain

pytestmark = pytest.mark.long


class Progress(BaseModel):
    done: list[str] = []


class Approval(BaseModel):
    approved: bool


@step
def draw() -> str:
    """A call without inputs: nothing but its place tells it from the next."""
    return act("draw")


@step
def lucky() -> float:
    return random.random()


@step
def numbered() -> str:
    return act(f"{len(acts)}")


@step
def outer(n: int) -> str:
    return plain(n) + plain(n + 1)


@flow
@execution(state=Progress)
def sound() -> str:
    """Both idioms, a question, a pause, and its own id in an input and the result."""
    run = execution.current(Progress)
    first = outer(10)
    for n in range(2):
        if f"{n}" not in run.state.done:
            plain(n)
            charge(n, at=run.id)
            run.state.done.append(f"{n}")
            run.checkpoint(label=f"{n}")
    answer = run.ask(Approval, prompt="Go?")
    run.pause("Look")
    return f"{run.id}: {first} {answer.approved}"


@flow
@execution
async def sound_later() -> list[str]:
    first = await later(0)
    results = [first, *await asyncio.gather(later(1), later(2))]
    await execution.current().apause("Look")
    return [*results, await later(3)]


@flow
@execution(durability="exit")
def sound_at_exit() -> list[str]:
    results = [plain(n) for n in range(2)]
    execution.current().checkpoint(label="two")
    return results


@flow
@execution
def parallel() -> list[str]:
    futures = [outer.submit(n) for n in (0, 10)]
    return sorted(future.result() for future in as_completed(futures))


@pytest.mark.parametrize(("flow", "least"), [(sound_later, 13), (sound_at_exit, 4)])
def test_what_survives_every_crash_passes(kit: TestKit, flow: Any, least: int) -> None:
    survived = kit.crash_everywhere(flow)

    assert len(survived.points) >= least
    assert survived.undisturbed.status == "completed"


def test_questions_are_answered_and_points_named_by_what_is_before_and_next(kit: TestKit) -> None:
    points = kit.crash_everywhere(sound, answers=[{"approved": True}], lose_writes=False).points

    assert points[0].startswith("after the beginning of attempt 1, before the record of the step")
    assert "after the record of the step 'charge', before the checkpoint '0'" in points
    assert "after the checkpoint '1', before the question 'Go?'" in points
    assert "after the question 'Go?', before the beginning of attempt 2" in points
    assert points[-1] == "after the result, before the end"


def test_steps_on_threads_pass(kit: TestKit) -> None:
    assert kit.crash_everywhere(parallel, before=acts.clear, check=_at_most_twice).points


def _at_most_twice(_: Trial) -> None:
    assert max(acts.values()) <= 2


@flow
@execution
def straight() -> list[str]:
    return [plain(n) for n in range(3)]


def test_some_points_are_tried_and_evenly_spread(kit: TestKit) -> None:
    some = kit.crash_everywhere(straight, points=3).points

    assert some == [
        "after the beginning of attempt 1, before the record of the step 'plain'",
        "after the record of the step 'plain' (no. 2), before the record of the step 'plain' "
        "(no. 3)",
        "before the result was durable, after the record of the step 'plain' (no. 3)",
    ]
    with pytest.raises(ValueError, match="points: 0 are none"):
        kit.crash_everywhere(straight, points=0)


def test_each_run_begins_with_the_same_state_and_parameters(kit: TestKit) -> None:
    @flow
    @execution(state=Progress)
    def takes(words: list[str]) -> list[str]:
        words.append(plain(1))
        return [*execution.current(Progress).state.done, *words]

    survived = kit.crash_everywhere(takes, {"words": ["a"]}, state=Progress(done=["b"]))

    assert survived.undisturbed.result == ["b", "a", "PLAIN 1"]


# ------------------------------------------------------------------ planted faults


def fault(kit: TestKit, flow: Any, **options: Any) -> str:
    """What the kit says of a flow."""
    with pytest.raises(AssertionError) as found:
        kit.crash_everywhere(flow, before=acts.clear, **options)
    return f"{found.value}"


def test_equal_calls_in_a_loop_that_skips_by_state_are_found(kit: TestKit) -> None:
    @flow
    @execution(state=Progress)
    def skips() -> list[str]:
        run = execution.current(Progress)
        while len(run.state.done) < 2:
            run.state.done.append(draw())
            run.checkpoint(label=f"{len(run.state.done)}")
        return run.state.done

    said = fault(kit, skips)

    assert "key" in said
    if "AmbiguousCall" not in said:  # which says it without any crash
        assert said.startswith("skips, killed after the checkpoint '1', before the record of")
        assert "the step 'draw' was carried out and recorded once, and 2 times in the" in said


def test_a_step_that_is_skipped_is_found(kit: TestKit) -> None:
    @flow
    @execution(state=Progress)
    def saves_first() -> list[str]:
        run = execution.current(Progress)
        for n in range(2):
            if f"{n}" not in run.state.done:
                run.state.done.append(f"{n}")
                run.checkpoint(label=f"{n}")
                plain(n)
        return run.state.done

    said = fault(kit, saves_first)

    assert said.startswith("saves-first, killed after the checkpoint '0', before the record of")
    assert "'plain' was carried out and recorded once, and 2 times in the undisturbed" in said
    assert "the checkpoint comes after the step" in said


def test_a_step_that_is_called_with_other_inputs_the_second_time_is_found(kit: TestKit) -> None:
    numbers = count()

    @flow
    @execution
    def new_ids() -> str:
        plain(next(numbers))
        return "done"

    said = fault(kit, new_ids)

    assert said.startswith(
        "new-ids, killed after the record of the step 'plain', before the result"
    )
    assert "'plain' was carried out and recorded 2 times, and once in the undisturbed" in said
    assert "time, chance, a new id" in said


def test_a_change_of_the_state_that_is_made_twice_is_found(kit: TestKit) -> None:
    @flow
    @execution(state=Progress)
    def appends() -> int:
        run = execution.current(Progress)
        run.state.done.append("again")
        run.checkpoint(label="appended")
        return len(run.state.done)

    said = fault(kit, appends)

    assert said.startswith("appends, killed after the checkpoint 'appended', before the result")
    assert "- the result is 2, and 1 in the undisturbed run" in said
    assert '- the state is {"done": ["again", "again"]}, and {"done": ["again"]} in' in said
    assert "Code between steps runs again" in said


def test_what_is_kept_outside_the_flow_is_found(kit: TestKit) -> None:
    kept: list[str] = []

    @flow
    @execution(state=Progress)
    def forgets() -> list[str]:
        run = execution.current(Progress)
        if run.attempt == 1:
            kept.clear()
        for n in range(2):
            if f"{n}" not in run.state.done:
                kept.append(plain(n))
                run.state.done.append(f"{n}")
                run.checkpoint()
        return [*kept]

    said = fault(kit, forgets)

    assert "the result is" in said
    assert "keep nothing in variables outside the flow" in said


def test_a_question_that_is_asked_twice_is_found(kit: TestKit) -> None:
    @flow
    @execution
    def asks() -> bool:
        run = execution.current()
        often = "once" if run.attempt <= 2 else "again"
        return run.ask(Approval, prompt=f"{often}?").approved

    said = fault(kit, asks, answers=[{"approved": True}])

    assert said.startswith("asks, killed after the beginning of attempt 1, before the question")
    assert "it paused 2 times rather than 1; number 2 was the question 'again?', and none" in said


def test_an_old_answer_for_a_new_question_is_found(kit: TestKit) -> None:
    @flow
    @execution(state=Progress)
    def ships() -> list[str]:
        run = execution.current(Progress)
        for order in ("a", "b"):
            if order not in run.state.done:
                run.ask(Approval, prompt="Ship it?")
                run.state.done.append(order)
                run.checkpoint(label=order)
        return run.state.done

    said = fault(kit, ships, answers=[{"approved": True}, {"approved": False}])

    assert "question" in said or "AmbiguousCall" in said


def test_a_step_that_returns_something_else_each_time_is_named(kit: TestKit) -> None:
    @flow
    @execution
    def draws_lots() -> float:
        plain(1)
        return lucky()

    said = fault(kit, draws_lots)

    assert said.startswith("draws-lots comes to something else each time, without any crash")
    assert "Other values came from: 'lucky'." in said


def test_a_stand_in_that_counts_its_calls_is_named(kit: TestKit) -> None:
    @flow
    @execution
    def counts() -> str:
        return numbered()

    said = fault(kit, counts)

    assert said.startswith("counts, killed before the record of the step 'numbered' was durable")
    assert "Other values came from: 'numbered'." in said


def test_code_that_returns_something_else_each_time_is_named(kit: TestKit) -> None:
    @flow
    @execution
    def draws_lots() -> float:
        plain(1)
        return random.random()

    assert "Other values came from: no step, but code between." in fault(kit, draws_lots)


@pytest.mark.parametrize("changes", [True, False])
def test_a_flow_that_saves_nothing_is_found(kit: TestKit, changes: bool) -> None:
    @flow
    @execution(state=Progress)
    def hopes() -> str:
        if changes:
            execution.current(Progress).state.done.append("a")
        return act("paid")

    assert "hopes: it saves nothing before it ends" in fault(kit, hopes)


def test_a_flow_that_cannot_go_on_is_found(kit: TestKit) -> None:
    @flow
    @execution(state=Progress)
    def stuck() -> None:
        run = execution.current(Progress)
        if run.state.done:
            raise RuntimeError("been here")
        run.state.done.append("here")
        run.checkpoint(label="here")

    said = fault(kit, stuck)

    assert said.startswith("stuck, killed after the checkpoint 'here', before the end")
    assert "it is failed: RuntimeError('been here')" in said


def test_the_check_of_the_test_is_made_after_every_run(kit: TestKit) -> None:
    @flow
    @execution
    def pays() -> None:
        act("paid between steps, which nobody records")
        plain(1)

    def check(_: Trial) -> None:
        assert set(acts.values()) == {1}, f"{dict(acts)}"

    assert kit.crash_everywhere(pays, before=acts.clear).points  # it can't be seen
    said = fault(kit, pays, check=check, lose_writes=False)

    assert said.startswith("pays, killed after the record of the step 'plain', before the end")
    assert "the check of the test fails: " in said
    assert "'paid between steps, which nobody records': 2" in said


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([], "it asks the question 'Go?', and there is no answer left"),
        ([{"approved": True}] * 2, "it has asked 1 questions, and `answers` has 2"),
    ],
)
def test_answers_and_questions_are_equally_many(
    kit: TestKit, answers: list[Any], says: str
) -> None:
    assert says in fault(kit, sound, answers=answers)


def test_a_flow_that_fails_undisturbed_is_said_to(kit: TestKit) -> None:
    @flow
    @execution
    def fails() -> None:
        raise RuntimeError("no luck")

    assert "fails: it is failed, without any crash: RuntimeError: no luck." in fault(kit, fails)
