"""An execution run again here: all that was recorded answers, and nothing is written anywhere."""

import io
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.errors import ArchiveError, CheckpointNotFound, EffectRefused
from prefect_executions.executions.archives import export
from prefect_executions.testkit import TestKit, Trial
from prefect_executions.testkit.origin import Origin, read_from
from stores import Counting

calls: list[str] = []


class Approval(BaseModel):
    approved: bool


@step
def read(page: str) -> str:
    calls.append(page)
    return page.upper()


@step
def write(text: str) -> str:
    calls.append(f"write {text}")
    return f"report of {text}"


@flow
@execution(max_retries=5)
def report(pages: list[str]) -> str:
    run = execution.current()
    for page in pages:
        run.state[page] = read.submit(page).result()
        run.checkpoint(label=page)
    if not run.ask(Approval, prompt="Write it?").approved:
        return "nothing"
    return write(" ".join(run.state.values()))


@flow
@execution
def mended(pages: list[str]) -> str:
    """Newer code, with another call at its end."""
    run = execution.current()
    for page in pages:
        run.state[page] = read(page)
    return write(f"the pages {' '.join(run.state.values())}")


@pytest.fixture
def trial(kit: TestKit) -> Trial:
    calls.clear()
    trial = kit.start(report, pages=["one", "two"])
    trial.resume(input={"approved": True})
    assert trial.result == "report of ONE TWO"
    calls.clear()
    return trial


@pytest.fixture
def file(kit: TestKit, trial: Trial, tmp_path: Path) -> Path:
    data = io.BytesIO()
    export(kit.executions, trial.id, data)
    path = tmp_path / "task.tar"
    path.write_bytes(data.getvalue())
    return path


@pytest.mark.parametrize("label", [None, "one", "two", "Write it?"])
def test_it_comes_to_the_same_from_every_checkpoint_with_no_effect(
    kit: TestKit, trial: Trial, file: Path, label: str | None
) -> None:
    points = {point.label: point.id for point in trial.get().checkpoints}

    again = kit.replay(report, file, checkpoint_id=label and points[label])

    assert (again.status, again.result, again.state) == ("completed", trial.result, trial.state)
    assert calls == []


def test_the_store_that_it_is_read_from_gets_no_write(kit: TestKit, trial: Trial) -> None:
    store = Counting(kit.executions.objects)
    here = type(kit.executions)(store, kit.executions.flow_runs)

    again = kit.replay(report, read_from(here, trial.id))

    assert again.result == trial.result
    assert store.created == []
    assert calls == []


def test_what_was_never_recorded_is_refused_unless_it_is_allowed(kit: TestKit, file: Path) -> None:
    refused = kit.replay(mended, file)
    allowed = kit.replay(mended, file, allow=["write"])

    assert isinstance(refused.error, EffectRefused)
    assert refused.error.step == "write"
    assert refused.status == "failed"  # at once: it is not tried again
    assert allowed.result == "report of the pages ONE TWO"
    assert calls == ["write the pages ONE TWO"]


def test_a_debugger_is_told_of_each_step(kit: TestKit, file: Path) -> None:
    seen: list[str] = []

    kit.replay(report, file, before_step=seen.append)

    assert seen == ["read", "read", "write"]


def test_what_is_not_there_is_refused(kit: TestKit, file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound):
        kit.replay(report, file, checkpoint_id="ckpt_000099")
    with pytest.raises(FileNotFoundError):
        kit.replay(report, tmp_path / "none")
    (tmp_path / "bad").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ArchiveError):
        kit.replay(report, tmp_path / "bad")


class Server(ThreadingHTTPServer):
    """Stands for the Prefect of production, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def note(self) -> None:
                asked.append(f"{self.command} {self.path}")
                self.send_error(503)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = note  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.mark.journey
def test_the_command_asks_nothing_of_the_prefect_of_production(
    trial: Trial, file: Path, tmp_path: Path
) -> None:
    production = Server()
    threading.Thread(target=production.serve_forever, daemon=True).start()
    env = os.environ | {
        "PREFECT_API_URL": f"http://127.0.0.1:{production.server_port}/api",
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }

    def run(*options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prefect_executions.cli", "replay", str(file), *options]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, input=stdin
        )

    done = run("--flow", f"{__file__}:report", "--break-at", "write", stdin="up\ncontinue\n")
    refused = run("--flow", f"{__file__}:mended")

    assert done.returncode == 0, done.stderr
    assert "It is completed.\n" in done.stdout
    assert done.stdout.endswith('"report of ONE TWO"\n')
    assert "(Pdb)" in done.stdout
    assert refused.returncode == 1
    assert "EffectRefused: The step 'write' is not recorded" in refused.stderr
    assert production.asked == []
    production.shutdown()


def test_an_origin_is_read_once_for_many(kit: TestKit, trial: Trial, file: Path) -> None:
    origin = read_from(kit.executions, trial.id)

    assert isinstance(origin, Origin)
    assert origin.parameters == {"pages": ["one", "two"]}
    assert [kit.replay(report, origin).result for _ in range(2)] == [trial.result] * 2
