"""What several API servers of Prefect need: PostgreSQL, Redis and a load balancer."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import redis

from prefect_executions.local import Process, free_ports

WANTED = ("postgres", "redis-server", "haproxy")


def missing() -> str | None:
    """Which of the servers is not installed here, or None."""
    lacking = [name for name in WANTED if _program(name) is None]
    if not lacking:
        return None
    return f"no {' and no '.join(lacking)} here: `apt-get install postgresql redis-server haproxy`"


class Postgres:
    """A PostgreSQL server with a database for Prefect; it refuses to be run by root."""

    def __init__(self) -> None:
        # Its own user must have access; the directories of tests belong to root.
        self._data = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.getuid():
            self._user = []
        else:
            shutil.chown(self._data, "postgres", "postgres")
        self._port = free_ports(1)
        self.url = f"postgresql+asyncpg://prefect@127.0.0.1:{self._port}/postgres"
        self._process = Process(
            "PostgreSQL",
            [
                *(*self._user, _found("postgres"), "-D", f"{self._data}/db"),
                *("-p", f"{self._port}", "-k", f"{self._data}", "-h", "127.0.0.1"),
                *("-c", "max_connections=300"),
            ],
            log=self._data / "log",
            env={},
        )

    def start(self) -> None:
        """Make the database, and start."""
        initdb = [_found("initdb"), "-D", f"{self._data}/db", "-U", "prefect", "-A", "trust"]
        subprocess.run([*self._user, *initdb], check=True, capture_output=True)
        self._process.start()
        self._process.wait_until(self._is_ready)

    def stop(self) -> None:
        """Stop, and release the data."""
        self._process.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    def _is_ready(self) -> bool:
        command = [_found("pg_isready"), "-h", "127.0.0.1", "-p", f"{self._port}"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class Redis:
    """A Redis server that stores nothing on disk.

    Args:
        data: The directory for its output.
    """

    def __init__(self, data: Path) -> None:
        self.port = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process = Process(
            "Redis",
            [
                *(_found("redis-server"), "--port", f"{self.port}", "--bind", "127.0.0.1"),
                *("--save", "", "--dir", f"{data}"),
            ],
            log=data / "redis.log",
            env={},
        )

    def start(self) -> None:
        """Start it."""
        self._process.start()
        self._process.wait_until(self._is_ready)

    def stop(self) -> None:
        """Stop it."""
        self._process.stop()

    def _is_ready(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class Balancer:
    """HAProxy: one address for several servers; it skips those that do not answer.

    Args:
        data: The directory for its configuration.
        name: The name of the servers.
        port: The port of the address.
        ports: The ports of the servers.
        health: The path of their health check; by default a connection is enough.
        address: The host of the address.
    """

    def __init__(
        self,
        data: Path,
        name: str,
        *,
        port: int,
        ports: list[int],
        health: str = "",
        address: str = "127.0.0.1",
    ) -> None:
        self.url = f"http://{address}:{port}"
        servers = [
            f"  server {name}-{at} 127.0.0.1:{at} check inter 300ms fall 2 rise 1" for at in ports
        ]
        config = data / f"{name}.cfg"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(
            "\n".join(
                [
                    "defaults",
                    "  mode http",
                    "  timeout connect 2s",
                    "  timeout client 120s",
                    "  timeout server 120s",
                    "  timeout tunnel 1h",
                    "  option redispatch 1",
                    "  retries 3",  # about connections that could not be made
                    f"listen {name}",
                    f"  bind {address}:{port}",
                    *([f"  option httpchk GET {health}"] if health else []),
                    *servers,
                    "",
                ]
            )
        )
        self._process = Process(
            f"the balancer of {name}",
            [_found("haproxy"), "-f", f"{config}"],
            log=data / f"{name}.log",
            env={},
        )
        self._health = health

    def start(self) -> None:
        """Start it, even if no server answers yet."""
        self._process.start()

    def wait_until_answered(self) -> None:
        """Wait until one of the servers answers."""
        self._process.wait_until(lambda: answers(f"{self.url}{self._health}"))

    def stop(self) -> None:
        """Stop it."""
        self._process.kill()


def answers(url: str) -> bool:
    """Whether a server answers that it is healthy."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@contextmanager
def several(*servers: Postgres | Redis | Balancer) -> Iterator[None]:
    """Start servers one after another, and stop them in the opposite order."""
    with ExitStack() as stack:
        for server in servers:
            stop: Callable[[], None] = server.stop
            stack.callback(stop)
            server.start()
        yield


def _program(name: str) -> str | None:
    places = [f"{path}" for path in Path("/usr/lib/postgresql").glob("*/bin")]
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *places]))


def _found(name: str) -> str:
    program = _program(name)
    assert program is not None, f"{name} is not installed"
    return program
