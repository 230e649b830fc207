"""The service keeps to its OpenAPI document: schemathesis, over HTTP, on a real store."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client

from prefect_executions.local import Stack
from prefect_executions.service.app import Limits
from rest import KEY
from serving import served

pytestmark = pytest.mark.long


CONFIG = """
[checks.positive_data_acceptance]
# 422: a cursor of no list, a deployment that is none: of these the document can't know.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, 429]
"""


@pytest.mark.timeout(600)
def test_the_service_keeps_to_its_document(stack: Stack, tmp_path: Path) -> None:
    """No 5xx, no undocumented answer, no valid request that is refused as invalid."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    store = stack.s3.objects(prefix=uuid4().hex)
    limits = Limits(rate="100000/second", failures="100000/second")
    with (
        get_client(sync_client=True) as prefect,
        served(prefect, store, store=uuid4().hex, limits=limits) as url,
    ):
        done = subprocess.run(
            [
                *(Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json"),
                *("--header", f"Authorization: Bearer {KEY}"),
                # A stream of events has no end, and a time-out is not one of its answers.
                *("--exclude-path-regex", "/events$"),
                # In one thread: in several, Python 3.11 now and then loses count in `ast.parse`.
                *("--max-examples", "60", "--workers", "1", "--continue-on-failure"),
                *("--request-timeout", "60", "--seed", "1", "--no-color"),
            ],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": _HERE},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


_HERE = str(Path(__file__).parents[1] / "support")
