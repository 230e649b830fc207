"""All that executions need on this machine, until Ctrl-C: `prefect-executions dev`.

Prefect's server, a store, a worker, and the service with its supervisor and inspector. Nothing is
deployed, the ports are always the same, and what is there stays for the next start.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import NoReturn

from prefect_executions.local.process import Process, interrupt_once, is_free
from prefect_executions.local.stack import Stack

_LOOK_SECONDS = 0.5  # between two looks whether all parts still run
_LOCAL_SERVICE = 4300  # where clients look for the service by default


@dataclass(frozen=True)
class Ports:
    """The ports of this machine that are used.

    Args:
        prefect: Of Prefect's server.
        service: Of the service.
        s3: The first of ten of the S3 server; None to keep executions in a directory.
    """

    prefect: int
    service: int
    s3: int | None = None

    def require_free(self) -> None:
        """Check that nothing listens on them.

        Raises:
            ValueError: Something does.
        """
        wanted = [("--prefect-port", self.prefect), ("--port", self.service)]
        if self.s3 is not None:
            wanted += [("--s3-port", self.s3 + offset) for offset in range(10)]
        for option, port in wanted:
            if not is_free(port):
                raise ValueError(
                    f"{option}: port {port} of 127.0.0.1 is in use, perhaps by another "
                    "`prefect-executions dev`. Stop that, or give another port."
                )


def home() -> Path:
    """The directory for all data where none is given."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "prefect-executions" / "dev"


def run(data: Path, ports: Ports, *, pool: str) -> None:
    """Run all parts until SIGINT or SIGTERM, and stop them then.

    Args:
        data: The directory for all data.
        ports: The ports.
        pool: The work pool of the worker.

    Raises:
        ValueError: A port is in use.
        RuntimeError: A part does not start, or has ended by itself; the message has its last lines.
    """
    ports.require_free()
    interrupt_once()
    print("Starting Prefect's server, the store, a worker and the service …", flush=True)
    stack = Stack(
        data,
        pool,
        port=ports.prefect,
        bucket=ports.s3 is not None,
        s3_port=ports.s3,
        service_port=ports.service,
    )
    try:
        with stack:
            try:
                _announce(stack, ports)
                _watch(stack.parts)
            finally:
                print("Stopping …", flush=True)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)


def _announce(stack: Stack, ports: Ports) -> None:
    """Print where all of it is, and what to type in another terminal."""
    url = stack.service_url
    lines = [
        f"Prefect UI   {stack.ui_url}",
        f"inspector    {url}/ui",
        f"executions   {stack.store.place}",
        f"logs         {stack.data}/*.log",
        "",
        "In another terminal:",
        f"  export PREFECT_API_URL={stack.api_url}",
        *([] if ports.service == _LOCAL_SERVICE else [f"  export PREFECT_EXECUTIONS_URL={url}"]),
        "",
        f"Then run a flow, or deploy one to the work pool {stack.pool!r}.",
        "Ctrl-C stops all; what is there stays.",
    ]
    print("\n".join(lines), flush=True)


def _watch(parts: list[Process]) -> NoReturn:
    """Wait until a part ends by itself, or somebody interrupts.

    Raises:
        RuntimeError: A part has ended.
    """
    while True:
        for part in parts:
            if part.has_ended:
                raise RuntimeError(f"{part.name} has ended; {part.last_words()}")
        sleep(_LOOK_SECONDS)
