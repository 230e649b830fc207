"""What runs a command in this process."""

from pathlib import Path

import pytest

from prefect_executions.cli import main
from rest import KEY
from running import Ran, Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command, and returns its exit code and output."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", KEY)

    def run(*command: str) -> Ran:
        code = 0
        try:
            main([*command])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out, err = capsys.readouterr()
        return code, out, err

    return run
