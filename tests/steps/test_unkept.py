"""What can't be kept: said before the effect where the type shows it, and recorded where not."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow
from prefect.futures import wait
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from prefect_executions import execution, step
from prefect_executions.errors import StateError
from prefect_executions.log.journal import Outcome
from prefect_executions.testkit import TestKit
from trials import act, acts, ended, fails, journal, once


class Access(BaseModel):
    key: SecretStr


class Choice(BaseModel):
    page_size: int = Field(validation_alias="pageSize")


class Page(BaseModel):
    title: str
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Topic(BaseModel):
    topic: str


class Numbers(BaseModel):
    xs: list[int] = []


@step
def secret() -> list[Access]:
    act("secret")
    return []


@step
def fetch() -> Page:
    act("fetch")
    return Page(title="a")


@step(undo=lambda _: act("undo"))
def odd() -> Any:
    act("odd")
    return {1, 2}


@step
async def odd_later() -> Any:
    act("odd")
    return {1, 2}


@step(key="odd")
def odd_keyed() -> Any:
    act("odd")
    return {1, 2}


@pytest.mark.parametrize("call", [secret, lambda: secret.submit().result()], ids=["call", "submit"])
def test_a_type_that_never_comes_back_is_refused_before_the_effect(
    kit: TestKit, call: Callable[[], Any]
) -> None:
    trial = once(kit, call, max_retries=3)

    assert isinstance(trial.error, StateError)
    assert trial.error.path == "the result of secret[…].key"
    assert trial.get().prefect.attempt == 1
    assert not acts


def test_a_question_whose_answer_can_not_be_kept_is_not_put(kit: TestKit) -> None:
    trial = once(kit, lambda: execution.current().ask(Access, prompt="Which key?"))

    assert ended(trial, "failed")
    assert isinstance(trial.error, StateError)
    assert trial.error.path == "input.key"


def test_an_answer_under_an_alias_for_reading_comes_back(kit: TestKit) -> None:
    trial = once(kit, lambda: execution.current().ask(Choice, prompt="How many?").page_size)
    trial.resume(input={"pageSize": 20})

    assert ended(trial).result == 20


def test_private_attributes_of_a_result_do_not_matter(kit: TestKit) -> None:
    trial = once(kit, lambda: [fetch(), fails(1)])
    trial.resume()

    assert str(trial.error) == "no luck with 1"
    assert acts == {"fetch": 1}


@pytest.mark.parametrize("call", [odd, odd_keyed, lambda: odd.submit().result()])
def test_a_result_that_can_not_be_kept_is_not_paid_for_again(
    kit: TestKit, call: Callable[[], Any]
) -> None:
    trial = once(kit, call, max_retries=3)
    first = trial.error
    trial.resume()

    assert acts == {"odd": 1}
    assert [record.outcome for record in journal(kit, trial)] == [Outcome.UNKEPT]
    assert isinstance(trial.error, StateError)
    assert trial.error.args == first.args  # type: ignore[union-attr]
    assert "another name or key, or roll back" in str(trial.error)


def test_so_it_is_in_an_async_flow(kit: TestKit) -> None:
    @flow
    @execution
    async def runs() -> Any:
        return await odd_later()

    trial = kit.start(runs)
    trial.resume()

    assert isinstance(trial.error, StateError)
    assert acts == {"odd": 1}


def test_a_roll_back_forgets_a_call_whose_result_could_not_be_kept(kit: TestKit) -> None:
    def body() -> Any:
        execution.current().checkpoint(label="before")
        return odd()

    trial = once(kit, body)
    assert "A roll-back can't undo it" in str(trial.error)
    resumed = trial.resume(checkpoint_id=trial.get().checkpoints[0].id)  # type: ignore[index]

    assert [behind.step for behind in resumed.steps_behind] == ["odd"]
    assert acts == {"odd": 2}


@pytest.mark.parametrize(
    ("state", "path"),
    [(Topic, r"state\.topic: .*initial="), (Access, r"state\.key: "), (list[int], "initial=")],
)
def test_a_state_that_can_not_begin_is_refused_at_decoration(state: Any, path: str) -> None:
    with pytest.raises(TypeError, match=path):
        execution(state=state)


@pytest.mark.parametrize("initial", [Topic(topic="tea"), lambda: Topic(topic="tea")])
def test_the_first_state_is_made(kit: TestKit, initial: Any) -> None:
    @flow
    @execution(state=Topic, initial=initial)
    def research() -> str:
        run = execution.current(Topic)
        topic = run.state.topic
        run.state.topic = "drunk"
        run.checkpoint()
        return topic

    assert ended(kit.start(research)).result == "tea"
    assert ended(kit.start(research)).result == "tea"
    assert ended(kit.start(research, state=Topic(topic="milk"))).result == "milk"


def test_a_first_state_that_does_not_fit_is_refused_at_decoration() -> None:
    with pytest.raises(TypeError, match=r"state"):
        execution(state=Topic, initial={"topic": 3})


def test_a_state_that_parallel_steps_change_is_saved_or_tried_again(kit: TestKit) -> None:
    @step
    def work(n: int) -> int:
        state = execution.current(Numbers).state
        for i in range(2_000):
            state.xs.append(i)
        return n

    @flow
    @execution(state=Numbers, max_retries=3)
    def fan() -> int:
        run = execution.current(Numbers)
        run.state.xs = list(range(20_000))
        futures = [work.submit(n) for n in range(4)]
        while wait(futures, timeout=0.001).not_done:
            run.checkpoint()
        return len(run.state.xs)

    trial = kit.start(fan)

    assert trial.status == "completed" or "changed while it was saved" in str(trial.error)
    assert trial.status == "completed" or trial.get().prefect.attempt == 4
