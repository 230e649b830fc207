"""The example agents outside Prefect, run as a user does: killed, paused, rolled back."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest

from processes import started
from rest import KEY
from world import Answer, World

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILES = 8

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory that the Python agent surveys."""
    made = tmp_path / "stock"
    made.mkdir()
    for n in range(FILES):
        (made / f"{n}").write_text(f"{n}")
    return made


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Start]:
    """Starts an example, with its output in a pipe."""
    env = {
        "PREFECT_EXECUTIONS_URL": str(world.rest.base_url).rstrip("/"),
        "PREFECT_EXECUTIONS_API_KEY": KEY,
        "SAVE_ALL": "1",
    }
    with ExitStack() as running:
        yield lambda *command: running.enter_context(
            started(*command, env={**os.environ, **env}, cwd=tmp_path)
        )


def execution_of(world: World, process: subprocess.Popen[str]) -> Answer:
    """The execution that an agent has printed."""
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"exec_[0-9a-f]{32}", line)
    assert match, line
    answer = world.rest.get(f"/v1/execution/{match[0]}")
    return World.ok(answer, 200)  # type: ignore[no-any-return]


def said(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=60)
    return text


HELD = "3"  # the file that makes an agent wait


def hold(directory: Path) -> Path:
    """Copy a directory with a pipe in place of a file, so that its reader waits."""
    held = directory.parent / "held"
    shutil.copytree(directory, held)
    (held / HELD).unlink()
    os.mkfifo(held / HELD)
    return held


def go_on(held: Path) -> None:
    """Put the file in its place, and write its text to the pipe for the waiting reader."""
    pipe = held / HELD
    waiting = os.open(pipe, os.O_RDWR)  # can be opened without a reader
    os.write(waiting, HELD.encode())
    pipe.unlink()
    pipe.write_text(HELD)
    os.close(waiting)


def python_agent(directory: Path, *more: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "agent.py"), str(directory), *more]


def saved(n: int) -> Callable[[Answer], bool]:
    return lambda e: len(e["state"].get("digests", ())) >= n


@pytest.mark.journey
def test_the_python_agent_that_is_killed_goes_on_elsewhere(
    world: World, start: Start, directory: Path
) -> None:
    undisturbed = start(*python_agent(directory))
    expected = execution_of(world, undisturbed)
    assert "completed" in said(undisturbed)

    held = hold(directory)
    first = start(*python_agent(held))
    execution = execution_of(world, first)
    world.until(execution, "three files", saved(3))
    first.kill()
    go_on(held)
    second = start(*python_agent(held, "--execution", execution["id"]))
    assert "attempt 2" in said(second)

    ended, other = world.get(execution), world.get(expected)
    assert (ended["status"], ended["prefect"]["attempt"]) == ("completed", 2)
    assert ended["result"] == other["result"]
    assert ended["result"]["files"] == FILES


def test_the_python_agent_heeds_the_prefect_ui(world: World, start: Start, directory: Path) -> None:
    held = hold(directory)
    agent = start(*python_agent(held))
    execution = execution_of(world, agent)
    world.until(execution, "three files", saved(3))
    world.pause_in_the_ui(execution)
    go_on(held)
    assert agent.stdout is not None
    assert "paused" in agent.stdout.readline()
    paused = world.get(execution)
    assert paused["status"] == "paused"

    world.resume(execution, "ckpt_000000")

    rest = said(agent)
    assert "attempt 2" in rest
    assert "completed" in rest
    ended = world.get(execution)
    assert ended["status"] == "completed"
    assert ended["result"]["files"] == FILES


def test_the_python_agent_stops_when_it_is_cancelled(
    world: World, start: Start, directory: Path
) -> None:
    held = hold(directory)
    agent = start(*python_agent(held))
    execution = execution_of(world, agent)
    world.until(execution, "three files", saved(3))
    world.cancel_in_the_ui(execution)
    go_on(held)

    assert "terminated" in said(agent)
    assert agent.returncode == 0
    assert world.get(execution)["status"] == "terminated"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_shell_agent_that_is_killed_goes_on(world: World, start: Start, tmp_path: Path) -> None:
    text = tmp_path / "text"
    lines = [f"line {n} " + "word " * n for n in range(6)]
    os.mkfifo(text)
    first = start(str(EXAMPLES / "agent.sh"), str(text))
    with text.open("w") as pipe:
        execution = execution_of(world, first)
        pipe.write("\n".join(lines[:3]) + "\n")
        pipe.flush()
        world.until(execution, "three lines", lambda e: e["state"].get("line") == 3)
        first.kill()
    text.unlink()
    text.write_text("\n".join(lines) + "\n")

    second = start(str(EXAMPLES / "agent.sh"), str(text), execution["id"])

    assert "from line 3" in said(second)
    ended = world.get(execution)
    assert ended["status"] == "completed"
    assert ended["result"] == sum(len(line.split()) for line in lines)
    assert ended["prefect"]["attempt"] == 2
    assert UUID(ended["prefect"]["flow_run_id"])
