"""Scripts that call a flow, on Prefect's temporary server: killed, and continued elsewhere."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from processes import started

ROOT = Path(__file__).parents[2]
HOME = "Executions are kept here, in"
# It waits at page 2 for a file.
SCRIPT = """
import time
from pathlib import Path

from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution, step


class Page(BaseModel):
    number: int


@step
def read(page: Page) -> str:
    with open("read", "a") as file:
        file.write(f"{page.number} ")
    return f"page {page.number}"


@flow(log_prints=True)
@execution(state=list[str], initial=[])
def research(pages: int) -> list[str]:
    run = execution.current(list[str])
    for number in range(len(run.state), pages):
        page = read(Page(number=number))
        while number == 2 and not Path("go").exists():
            time.sleep(0.05)
        run.state.append(page)
        run.checkpoint(label=page)
    return run.state


if __name__ == "__main__":
    print(research(4))
"""


class Script:
    """A process in a directory, with all that it says."""

    def __init__(self, directory: Path, *command: str) -> None:
        env = {
            **{name: text for name, text in os.environ.items() if "PREFECT" not in name},
            "PREFECT_HOME": f"{directory}/home",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
            "DO_NOT_TRACK": "1",
            "COLUMNS": "400",
        }
        self.lines: list[str] = []
        self._resources = ExitStack()
        self._process = self._resources.enter_context(
            started(sys.executable, *command, env=env, cwd=directory)
        )

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def until(self, text: str) -> str:
        """Wait for a line with this text."""
        for line in self._out:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it has ended without {text!r}:\n{self.said}")

    def end(self, signum: int | None = None, *, all_of_it: bool = False) -> int:
        """Send it a signal, or the whole group as a terminal does, and wait for its end."""
        if signum is not None:
            send = os.killpg if all_of_it else os.kill
            send(self._process.pid, signum)
        if signum != signal.SIGKILL:  # Prefect's server would keep the pipe open
            self.lines += self._out
        return self._process.wait()

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def close(self) -> None:
        self._resources.close()  # of Prefect's server, too


Start = Callable[..., Script]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Python in a directory with the script; all of it is killed at the end."""
    (tmp_path / "first.py").write_text(SCRIPT)
    scripts: list[Script] = []

    def begin(*command: str) -> Script:
        scripts.append(Script(tmp_path, *command))
        return scripts[-1]

    yield begin
    for script in scripts:
        script.close()


def way_back(script: Script) -> list[str]:
    """What the log says that goes on with it."""
    line = script.until("this goes on with it")
    found = re.search(
        r"prefect-executions (run first\.py:research --resume exec_[0-9a-f]{32})", line
    )
    assert found is not None, line
    return ["-m", "prefect_executions.cli", *found[1].split()]


def test_a_killed_script_goes_on_in_a_new_process(start: Start, tmp_path: Path) -> None:
    """From its last checkpoint, in the same flow run; what was recorded is not done again."""
    script = start("first.py")
    script.until(f"{HOME} {tmp_path}/home/executions")
    command = way_back(script)
    script.until('"page 1" saved')

    alive = start(*command)
    assert alive.end() == 1
    assert "Its process is at work on this machine" in alive.said

    assert script.end(signal.SIGKILL) == -signal.SIGKILL
    (tmp_path / "go").touch()
    again = start(*command)
    assert again.end() == 0, again.said

    assert HOME not in again.said
    assert re.search(r"attempt 2 continues from ckpt_0", again.said)
    assert [*re.findall(r'"(page \d)" saved', again.said)] == ["page 2", "page 3"]
    assert "Finished in state Completed()" in again.said
    assert (tmp_path / "read").read_text() in ("0 1 2 3 ", "0 1 2 2 3 ")  # killed within the step


def test_an_interrupted_script_ends_soon_and_goes_back(start: Start, tmp_path: Path) -> None:
    """Ctrl-C ends Prefect's temporary server, too; all the same the run is Crashed."""
    script = start("first.py")
    command = way_back(script)
    first = re.findall(r"ckpt_\d+", script.until('"page 0" saved'))[0]
    script.until('"page 1" saved')

    assert script.end(signal.SIGINT, all_of_it=True) != 0

    assert f"Interrupted. To go on: prefect-executions {' '.join(command[2:])}" in script.said
    assert "Finished in state Crashed(" in script.said
    assert "Connection refused" not in script.said
    assert script.said.rstrip().splitlines()[-2:][0] == "KeyboardInterrupt"
    (tmp_path / "go").touch()
    again = start(*command, "--from", first)
    assert again.end() == 0, again.said
    assert f"Going back to {first}" in again.said
    assert f"attempt 2 continues from {first}" in again.said
    assert [*re.findall(r'"(page \d)" saved', again.said)] == ["page 1", "page 2", "page 3"]
    assert "Finished in state Completed()" in again.said


def test_the_readme_s_first_block_is_a_script_that_runs(start: Start, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "first.py").write_text(readme.split("```python\n")[1].split("```")[0])

    script = start("first.py")

    assert script.end() == 0, script.said
    assert [*re.findall(r'"(\w+)" saved', script.said)] == ["one", "two", "three"]
    assert script.said.count(HOME) == 1
    assert "Finished in state Completed()" in script.said
