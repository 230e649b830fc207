"""The adapter is loaded only with tested versions."""

import os
import subprocess
import sys
from pathlib import Path


def test_an_untested_version_is_refused_before_anything_of_it_is_loaded(tmp_path: Path) -> None:
    info = tmp_path / "google_adk-0.1.0.dist-info"
    info.mkdir()
    lines = "Metadata-Version: 2.1", "Name: google-adk", "Version: 0.1.0", ""
    (info / "METADATA").write_text("\n".join(lines))

    done = subprocess.run(
        [sys.executable, "-c", "import prefect_executions.adk"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "UnsuitablePackage: google-adk 0.1.0 is installed" in last
    assert "pip install 'prefect-executions[adk]'" in last
