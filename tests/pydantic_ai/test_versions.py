"""The adapter is loaded only where it is asked for, and only with tested versions."""

import os
import subprocess
import sys
from pathlib import Path


def _python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, *sys.path]))}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


def test_it_is_not_loaded_with_the_package() -> None:
    names = "arecord, execution, testing"
    done = _python(f"import sys; from prefect_executions import {names}; print(*sys.modules)")

    assert "prefect_executions.steps.named" in done.stdout.split()
    assert not any(name.startswith("pydantic_ai") for name in done.stdout.split())


def test_an_untested_version_is_refused_before_anything_of_it_is_loaded(tmp_path: Path) -> None:
    info = tmp_path / "pydantic_ai_slim-1.107.0.dist-info"
    info.mkdir()
    lines = "Metadata-Version: 2.1", "Name: pydantic-ai-slim", "Version: 1.107.0", ""
    (info / "METADATA").write_text("\n".join(lines))

    done = _python("import prefect_executions.pydantic_ai", tmp_path)

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "UnsuitablePackage: pydantic-ai-slim 1.107.0 is installed" in last
    assert "pip install 'prefect-executions[pydantic-ai]'" in last
