"""The example flows in `flows/`, deployed, on real servers, with real processes."""

from collections import Counter
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from prefect_executions.log.journal import Outcome, decode
from prefect_executions.log.log import ExecutionLog
from world import Answer, World, eventually, kill


def until_paused(world: World, execution: Answer, at: str) -> Answer:
    """Wait until a run has paused at a checkpoint with this label, and its process has ended."""

    def is_there(now: Answer) -> bool:
        assert now["status"] in ("running", "paused"), world.run(execution).state
        return bool(now["status"] == "paused" and now["checkpoints"][0]["label"] == at)

    paused = world.until(execution, f"it pauses at {at!r}", is_there)
    world.until_process_ends(world.pid(execution))
    return paused


def answer(world: World, execution: Answer, **given: object) -> None:
    path = world.path(execution, "/resume")
    world.ok(world.rest.post(path, json={"input": given}), 202)


def test_a_research_agent_is_answered_and_what_it_published_is_taken_back(
    world: World, tmp_path: Path
) -> None:
    question = "Shall this be published?"
    published = "Published. Resume, or roll back to take it back."
    execution = world.create("research-agent", directory=str(tmp_path))
    file = tmp_path / f"{execution['id']}.md"
    asked = until_paused(world, execution, question)
    assert not file.exists()

    answer(world, execution, approved=True, title="Ships")
    until_paused(world, execution, published)
    first = file.read_text()
    [before] = [c for c in asked["checkpoints"] if c["label"] == "searched for fast"]
    rolled_back = world.resume(execution, before["id"])
    world.until_attempt(execution, 3)
    until_paused(world, execution, question)
    taken_back = not file.exists()

    answer(world, execution, approved=True, title="Clippers")
    until_paused(world, execution, published)
    world.resume(execution)
    ended = world.until_ended(execution)

    assert first.startswith("# Ships\n\n## hulls\n")
    steps_behind = [(step["step"], step["undo"]) for step in rolled_back["steps_behind"]]
    assert steps_behind == [("publish", True)]
    assert taken_back
    assert ended["status"] == "completed"
    assert ended["state"]["published"] == str(file)
    assert file.read_text() == first.replace("# Ships", "# Clippers")


def recorded(world: World, execution: Answer) -> Counter[str]:
    """How often each step is recorded as done."""
    objects = world.stack.s3.objects(prefix="executions")
    journal = decode(ExecutionLog(objects, execution["id"]).living_head().journal)
    return Counter(r.step for r in journal.values() if r.outcome is Outcome.DONE)


def replayed(world: World, execution: Answer) -> Counter[str]:
    """How often each step was replayed, as Prefect's UI shows it."""
    runs = world.prefect.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[world.run(execution).id])),
        limit=200,
    )
    return Counter(run.name.rpartition("-")[0] for run in runs if run.state_name == "Replayed")


@pytest.mark.journey
def test_of_a_killed_fan_out_what_has_finished_is_not_run_again(
    world: World, tmp_path: Path
) -> None:
    experts = ["ada", "bob", "eve", "kim"]
    execution = world.create(
        "fan-out",
        config={"max_retries": 1},
        post=str(tmp_path),
        experts=experts,
        patience_seconds=600,
    )
    for name in experts[:2]:
        (tmp_path / name).write_text(f"yours, {name}")
    eventually(
        lambda: recorded(world, execution) == {"send": 4, "receive": 2, "consult": 2},
        "two sub-agents have finished, and two wait for their answers",
    )

    kill(world.pid(execution))
    world.until_attempt(execution, 2)  # by the supervisor
    for name in experts[2:]:
        (tmp_path / name).write_text(f"yours, {name}")
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert Counter((tmp_path / "sent.txt").read_text().splitlines()) == {
        f"{name}: What keeps a hull clean?": 1 for name in experts
    }
    assert sorted(ended["state"]["finished"]) == experts
    assert recorded(world, execution) == {"send": 4, "receive": 4, "consult": 4}
    eventually(
        lambda: replayed(world, execution) == {"consult": 2, "send": 2},
        "Prefect shows what was replayed",
    )


@pytest.mark.journey
def test_an_agent_is_killed_asks_and_is_taken_back(world: World, tmp_path: Path) -> None:
    execution = world.create(
        "support-agent", config={"max_retries": 1}, office=str(tmp_path), patience_seconds=600
    )
    sent = tmp_path / "sent.txt"
    eventually(sent.exists, "the agent has asked the carrier")

    kill(world.pid(execution))
    world.until_attempt(execution, 2)  # by the supervisor
    (tmp_path / "7").write_text("in Oslo")
    asked = until_paused(world, execution, "May **support** call `refund`?")
    question = world.ok(world.rest.get(world.path(execution, "/question")), 200)
    [first] = [c for c in asked["checkpoints"] if c["label"] == "answered: Where is 7?"]
    world.resume(execution, first["id"])
    world.until_attempt(execution, 3)
    again = until_paused(world, execution, "May **support** call `refund`?")
    answer(world, execution, approved=True)
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    assert '"cents": 900' in question["prompt"]
    # The call of the tool that was killed is made again; the model is not asked again for it.
    assert Counter(sent.read_text().splitlines()) == {
        "to the carrier: where is 7?": 2,
        "900 cents for 8": 1,
    }
    assert len(first["state"]["history"]) == len(again["state"]["history"]) == 4
    assert [message["kind"] for message in ended["state"]["history"]] == ["request", "response"] * 4
    assert ended["result"] == ended["state"]["answers"]
    assert recorded(world, execution) == {
        "support: run": 2,
        "support: model": 4,
        "support: tool track": 1,
        "support: tool refund": 1,
        "ask ToolApproval": 1,
    }
    eventually(
        lambda: replayed(world, execution)["support: model"] >= 2,
        "Prefect shows what was replayed",
    )


def killed_asked_and_taken_back(world: World, flow: str, office: Path, asker: str) -> Answer:
    """The ended execution of an agent that was killed, asked, and was taken back, as it should be.

    It answers "Where is 7?", and refunds order 8, by an agent with the name `asker`.
    """
    execution = world.create(
        flow, config={"max_retries": 1}, office=str(office), patience_seconds=600
    )
    sent = office / "sent.txt"
    eventually(sent.exists, "the agent has asked the carrier")

    kill(world.pid(execution))
    world.until_attempt(execution, 2)  # by the supervisor
    (office / "7").write_text("in Oslo")
    question = f"May **{asker}** call `refund`?"
    asked = until_paused(world, execution, question)
    [first] = [c for c in asked["checkpoints"] if c["label"] == "answered: Where is 7?"]
    world.resume(execution, first["id"])
    world.until_attempt(execution, 3)
    until_paused(world, execution, question)
    answer(world, execution, approved=True)
    ended = world.until_ended(execution)

    assert ended["status"] == "completed"
    # The call of the tool that was killed is made again; the model is not asked again for it.
    assert Counter(sent.read_text().splitlines()) == {
        "to the carrier: where is 7?": 2,
        "900 cents for 8": 1,
    }
    assert ended["result"] == [
        "Dear customer, your order is in Oslo.",
        "Dear customer, you get 900 cents for order 8.",
    ]
    return ended


def test_agents_that_transfer_are_killed_ask_and_are_taken_back(
    world: World, tmp_path: Path
) -> None:
    ended = killed_asked_and_taken_back(world, "claims-agents", tmp_path, "claims")

    kept = ended["state"]["sessions"]["office"]["users"]["customer"]["sessions"]["letters"]
    assert [event["author"] for event in kept["events"]] == [
        *("user", "desk", "desk", "desk"),
        *("user", "desk", "desk", "claims", "claims", "claims"),
    ]
    assert recorded(world, ended) == {
        "desk: run": 2,
        "desk: model": 3,
        "desk: tool track": 1,
        "desk: tool transfer_to_agent": 1,
        "claims: model": 2,
        "claims: tool refund": 1,
        "ask ToolApproval": 1,
    }


def test_agents_that_hand_off_are_killed_ask_and_are_taken_back(
    world: World, tmp_path: Path
) -> None:
    ended = killed_asked_and_taken_back(world, "returns-agents", tmp_path, "returns")

    assert [item.get("role", item.get("type")) for item in ended["state"]["items"]] == [
        *("user", "function_call", "function_call_output", "assistant"),
        *("user", "function_call", "function_call_output"),
        *("function_call", "function_call_output", "assistant"),
    ]
    assert recorded(world, ended) == {
        "desk: run": 2,
        "desk: model": 3,
        "desk: tool track": 1,
        "returns: model": 2,
        "returns: tool refund": 1,
        "ask ToolApproval": 1,
    }


@pytest.mark.journey
def test_a_graph_is_killed_asks_and_is_taken_back(world: World, tmp_path: Path) -> None:
    execution = world.create("invoice-graph", config={"max_retries": 1}, office=str(tmp_path))
    sent, paid = tmp_path / "sent.txt", tmp_path / "paid.txt"
    eventually(sent.exists, "the graph has asked the supplier")

    kill(world.pid(execution))
    world.until_attempt(execution, 2)  # by the supervisor
    (tmp_path / "7").write_text("900 cents")
    asked = until_paused(world, execution, "Pay 900 cents for invoice 7?")
    [before] = [at for at in asked["checkpoints"] if at["label"] == "step 0"]
    world.resume(execution, before["id"])
    world.until_attempt(execution, 3)
    until_paused(world, execution, "Pay 900 cents for invoice 7?")
    answer(world, execution, approved=True)
    ended = world.until_ended(execution)

    assert (ended["status"], ended["result"]) == (
        "completed",
        "Done. Paid: 900 cents for invoice 7",
    )
    # Killed in the call, and taken back behind it: made again each time.
    assert sent.read_text().splitlines() == ["what is 7?"] * 3
    assert paid.read_text().splitlines() == ["900 cents for invoice 7"]
    labels = [at["label"] for at in ended["checkpoints"]][::-1]
    assert labels.count("step 1: look_up") == 2
    assert "step 3: report" in labels
