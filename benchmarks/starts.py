"""How long starts take: what importing this package adds, and a command of the client."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import Result, alternating

ROUNDS = 20
_PREFECT = "from prefect import flow"
_FLOW = f"{_PREFECT}; from prefect_executions import execution, step"


def starts(_data: Path) -> Iterator[Result]:
    """All benchmarks of starts, each in a process of its own."""
    ours, theirs = alternating(_python("-c", _FLOW), _python("-c", _PREFECT), ROUNDS)
    yield Result("import_in_a_flow", ours, "s", "import prefect", ours / theirs, 1.05)
    help_ = _python("-m", "prefect_executions.cli", "--help")
    ours, theirs = alternating(help_, _python("-c", _PREFECT), ROUNDS)
    yield Result("help_of_the_command_line", ours, "s", "import prefect", ours / theirs, 0.4)


def _python(*arguments: str) -> Callable[[int], None]:
    # An installed package has its bytecode. That of a checkout is written by the first round, also
    # where the environment forbids it: else this package would be compiled, and Prefect not.
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def run(_: int) -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ)

    return run
