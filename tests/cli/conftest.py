"""The command line, against the real service over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.cli import main
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY
from running import Ran, Run
from serving import served


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


@pytest.fixture
def url(
    prefect: SyncPrefectClient, memory: MemoryObjects, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of a service whose logs are in `memory`; commands find it in the environment."""
    with served(prefect, memory, store=uuid4().hex) as url:
        monkeypatch.setenv("PREFECT_EXECUTIONS_URL", url)
        yield url
