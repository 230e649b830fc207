"""The example flows in `flows/`, crashed at every point with the test kit."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from prefect.flows import load_flow_from_entrypoint

import prefect_executions
from prefect_executions.local import Stack
from prefect_executions.testkit import TestKit, Trial

FLOWS = Path(__file__).parents[2] / "flows"

research_agent: Any = load_flow_from_entrypoint(f"{FLOWS}/research_agent.py:research_agent")
fan_out: Any = load_flow_from_entrypoint(f"{FLOWS}/fan_out.py:fan_out")


@pytest.fixture
def kit(stack: Stack) -> Iterator[TestKit]:
    with prefect_executions.testing() as kit:
        yield kit


def labels(trial: Trial) -> dict[str | None, str]:
    """The ids of an execution's checkpoints by their labels."""
    return {checkpoint.label: checkpoint.id for checkpoint in trial.get().checkpoints}


def test_a_research_agent_publishes_what_is_approved(kit: TestKit, tmp_path: Path) -> None:
    trial = kit.start(research_agent, directory=str(tmp_path))
    file = tmp_path / f"{trial.id}.md"

    trial.resume(input={"approved": True, "title": "Clippers"})
    assert file.read_text().startswith("# Clippers\n\n## hulls\n\nA clipper's hull is long")
    rolled_back = trial.resume(checkpoint_id=labels(trial)["searched for fast"])

    assert [step.step for step in rolled_back.steps_behind] == ["publish"]
    assert not file.exists()
    trial.resume(input={"approved": False})
    assert trial.status == "completed"
    assert trial.result is None
    assert not file.exists()


def test_a_research_agent_comes_to_the_same_wherever_it_crashes(
    kit: TestKit, tmp_path: Path
) -> None:
    undisturbed = kit.start(research_agent, directory=str(tmp_path))

    for n in count(1, 4):
        with kit.crash_after(n):
            trial = kit.start(research_agent, directory=str(tmp_path))
        if trial.status != "failed":
            break
        trial.resume()

        assert trial.status == "paused"
        assert trial.state == undisturbed.state
    assert n > 12


def test_a_fan_out_gathers_all_replies_wherever_it_crashes(kit: TestKit, tmp_path: Path) -> None:
    experts = ["ada", "bob"]
    for n in count(1, 3):
        post = tmp_path / str(n)
        post.mkdir()
        for name in experts:
            (post / name).write_text(f"yours, {name}")
        with kit.crash_after(n):
            trial = kit.start(fan_out, post=str(post), experts=experts)
        crashed = trial.status == "failed"
        if crashed:
            trial.resume()

        assert [reply.answer for reply in trial.result] == ["yours, ada", "yours, bob"]
        sent = Counter((post / "sent.txt").read_text().splitlines())
        assert len(sent) == 2
        assert max(sent.values()) <= (2 if crashed else 1)  # sent, but not recorded
        if not crashed:
            break
    assert n > 8
