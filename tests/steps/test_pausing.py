"""Pauses and questions while steps run, and inside steps."""

import threading
from time import sleep
from typing import Any

import pytest
from prefect import flow
from prefect.futures import PrefectFuture
from pydantic import BaseModel

from memory import Count
from prefect_executions import execution, step
from prefect_executions.errors import (
    AmbiguousCall,
    AnswerError,
    ExecutionConflict,
)
from prefect_executions.testkit import TestKit
from trials import act, acts, ended, later, plain


@pytest.mark.parametrize("where", ["flow", "thread", "subflow"])
def test_a_pause_lets_what_runs_end_and_nothing_new_begin(kit: TestKit, where: str) -> None:
    ready, release = threading.Barrier(3), threading.Event()

    @step
    def slow(n: int) -> str:
        text = act(f"slow {n}")
        if execution.current().attempt == 1:
            ready.wait(20)
            assert release.wait(20)
        return text + plain(n)

    @step
    def saves() -> str:
        try:
            execution.current().checkpoint(label="here")
        finally:
            release.set()
        return "saved"

    @flow
    def sub() -> None:
        saves()

    @flow
    @execution
    def pauses() -> list[str]:
        run = execution.current()
        futures: list[PrefectFuture[str]] = [slow.submit(n) for n in (1, 2)]
        if run.attempt == 1:
            ready.wait(20)
            run.state["n"] = 1
            if where == "flow":
                try:
                    run.checkpoint(label="here")
                finally:
                    release.set()
            elif where == "subflow":
                sub()
            else:
                saves.submit().wait()
        return [future.result() for future in futures]

    with kit.pause_at("here"):
        trial = kit.start(pauses)
    assert ended(trial, "paused").state == {"n": 1}
    assert acts == {"slow 1": 1, "slow 2": 1}

    trial.resume()

    assert ended(trial).result == ["SLOW 1PLAIN 1", "SLOW 2PLAIN 2"]
    assert acts == {"slow 1": 2, "slow 2": 2, "plain 1": 1, "plain 2": 1}


def test_what_ran_as_the_run_was_paused_is_recorded(kit: TestKit) -> None:
    ready, release = threading.Barrier(3), threading.Event()

    @step
    def slow(n: int) -> str:
        if execution.current().attempt == 1:
            ready.wait(20)
            assert release.wait(20)
        return act(f"slow {n}")

    @flow
    @execution
    def pauses() -> list[str]:
        run = execution.current()
        futures = [slow.submit(n) for n in (1, 2)]
        if run.attempt == 1:
            ready.wait(20)
            try:
                run.checkpoint(label="here")
            finally:
                release.set()
        return [future.result() for future in futures]

    with kit.pause_at("here"):
        trial = kit.start(pauses)
    ended(trial, "paused")
    trial.resume()

    assert ended(trial).result == ["SLOW 1", "SLOW 2"]
    assert acts == {"slow 1": 1, "slow 2": 1}


class Approval(BaseModel):
    yes: bool


@pytest.mark.parametrize("kind", ["direct", "submitted", "async"])
def test_a_step_can_ask_pause_and_save(kit: TestKit, kind: str) -> None:
    @step
    def approve() -> bool:
        run = execution.current()
        plain(1)
        run.state["asks"] = True
        run.checkpoint()
        answer = run.ask(Approval, prompt="Shall we?")
        run.pause("Have a look")
        return answer.yes

    @step
    async def approve_later() -> bool:
        run = execution.current()
        await later(1)
        run.state["asks"] = True
        await run.acheckpoint()
        answer = await run.aask(Approval, prompt="Shall we?")
        await run.apause("Have a look")
        return answer.yes

    @flow
    @execution
    def asks() -> list[Any]:
        said = approve() if kind == "direct" else approve.submit().result()
        return [said, plain(2)]

    @flow
    @execution
    async def asks_later() -> list[Any]:
        return [await approve_later(), plain(2)]

    trial = kit.start(asks_later if kind == "async" else asks)
    assert ended(trial, "paused").state == {"asks": True}
    trial.resume(input={"yes": True})
    ended(trial, "paused")
    trial.resume()

    assert ended(trial).result == [True, "PLAIN 2"]
    assert list(acts.values()) == [1, 1]


def test_an_answer_that_does_not_fit_changes_nothing(kit: TestKit) -> None:
    @flow
    @execution
    def asks() -> list[bool]:
        run = execution.current()
        said = []
        for n in range(2):
            plain(n)
            said.append(run.ask(Approval, prompt="The same question").yes)
        return said

    trial = kit.start(asks)
    before = ended(trial, "paused").get()
    for wrong in ({"yes": "perhaps"}, {}, None):
        with pytest.raises(AnswerError):
            trial.resume(input=wrong)
    after = trial.get()
    assert (after.prefect, after.checkpoints) == (before.prefect, before.checkpoints)

    trial.resume(input={"yes": False})
    ended(trial, "paused")
    assert acts == {"plain 0": 1, "plain 1": 1}
    trial.resume(input={"yes": True})

    assert ended(trial).result == [False, True]
    assert acts == {"plain 0": 1, "plain 1": 1}
    with pytest.raises(ExecutionConflict):
        trial.resume()


def test_nothing_new_begins_once_a_submitted_step_has_asked(kit: TestKit) -> None:
    class Yes(BaseModel):
        yes: bool

    @step
    def asks() -> bool:
        return execution.current().ask(Yes, prompt="?").yes

    @flow
    @execution
    def asks_beside() -> bool:
        asked = asks.submit()
        while execution.current().attempt == 1 and not asked._wrapped_future.done():  # type: ignore[attr-defined]
            sleep(0.01)
        plain(1)
        return asked.result()

    trial = kit.start(asks_beside)
    ended(trial, "paused")
    assert not acts

    with pytest.raises(AnswerError, match="is a list; give an object"):
        trial.resume(input=[1])
    trial.resume(input={"yes": True})
    assert ended(trial).result is True
    assert acts == {"plain 1": 1}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("keyed", [True, False])
def test_an_old_answer_never_stands_for_a_new_question(
    kit: TestKit, kind: str, keyed: bool
) -> None:
    """The flow asks the same for each order that its state does not have yet."""

    def key(order: str) -> str | None:
        return order if keyed else None

    @flow
    @execution
    def ships() -> dict[str, bool]:
        run = execution.current()
        for order in ("one", "two", "three"):
            if order not in run.state:
                answer = run.ask(Approval, prompt="Ship the next?", key=key(order))
                run.state[order] = answer.yes
        return run.state

    @flow
    @execution
    async def ships_later() -> dict[str, bool]:
        run = execution.current()
        for order in ("one", "two", "three"):
            if order not in run.state:
                answer = await run.aask(Approval, prompt="Ship the next?", key=key(order))
                run.state[order] = answer.yes
        return run.state

    trial = kit.start(ships if kind == "sync" else ships_later)
    answers = iter([True, False, True])
    while trial.status == "paused":
        trial.resume(input={"yes": next(answers)})

    if keyed:
        assert ended(trial).result == {"one": True, "two": False, "three": True}
    else:
        assert isinstance(trial.error, AmbiguousCall)
        assert "'ask Approval' could be mistaken" in str(trial.error)
        assert "run.ask(…, key=…)" in str(trial.error)
        assert next(answers) is False  # the second question was not asked


@pytest.mark.parametrize("keyed", [True, False])
def test_no_pause_of_a_loop_is_passed_silently(kit: TestKit, keyed: bool) -> None:
    @flow
    @execution(state=Count)
    def pauses() -> int:
        run = execution.current(Count)
        while run.state.n < 3:
            run.state.n += 1
            run.pause("A look", key=f"round {run.state.n}" if keyed else None)
        return run.state.n

    trial = kit.start(pauses)
    looks = 0
    while trial.status == "paused":
        looks += 1
        trial.resume()

    if keyed:
        # The round that paused is in the state: the flow goes on behind it.
        assert (ended(trial).result, looks) == (3, 3)
    else:
        assert isinstance(trial.error, AmbiguousCall)
        assert looks == 1
