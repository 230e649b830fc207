"""A roll-back undoes the steps after its checkpoint."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow

from memory import Count
from prefect_executions import execution, step
from prefect_executions.testkit import TestKit, Trial
from trials import act, acts, ended, fails, made, once, plain


@step(undo=lambda result: act(f"undo {result}"))
def undoable(n: int) -> str:
    return act(f"do {n}")


@flow
@execution(state=Count)
def undoing() -> None:
    """Fail at the end of the first two attempts."""
    run = execution.current(Count)
    undoable(1)
    plain(1)
    run.state.n = 1
    run.checkpoint(label="middle")
    undoable(2)
    undoable(3)
    run.state.n = 2
    run.checkpoint(label="late")
    if run.attempt < 3:
        raise RuntimeError


def labelled(trial: Trial, label: str) -> str:
    return next(c.id for c in trial.get().checkpoints if c.label == label)


def test_a_roll_back_undoes_what_lies_behind_it_newest_first_and_once(kit: TestKit) -> None:
    trial = kit.start(undoing)
    assert made == ["do 1", "plain 1", "do 2", "do 3"]
    made.clear()

    answer = trial.resume(checkpoint_id=labelled(trial, "middle"))

    assert [(s.step, s.undo) for s in answer.steps_behind] == [("undoable", True)] * 2
    assert made == ["undo DO 3", "undo DO 2", "do 2", "do 3"]
    made.clear()
    again = trial.resume(checkpoint_id="ckpt_000000")
    assert [s.step for s in again.steps_behind] == ["undoable", "undoable", "plain", "undoable"]
    assert made == ["undo DO 3", "undo DO 2", "undo DO 1", "do 1", "plain 1", "do 2", "do 3"]
    ended(trial)


def test_the_log_warns_of_what_lies_behind(kit: TestKit, caplog: pytest.LogCaptureFixture) -> None:
    trial = kit.start(undoing)
    with caplog.at_level("WARNING", "prefect_executions.executions.executions"):
        trial.resume(checkpoint_id="ckpt_000000")

    said = [record.getMessage() for record in caplog.records]
    [warned] = [message for message in said if " goes back" in message]
    assert warned == (
        f"{trial.id} goes back. The steps after ckpt_000000 have happened: "
        "3 × undoable will be undone; plain will not be undone."
    )


def test_what_was_undone_before_a_crash_is_not_undone_again(kit: TestKit) -> None:
    trial = kit.start(undoing)
    made.clear()

    with kit.crash_before(3):  # the attempt, the first undo
        trial.resume(checkpoint_id="ckpt_000000")
    assert made == ["undo DO 3", "undo DO 2"]
    trial.resume()

    assert made[2:5] == ["undo DO 2", "undo DO 1", "do 1"]


def test_rolled_forward_again_what_was_undone_is_done_again(kit: TestKit) -> None:
    trial = kit.start(undoing)
    late = labelled(trial, "late")
    with kit.crash_after(2):  # the attempt, the undo of the newest
        trial.resume(checkpoint_id="ckpt_000000")
    assert made[4:] == ["undo DO 3"]

    trial.resume(checkpoint_id=late)

    assert made[5:] == ["do 3"]  # the others had not been undone yet
    ended(trial)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_can_be_called_can_undo(kit: TestKit, kind: str) -> None:
    @step
    def refund(result: str) -> None:
        act(f"step {result}")

    @step
    async def refund_later(result: str) -> None:
        act(f"async step {result}")

    async def forget(result: str) -> None:
        act(f"async {result}")

    class Forgets:
        async def __call__(self, result: str) -> None:
            act(f"object {result}")

    def fn(n: int) -> str:
        return f"{n}"

    undos: list[Callable[[Any], Any]] = [
        refund,
        refund_later,
        forget,
        lambda result: forget(f"lambda {result}"),
        lambda result: refund.submit(f"submitted {result}"),
        lambda result: refund.map([f"mapped {result}"]),
        Forgets(),
        lambda result: refund_later(f"lambda {result}"),
    ]
    steps: Any = [step(fn, name=f"with undo {n}", undo=undo) for n, undo in enumerate(undos)]  # type: ignore[call-overload]

    @flow
    @execution
    def sync_flow() -> None:
        for n, each in enumerate(steps):
            each(n)
        if execution.current().attempt == 1:
            raise RuntimeError

    @flow
    @execution
    async def async_flow() -> None:
        for n, each in enumerate(steps):
            each(n)
        if execution.current().attempt == 1:
            raise RuntimeError

    trial = kit.start(sync_flow if kind == "sync" else async_flow)
    trial.resume(checkpoint_id="ckpt_000000")

    ended(trial)
    assert made == [
        *("async step lambda 7", "object 6", "step mapped 5", "step submitted 4"),
        *("async lambda 3", "async 2", "async step 1", "step 0"),
    ]


def test_an_undo_that_fails_is_tried_again(kit: TestKit) -> None:
    broken = [True]

    @step
    def refund(result: str) -> None:
        if broken and result == "1":
            broken.pop()
            raise RuntimeError("no refund")
        act(f"refund {result}")

    @step(undo=lambda result: refund.submit(result))
    def buy(n: int) -> str:
        return f"{n}"

    trial = once(kit, lambda: [buy(1), buy(2), execution.current().attempt == 1 and fails(1)])
    trial.resume(checkpoint_id="ckpt_000000")
    assert "no refund" in str(trial.error)
    trial.resume()

    ended(trial)
    assert made == ["refund 2", "refund 1"]


def test_what_an_undo_calls_has_nothing_to_do_with_what_the_flow_calls(kit: TestKit) -> None:
    """The undo of a call and the call itself both call the same step with the same input."""

    @step
    def log(text: str) -> str:
        return act(text)

    @step(undo=lambda _: log("same"))
    def buy(n: int) -> str:
        return log("same")

    def body() -> None:
        run = execution.current()
        log("first")
        run.state["n"] = 1
        run.checkpoint(label="start")
        for n in range(3):
            log(f"{n}")
        futures = [buy.submit(n) for n in range(2)]
        for future in futures:
            future.result()
        if run.attempt < 3:
            raise RuntimeError

    trial = once(kit, body)
    assert acts == {"first": 1, "0": 1, "1": 1, "2": 1, "same": 2}
    acts.clear()
    trial.resume(checkpoint_id=labelled(trial, "start"))
    assert acts == {"0": 1, "1": 1, "2": 1, "same": 4}
    acts.clear()
    trial.resume()
    ended(trial)
    assert not acts


def test_of_several_steps_of_one_name_the_right_one_is_undone(kit: TestKit) -> None:
    def right() -> Any:
        @step(name="ambiguous", undo=lambda _: act("right"))
        def mine() -> int:
            return 1

        return mine

    def wrong() -> Any:
        @step(name="ambiguous", undo=lambda _: act("wrong"))
        def other() -> int:
            return 1

        return other

    called = [right(), wrong()]

    @flow
    @execution
    def one_of_them() -> None:
        called[0]()
        if execution.current().attempt == 1:
            execution.current().pause("A look")

    trial = kit.start(one_of_them)
    trial.resume(checkpoint_id="ckpt_000000")
    ended(trial)
    assert acts == {"right": 1}
