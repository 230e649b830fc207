"""`run --resume`: what it says of a file, a flow or an execution that is not there."""

from pathlib import Path
from uuid import uuid4

import pytest

from prefect_executions.local import Stack
from running import Run

SCRIPT = """
from prefect import flow
from prefect_executions import execution

@flow
@execution
def research() -> int:
    return 42

number = 1
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / f"script_{uuid4().hex}.py"
    file.write_text(SCRIPT)
    return file


@pytest.mark.parametrize(
    ("flow", "code", "said"),
    [
        ("", 2, "name the file and the flow in it, as in first.py:research"),
        (":nothing", 3, "'nothing' not found"),
        (":number", 3, "'number' is not a flow"),
        (":research", 3, "There is no execution 'exec_"),
    ],
)
def test_what_is_not_there_is_named(
    run: Run, stack: Stack, script: Path, flow: str, code: int, said: str
) -> None:
    exit_code, out, err = run("run", f"{script}{flow}", "--resume", f"exec_{uuid4().hex}")

    assert (exit_code, out) == (code, "")
    assert said in err


def test_a_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("run", f"{tmp_path}/no.py:research", "--resume", f"exec_{uuid4().hex}")

    assert (code, f"{tmp_path}/no.py" in err) == (3, True)


def test_what_a_file_raises_is_shown(run: Run, script: Path) -> None:
    script.write_text("1 / 0")

    with pytest.raises(ZeroDivisionError):
        run("run", f"{script}:research", "--resume", f"exec_{uuid4().hex}")
