"""Two versions of the package, one after the other, on one Prefect and one store."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx

from prefect_executions.local import Process, Stack, free_ports
from prefect_executions.local.process import program
from prefect_executions.local.stack import BUCKET
from prefect_executions.stores.store import ExecutionStore
from world import eventually

ROOT = Path(__file__).parents[2]
FLOWS = ROOT / "tests" / "upgrade"
POOL = "executions"
RETRY_SECONDS = 40  # a worker takes a run ten seconds before its time
SETTINGS = {
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_INTEGRATIONS_EXECUTIONS_HEARTBEAT_SECONDS": "1",
    "PREFECT_INTEGRATIONS_EXECUTIONS_SILENCE_SECONDS": "15",
    "PREFECT_INTEGRATIONS_EXECUTIONS_AWAY_SECONDS": "20",
}


@dataclass(frozen=True)
class Version:
    """A version of the package, in an environment.

    Args:
        programs: The folder of the environment's programs.
        code: The folder that the package is imported from.
        python_path: What `PYTHONPATH` has to be for that.
    """

    programs: Path
    code: Path
    python_path: str


def tree() -> Version:
    """The working tree, in the environment of the tests."""
    source = ROOT / "src"
    return Version(Path(sys.executable).parent, source / "prefect_executions", f"{source}")


def released(place: Path) -> Version:
    """The newest version with a tag, or while there is none the tree: built, and installed.

    All else has the versions that it has in the environment of the tests.

    Args:
        place: An empty directory for the wheel and the environment.
    """
    source = ROOT
    tags = _said("git", "tag", "--list", "v*", "--sort=-version:refname").split()
    if tags:
        source = place / "source"
        archive = subprocess.run(
            ["git", "archive", tags[0]], cwd=ROOT, check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(source, filter="data")
    uv, home = program("uv"), place / "venv"
    _said(uv, "build", "--quiet", "--wheel", "--out-dir", f"{place}", f"{source}")
    (wheel,) = place.glob("*.whl")
    others = place / "others.txt"
    others.write_text(_said(uv, "pip", "freeze", "--python", sys.executable, "--exclude-editable"))
    _said(uv, "venv", "--quiet", "--python", sys.executable, f"{home}")
    python = home / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", f"{python}"]
    _said(*install, "--constraints", f"{others}", f"{wheel}")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(_said(f"{python}", "-c", where).strip())
    return Version(python.parent, packages / "prefect_executions", "")


def _said(*command: str) -> str:
    """What a program prints in the tree. Fails with all that it has said if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def place(data: Path, *, bucket: bool) -> Iterator[Stack]:
    """A Prefect and a store for both versions, without a worker; the flows' notes are in `notes`.

    Args:
        data: An empty directory.
        bucket: Keep executions in a bucket of a real S3 server, and not in a directory.
    """
    (data / "notes").mkdir()
    stack = Stack(data, env={**SETTINGS, "UPGRADE_NOTES": f"{data / 'notes'}"}, bucket=bucket)
    try:
        stack.server.start()
        if bucket:
            stack.s3.start()
        stack.server.wait_until(partial(answers, f"{stack.api_url}/health"))
        yield stack
    finally:
        stack.stop()


def answers(url: str) -> bool:
    """Whether a server is up."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


class Side:
    """A worker and a service of one version.

    Args:
        version: The version.
        stack: The Prefect and the store.
        name: What its processes' logs are called.
    """

    def __init__(self, version: Version, stack: Stack, name: str) -> None:
        self.version = version
        self._stack = stack
        self._env = {**stack.env, "PYTHONPATH": version.python_path}
        port = free_ports(1)
        self.worker = self._process(
            f"{name}-worker", "prefect", "worker", "start", "--type", "process", "--pool", POOL
        )
        self.service = self._process(
            f"{name}-service", "prefect-executions", "serve", "--port", f"{port}"
        )
        self.rest = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def _process(self, name: str, *command: str) -> Process:
        log = self._stack.data / f"{name}.log"
        return Process(name, self._command(*command), log=log, env=self._env)

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [f"{self.version.programs / name}", *arguments]

    def start(self) -> None:
        """Start the worker and the service, with its supervisor, and wait for that."""
        self.worker.start()
        self.service.start()
        self.service.wait_until(partial(answers, f"{self.rest.base_url}/health"))

    def kill(self) -> None:
        """Kill both, if they still run; what the worker has started stays."""
        self.worker.kill()
        self.service.kill()
        self.rest.close()

    def run(self, *command: str) -> None:
        """Run a program of its environment, in the folder of the flows."""
        env = {**os.environ, **self._env, "PWD": f"{FLOWS}"}
        done = subprocess.run(
            self._command(*command), cwd=FLOWS, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"

    def set_up(self, store: ExecutionStore) -> None:
        """Save the store, make the work pool, and deploy the flow."""
        where = ["--directory", f"{store.directory}"]
        if store.directory is None:
            s3 = self._stack.s3
            where = ["--bucket", BUCKET, "--endpoint", s3.endpoint, "--path-style"]
            where += ["--access-key-id", s3.access_key_id, "--region", "us-east-1"]
            where += ["--secret-access-key", s3.secret_access_key]
        self.run("prefect-executions", "store", "create", *where)
        self.run("prefect", "work-pool", "create", "--type", "process", POOL)
        self.run("prefect", "--no-prompt", "deploy", "--all")

    # ------------------------------------------------------------------ its executions

    def create(self, stop: str, **config: Any) -> str:
        """Create an execution of the flow, and return its id."""
        body = {"name": stop, "deployment": "order/test", "parameters": {"stop": stop}}
        made = self.rest.post("/v1/execution", json={**body, "config": config})
        assert made.status_code == 201, made.text
        id_: str = made.json()["id"]
        return id_

    def get(self, id_: str) -> dict[str, Any]:
        """An execution as the service shows it."""
        answer = self.rest.get(f"/v1/execution/{id_}", params={"checkpoints": "all"})
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def resume(self, id_: str, **body: Any) -> None:
        """Resume an execution."""
        answer = self.rest.post(f"/v1/execution/{id_}/resume", json=body)
        assert answer.status_code == 202, answer.text

    def until(self, id_: str, what: str) -> dict[str, Any]:
        """Wait until an execution has a status, or a flow run's state of this name."""

        def look() -> dict[str, Any] | None:
            now = self.get(id_)
            return now if what in (now["status"], now["prefect"]["state_name"]) else None

        seen: dict[str, Any] = eventually(look, f"{id_} is {what}")
        return seen

    def notes(self, id_: str) -> list[str]:
        """What the processes of an execution have noted."""
        file = self._stack.data / "notes" / id_
        return file.read_text().splitlines() if file.exists() else []

    def until_noted(self, id_: str, line: str) -> None:
        """Wait until a process of an execution has noted this."""
        eventually(lambda: line in self.notes(id_), f"{id_} notes {line!r}")
