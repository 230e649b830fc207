"""What the documents show is run: their Python and their bash."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from standardwebhooks import Webhook
from world import World

import prefect_executions
from prefect_executions import execution
from prefect_executions.local import Stack
from prefect_executions.webhooks import ExecutionWebhook
from rest import KEY

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, language: str) -> str:
    """The code of one language in a document, put together."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return "\n".join(pattern.findall(document.read_text()))


def run(document: Path) -> Any:
    """Run the Python of a document; what it has defined."""
    namespace: dict[str, Any] = {"__name__": document.stem}
    exec(compile(blocks(document, "python"), document.name, "exec"), namespace)
    return SimpleNamespace(**namespace)


def run_pytest(text: str, directory: Path) -> None:
    """Run a file of tests as a user would, apart from this session."""
    (directory / "test_document.py").write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_document.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout


def test_the_readme_is_a_flow_that_runs(world: World) -> None:
    readme = run(ROOT / "README.md")

    result = readme.research(["one", "two"])

    assert result.done == ["one", "two"]


def test_the_readme_s_steps_are_recorded_and_undone(stack: Stack) -> None:
    readme = run(ROOT / "README.md")
    with prefect_executions.testing() as kit:
        trial = kit.start(readme.order, number="A-1", cents=500)
        with kit.crash_after(5):  # attempt, answer, "charge", "charged", "ship"
            trial.resume(input={"approved": True})
        assert trial.status == "failed"
        trial.resume()

        assert trial.result == "A-1 shipped"
        assert readme.world == ["charged A-1", "shipped A-1"]


def sends_once(send: Any) -> Any:
    """A flow that makes one call twice, by its key, with inputs that have no identity."""

    @flow
    @execution
    def sending() -> list[str]:
        return [send(1, mail=object()), send(1, mail=object())]

    return sending


def test_the_flows_of_the_steps_document_run(stack: Stack) -> None:
    steps = run(ROOT / "docs" / "steps.md")
    with prefect_executions.testing() as kit:
        reading = kit.start(steps.reading, titles=["What a day", "No", "No"])
        assert reading.result == 5

        measured = kit.start(steps.measuring, rounds=3)
        with kit.crash_after(6):  # creation, attempt, two rounds of a step and a checkpoint
            measuring = kit.start(steps.measuring, rounds=3)
        assert measuring.state == {"values": [0, 10]}
        measuring.resume()
        assert measuring.result == measured.result == [0, 10, 20]

        sending = kit.start(sends_once(steps.send))
        assert sending.result == ["sent 1", "sent 1"]

        booking = kit.start(steps.booking, room="12")
        booking.resume(input={"approved": True})
        assert steps.booked == ["12"]
        booking.resume(checkpoint_id="ckpt_000000")
        assert steps.booked == []
        booking.resume(input={"approved": False, "comment": "too loud"})
        assert booking.result == "too loud"


def test_the_operations_document_makes_a_state_that_fits_of_an_old_one(stack: Stack) -> None:
    operations = run(ROOT / "docs" / "operations.md")
    with prefect_executions.testing() as kit:
        old = kit.start(operations.survey, state={"done": ["one", "two"]})
        assert old.state == {"done": {"one": 1, "two": 1}}


def test_the_clients_of_the_document_count_and_watch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_EXECUTIONS_URL", str(world.rest.base_url))
    monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", KEY)
    document = run(ROOT / "docs" / "client.md")

    assert document.count(3) == 3
    [counted, *_] = document.client.list(name="counting")
    assert counted.status == "completed"
    assert asyncio.run(document.statuses(counted.id)) == ["completed"]


def test_the_webhook_of_the_document_is_saved_and_its_signature_verified(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run(ROOT / "docs" / "webhooks.md")
    body = json.dumps({"type": "execution.status", "data": {"execution_id": "exec_1"}})
    at = datetime.now(UTC)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": f"{int(at.timestamp())}",
        "webhook-signature": Webhook(document.secret).sign("evt_1", at, body),
    }

    for _ in range(2):  # a repeat is known by its id
        document.receive(body.encode(), headers)

    assert capsys.readouterr().out == "execution.status exec_1\n"
    ExecutionWebhook.delete("researcher-news")


def test_the_contributors_backend_is_tested(tmp_path: Path) -> None:
    head = "import pytest\nfrom prefect_executions.objects import MemoryObjects, Objects\n"
    run_pytest(head + blocks(ROOT / "CONTRIBUTING.md", "python"), tmp_path)


def test_the_tests_of_the_testing_document_pass(tmp_path: Path) -> None:
    run_pytest(blocks(ROOT / "docs" / "testing.md", "python"), tmp_path)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_calls_of_the_api_document_work(world: World, tmp_path: Path) -> None:
    world.stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=ROOT)
    env = {
        "URL": str(world.rest.base_url).rstrip("/"),
        "KEY": KEY,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", blocks(ROOT / "docs" / "http-api.md", "bash")],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_promise_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/\S+?)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text())

    assert len(named) > 15
    for file, name in named:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), f"{file}::{name}"


def test_the_store_script_saves_a_store(world: World) -> None:
    server = world.stack.s3
    env = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
    }
    command = ["blocks/store.py", "--name", "scripted", "--bucket", "executions"]
    command += ["--endpoint", server.endpoint, "--region", "us-east-1", "--path-style"]

    done = subprocess.run(
        [sys.executable, *command, "--fixed-credentials"],
        cwd=ROOT,
        env={**os.environ, **world.stack.env, **env},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "execution-store/scripted is saved" in done.stdout
