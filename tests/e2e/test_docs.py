"""What the documents show is run: their Python and their bash."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from world import World

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, language: str) -> str:
    """The code of one language in a document, put together."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return "\n".join(pattern.findall(document.read_text()))


def test_the_readme_is_a_flow_that_runs(world: World) -> None:
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(blocks(ROOT / "README.md", "python"), "README.md", "exec"), namespace)

    result = namespace["research"](["one", "two"])

    assert result.done == ["one", "two"]


def test_the_contributors_backend_is_tested(tmp_path: Path) -> None:
    test = tmp_path / "test_backend.py"
    head = "import pytest\nfrom prefect_executions.objects import MemoryObjects, Objects\n"
    test.write_text(head + blocks(ROOT / "CONTRIBUTING.md", "python"))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_calls_of_the_api_document_work(world: World, tmp_path: Path) -> None:
    world.stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=ROOT)
    env = {
        "URL": str(world.rest.base_url).rstrip("/"),
        "KEY": "none is needed on loopback",
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
