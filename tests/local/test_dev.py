"""`prefect-executions dev`: all parts in one command, with real processes."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import processes
from prefect_executions.client import Client
from prefect_executions.local import free_ports
from prefect_executions.local.dev import Ports
from prefect_executions.local.process import is_free

PATIENCE = 120.0


@contextmanager
def started(data: Path, ports: Ports) -> Iterator[str]:
    """Start it, and stop it with SIGINT; returns what it has printed until it is ready."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    command = [sys.executable, "-m", "prefect_executions.cli", "dev", "--data", f"{data}"]
    command += ["--prefect-port", f"{ports.prefect}", "--port", f"{ports.service}"]
    if ports.s3 is not None:
        command += ["--s3", "--s3-port", f"{ports.s3}"]
    with processes.started(*command, env=env) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C stops all" in line:
                break
        assert process.poll() is None, said
        yield said
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


@pytest.mark.journey
@pytest.mark.parametrize(
    "s3",
    [pytest.param(False, id="directory"), pytest.param(True, id="s3", marks=pytest.mark.long)],
)
def test_what_was_there_is_there_after_the_next_start(tmp_path: Path, s3: bool) -> None:
    first = free_ports(12)
    ports = Ports(first, first + 1, first + 2 if s3 else None)
    url = f"http://127.0.0.1:{ports.service}"

    with started(tmp_path, ports) as said, Client(url, patience=0) as client:
        made = client.create("a task", state={"n": 1})
        client.checkpoint(made.id, {"n": 2}, label="two")
    free = [is_free(port) for port in (ports.prefect, ports.service)]
    with started(tmp_path, ports), Client(url, patience=0) as client:
        again = client.get(made.id)

    assert f"export PREFECT_API_URL=http://127.0.0.1:{ports.prefect}/api\n" in said
    assert f"export PREFECT_EXECUTIONS_URL={url}\n" in said
    assert f"{url}/ui" in said
    assert all(free)
    assert again.state == {"n": 2}
    assert [point.label for point in again.checkpoints][:1] == ["two"]


def test_a_port_that_is_in_use_is_named() -> None:
    port = free_ports(2)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ValueError, match="--port: port"):
        Ports(port + 1, port).require_free()
