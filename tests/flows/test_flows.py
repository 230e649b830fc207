"""The example flows in `flows/`, crashed at every point with the test kit."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect.flows import load_flow_from_entrypoint

from prefect_executions.testkit import TestKit, Trial

FLOWS = Path(__file__).parents[2] / "flows"

research_agent: Any = load_flow_from_entrypoint(f"{FLOWS}/research_agent.py:research_agent")
fan_out: Any = load_flow_from_entrypoint(f"{FLOWS}/fan_out.py:fan_out")
invoice_graph: Any = load_flow_from_entrypoint(f"{FLOWS}/invoice_graph.py:invoice_graph")
claims_agents: Any = load_flow_from_entrypoint(f"{FLOWS}/claims_agents.py:claims_agents")
returns_agents: Any = load_flow_from_entrypoint(f"{FLOWS}/returns_agents.py:returns_agents")
support_agent: Any = load_flow_from_entrypoint(f"{FLOWS}/support_agent.py:support_agent")
survey: Any = load_flow_from_entrypoint(f"{FLOWS}/survey.py:survey")


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


@pytest.mark.parametrize("approved", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_research_agent_comes_to_the_same_wherever_it_crashes(
    kit: TestKit, tmp_path: Path, approved: bool
) -> None:
    def check(trial: Trial) -> None:
        assert (tmp_path / f"{trial.id}.md").exists() == approved

    survived = kit.crash_everywhere(
        research_agent,
        {"directory": tmp_path},
        answers=[{"approved": approved}],
        check=check,
        points=6,
    )

    assert len(survived.points) == 6


def test_a_fan_out_gathers_all_replies_wherever_it_crashes(kit: TestKit, tmp_path: Path) -> None:
    experts = ["ada", "bob"]
    sent = tmp_path / "sent.txt"
    for name in experts:
        (tmp_path / name).write_text(f"yours, {name}")

    def check(trial: Trial) -> None:
        assert [reply.answer for reply in trial.result] == ["yours, ada", "yours, bob"]
        letters = Counter(sent.read_text().splitlines())
        assert len(letters) == 2
        assert max(letters.values()) <= 2  # sent, but not recorded

    survived = kit.crash_everywhere(
        fan_out,
        {"post": tmp_path, "experts": experts},
        before=lambda: sent.unlink(missing_ok=True),
        check=check,
        compare=lambda trial: {"the replies": trial.result},  # they may come in any order
        points=6,
    )

    assert len(survived.points) > 2


@pytest.mark.long
def test_a_survey_comes_to_the_same_wherever_it_crashes(kit: TestKit) -> None:
    survived = kit.crash_everywhere(survey, {"per_second": 0, "only": ["pluggy", "iniconfig"]})

    assert "after the checkpoint 'read iniconfig', before the checkpoint 'read pluggy'" in (
        survived.points
    )


@pytest.mark.parametrize("agent", [support_agent, claims_agents, returns_agents])
def test_an_agent_comes_to_the_same_wherever_it_crashes(
    kit: TestKit, tmp_path: Path, agent: Any
) -> None:
    (tmp_path / "7").write_text("in Oslo")
    sent = tmp_path / "sent.txt"

    def check(_: Trial) -> None:
        lines = ["to the carrier: where is 7?", "900 cents for 8"]
        assert sent.read_text().splitlines() == lines

    survived = kit.crash_everywhere(
        agent,
        {"office": tmp_path},
        answers=[{"approved": True}],
        before=lambda: sent.unlink(missing_ok=True),
        check=check,
        compare=lambda trial: {"the result": trial.result},
        lose_writes=False,
    )

    assert survived.undisturbed.result == [
        "Dear customer, your order is in Oslo.",
        "Dear customer, you get 900 cents for order 8.",
    ]


def test_a_support_agent_is_told_what_is_not_approved(kit: TestKit, tmp_path: Path) -> None:
    trial = kit.start(support_agent, office=tmp_path, letters=["8 is broken."])

    trial.resume(input={"approved": False, "message": "we need a picture of it."})

    assert trial.result == ["Dear customer, we need a picture of it."]
    assert not (tmp_path / "sent.txt").exists()


def test_a_graph_pays_once_wherever_it_crashes_and_takes_it_back(
    kit: TestKit, tmp_path: Path
) -> None:
    (tmp_path / "7").write_text("900 cents")
    paid = tmp_path / "paid.txt"

    def check(trial: Trial) -> None:
        assert trial.result == "Done. Paid: 900 cents for invoice 7"
        assert paid.read_text().splitlines() == ["900 cents for invoice 7"]

    survived = kit.crash_everywhere(
        invoice_graph,
        {"office": tmp_path},
        answers=[{"approved": True}],
        before=lambda: paid.unlink(missing_ok=True),
        check=check,
        compare=lambda trial: {"the result": trial.result},
        lose_writes=False,
    )

    assert len(survived.points) > 4
    with kit.pause_at("step 2: settle"):
        trial = kit.start(invoice_graph, office=tmp_path)
        trial.resume(input={"approved": True})
    [before] = [at.id for at in trial.get().checkpoints if at.label == "step 1: look_up"]
    trial.resume(checkpoint_id=before)
    trial.resume(input={"approved": False})
    assert trial.result == "Done. It is not paid."
    assert paid.read_text().splitlines()[-2:] == [
        "900 cents for invoice 7",
        "900 cents for invoice 7 taken back",
    ]
