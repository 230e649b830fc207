"""Machines without a shared disk or network, connected only to Prefect and the store."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

from prefect_executions.local import Process


def obstacle() -> str | None:
    """Why there can't be machines here, or None."""
    if os.getuid() or not (shutil.which("ip") and shutil.which("unshare")):
        return "machines are made of network namespaces: root, iproute2 and util-linux are needed"
    probe = f"probe-{token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True).returncode:
        return "no network namespace can be made here"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


class Machine:
    """A network namespace with a wire, a mount namespace, and a Python of its own.

    Args:
        wire: The number of its wire: `10.213.{wire}.1` is our end of it, `.2` its own.
        hidden: The directories that it does not see.
    """

    def __init__(self, wire: int, *, hidden: list[Path]) -> None:
        self.name = f"machine-{token_hex(3)}"
        self.gateway = f"10.213.{wire}.1"
        self._own = f"10.213.{wire}.2"
        self._hidden = hidden
        self.disk = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.python = self.disk / "venv" / "bin" / "python"

    def __enter__(self) -> Self:
        outer, inner = f"{self.name[-6:]}-a", f"{self.name[-6:]}-b"
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {outer} type veth peer name {inner} netns {self.name}",
            f"ip address add {self.gateway}/24 dev {outer}",
            f"ip link set {outer} up",
            f"ip -n {self.name} address add {self._own}/24 dev {inner}",
            f"ip -n {self.name} link set {inner} up",
            f"ip -n {self.name} link set lo up",
            f"ip -n {self.name} route add default via {self.gateway}",
        ):
            subprocess.run(command.split(), check=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.break_down()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def install(self, package: Path) -> None:
        """Make its Python, with a package and the requirements of it."""
        subprocess.run([sys.executable, "-m", "venv", self.python.parent.parent], check=True)
        pip = [self.python, "-m", "pip", "install", "--quiet", package]
        subprocess.run(pip, check=True, capture_output=True)

    def install_as(self, other: "Machine") -> None:
        """Give it a copy of another one's Python."""
        shutil.copytree(other.disk / "venv", self.disk / "venv", symlinks=True)

    def process(self, *command: str, env: dict[str, str]) -> Process:
        """A program that runs with its Python and with this environment only."""
        own = {"PATH": os.environ["PATH"], "HOME": f"{self.disk}", **env}
        hide = [f"mount -t tmpfs none {path}" for path in self._hidden]
        run = " && ".join([*hide, f"cd {self.disk}", f'exec {self.python} "$@"'])
        return Process(
            self.name,
            [
                *("ip", "netns", "exec", self.name, "unshare", "--mount"),
                *("env", "-i", *(f"{name}={value}" for name, value in own.items())),
                *("sh", "-c", run, "sh", *command),
            ],
            log=self.disk.with_suffix(".log"),
            env={},
        )

    def processes(self) -> list[int]:
        """All processes on it."""
        command = ["ip", "netns", "pids", self.name]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def break_down(self) -> None:
        """Kill all its processes at once, and delete its disk."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.disk, ignore_errors=True)
