"""Forks that differ from what they are made of, and what answers for their steps."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from pydantic import BaseModel

import prefect_executions
from prefect_executions import execution, step
from prefect_executions.config import Effects, ExecutionConfig
from prefect_executions.errors import CheckpointNotFound, EffectRefused, StateError
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.plans import Changes
from prefect_executions.log.journal import LARGE
from prefect_executions.models import ExecutionFilter
from prefect_executions.prefect.states import state_of
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.testkit import TestKit, Trial
from prefect_executions.testkit.processes import Crash

effects: list[str] = []


class Approval(BaseModel):
    approved: bool


@step
def inner(n: int) -> int:
    effects.append(f"inner {n}")
    return n


@step
def work(n: int) -> str:
    effects.append(f"work {n}")
    return f"{inner(n)}" * (LARGE + 1 if n == 1 else 1)


@step
def roll() -> int:
    effects.append("roll")
    return len(effects)


@flow
@execution(state=dict[str, Any])
def report(count: int, greeting: str = "hello") -> list[str]:
    run = execution.current(dict)
    said = [greeting, f"{roll()}"]
    for n in range(count):
        said.append(work(n)[:3])
        run.state["done"] = n + 1
        run.checkpoint(label=f"{n}")
    if run.ask(Approval, prompt="Well?").approved:
        said.append(f"{work(100)}")
    return said


@flow
@execution(max_retries=3)
def swallowing(n: int) -> str:
    try:
        return work(n)
    except Exception:
        return "gone on"


@pytest.fixture
def trial(kit: TestKit) -> Trial:
    """One that has ended: four calls that return, three checkpoints, a question."""
    effects.clear()
    made = kit.start(report, count=3)
    made.resume(input={"approved": True})
    assert made.status == "completed"
    assert len(effects) == 9
    return made


def checkpoint(trial: Trial, label: str) -> str:
    """The first checkpoint with this label."""
    return [point.id for point in trial.get().checkpoints if point.label == label][-1]


@pytest.mark.parametrize("label", ["0", "1", "2", "Well?"])
@pytest.mark.parametrize("mode", ["replay", "refuse"])
def test_with_all_that_was_recorded_it_ends_in_the_same_result_with_no_effect(
    trial: Trial, label: str, mode: str
) -> None:
    before = [*effects]

    fork = trial.fork(checkpoint_id=checkpoint(trial, label), effects=Effects(mode))

    assert (fork.status, fork.result) == ("completed", trial.result)
    assert effects == before
    assert fork.state == trial.state


def test_from_the_beginning_too(trial: Trial) -> None:
    before = [*effects]

    fork = trial.fork(checkpoint_id="ckpt_000000", effects=Effects.REPLAY)

    assert (fork.result, effects) == (trial.result, before)


def test_what_a_roll_back_has_forgotten_answers(kit: TestKit) -> None:
    effects.clear()
    trial = kit.start(report, count=3)  # it asks
    first = checkpoint(trial, "0")
    trial.resume(checkpoint_id=first)
    twice = [*effects]
    assert twice.count("work 2") == 2

    fork = trial.fork(checkpoint_id=first, effects=Effects.REPLAY)

    assert fork.status == "paused"
    assert effects == twice
    assert fork.get().forked_from.effects is Effects.REPLAY  # type: ignore[union-attr]


def test_a_step_that_is_not_recorded_fails_a_dry_run_before_it_runs(trial: Trial) -> None:
    before = [*effects]

    fork = trial.fork(
        checkpoint_id=checkpoint(trial, "1"), effects=Effects.REFUSE, parameters={"count": 4}
    )

    assert fork.status == "failed"
    assert isinstance(fork.error, EffectRefused)
    assert fork.error.step == "work"
    assert effects == before
    other = trial.fork(checkpoint_id="ckpt_000000", effects="replay", parameters={"count": 4})
    assert other.status == "completed"  # with the answer that was given
    assert effects == [*before, "work 3", "inner 3"]


def test_as_today_only_what_was_recorded_by_the_checkpoint_answers(trial: Trial) -> None:
    before = [*effects]

    fork = trial.fork(checkpoint_id=checkpoint(trial, "1"))

    assert fork.status == "paused"
    assert effects == [*before, "work 2", "inner 2"]


def test_a_flow_that_catches_the_refusal_fails_all_the_same(kit: TestKit) -> None:
    trial = kit.start(swallowing, n=7)
    effects.clear()

    fork = trial.fork(effects=Effects.REFUSE, parameters={"n": 8})

    assert (fork.status, effects) == ("failed", [])
    assert isinstance(fork.error, EffectRefused)
    assert fork.get().checkpoints == []


def test_it_differs_in_state_parameters_and_config(trial: Trial) -> None:
    first = checkpoint(trial, "0")
    whole = trial.fork(checkpoint_id=first, state={"other": True}, parameters={"count": 1})
    patch = [{"op": "add", "path": "/note", "value": "by hand"}]
    patched = trial.fork(
        checkpoint_id=first,
        patch=patch,
        parameters={"greeting": "bye"},
        config=ExecutionConfig(max_retries=7),
        name="mended",
    )

    assert whole.state == {"other": True, "done": 1}
    assert patched.state == {"done": 3, "note": "by hand"}
    got = patched.get()
    assert (got.name, got.config.max_retries) == ("mended", 7)
    patched.resume(input={"approved": False})
    assert patched.result[0] == "bye"


def test_it_knows_its_origin_and_outlives_it(trial: Trial, kit: TestKit) -> None:
    fork = trial.fork(checkpoint_id=checkpoint(trial, "1"), effects=Effects.REPLAY)
    other = trial.fork(checkpoint_id="ckpt_000000", effects="replay")
    wanted = ExecutionFilter(forked_from=trial.id)
    assert {it.id for it in kit.executions.search(wanted).items} == {fork.id, other.id}

    assert kit.executions.delete(trial.id)

    assert {it.id for it in kit.executions.search(wanted).items} == {fork.id, other.id}
    again = fork.fork(checkpoint_id="ckpt_000000", effects="replay")
    assert again.result == fork.result == trial.result


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"patch": [{"op": "remove", "path": "/nothing"}]}, "patch"),
        ({"patch": [{"op": "test", "path": "/done", "value": 9}]}, "patch"),
        ({"patch": [{"op": "no op", "path": ""}]}, "patch"),
        ({"patch": [{"path": 3}]}, "patch"),
        ({"patch": [], "state": {}}, "patch"),
        ({"state": {"a": float("nan")}}, "state.a"),
        ({"parameters": {"count": float("inf")}}, "parameters.count"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(
    trial: Trial, kit: TestKit, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(StateError) as refused:
        trial.fork(**changes)

    assert refused.value.path == field
    with pytest.raises(CheckpointNotFound):
        trial.fork(checkpoint_id="ckpt_000099")
    assert kit.executions.search(ExecutionFilter(forked_from=trial.id)).items == []


def test_several_are_alike_and_have_numbers(trial: Trial, kit: TestKit) -> None:
    creation = Creation(kit.executions)
    changes, key = Changes(effects=Effects.REPLAY, checkpoint_id="ckpt_000000"), uuid4().hex

    made = creation.forks(trial.id, changes, count=3, key=key)
    again = creation.forks(trial.id, changes, count=3, key=key)

    assert [it.name for it, _ in made] == [f"report (fork) {n}" for n in (1, 2, 3)]
    assert [(it.id, is_new) for it, is_new in again] == [(it.id, False) for it, _ in made]
    assert len({it.id for it, _ in made}) == 3


OPTIONS: list[dict[str, Any]] = [
    {},
    {"state": {"n": 1}},
    {"patch": [{"op": "add", "path": "/n", "value": 1}]},
    {"parameters": {"count": 2}},
    {"config": ExecutionConfig(max_retries=7)},
    {"effects": Effects.REPLAY},
    {"effects": Effects.REFUSE},
]


class Dying(MemoryObjects):
    """A store whose caller dies before or after its next writes."""

    def __init__(self, inner: MemoryObjects) -> None:
        super().__init__()
        self._data = inner._data
        self.left, self.after = -1, False

    def create(self, key: str, data: bytes) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Crash
        super().create(key, data)
        if self.left == 0:
            raise Crash


@pytest.mark.parametrize("options", OPTIONS, ids=lambda it: next(iter(it), "nothing"))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("n", [1, 2])
def test_killed_at_any_write_each_fork_is_whole_or_not_there(
    quick: None, options: dict[str, Any], n: int, after: bool
) -> None:
    """A supervisor finishes or removes what is left; a repeat with the key makes the others."""
    store = Dying(MemoryObjects())
    with prefect_executions.testing(store) as kit:
        trial = kit.start(report, count=2)
        creation = Creation(kit.executions)
        changes = Changes(checkpoint_id=checkpoint(trial, "0"), **options)
        key = uuid4().hex
        store.left, store.after = n, after
        with pytest.raises(Crash):
            creation.forks(trial.id, changes, count=2, key=key)
        store.left = -1

        for run in kit.executions.flow_runs.being_created():
            creation.finish(run)
        found = kit.executions.search(ExecutionFilter(forked_from=trial.id)).items
        assert len(found) == (n if after else n - 1)
        made = creation.forks(trial.id, changes, count=2, key=key)

        assert {it.id for it in found} <= {it.id for it, _ in made}
        found = kit.executions.search(ExecutionFilter(forked_from=trial.id)).items
        assert {it.id for it in found} == {it.id for it, _ in made}
        heads = [kit.executions.log(it.id).living_head() for it, _ in made]
        assert len({(head.state, head.journal) for head in heads}) == 1


def test_what_fails_in_the_middle_leaves_none(
    kit: TestKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = kit.start(report, count=1)
    create: Callable[..., Any] = kit.executions.flow_runs.create
    calls = iter([create, create])

    def failing(*args: Any, **kwargs: Any) -> Any:
        known = next(calls, None)
        if known is None:
            raise StateError("parameters", "Prefect is away")
        return known(*args, **kwargs)

    monkeypatch.setattr(kit.executions.flow_runs, "create", failing)

    with pytest.raises(StateError):
        Creation(kit.executions).forks(trial.id, Changes(), count=3)

    assert kit.executions.search(ExecutionFilter(forked_from=trial.id)).items == []
    assert kit.executions.flow_runs.being_created() == []
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=200)
    assert not [run for run in runs if f"forked-from:{trial.id}" in run.tags]
    assert state_of(kit.executions.run(trial.id)).is_paused()
