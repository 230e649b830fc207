"""Programs that run beside this one, and what they need: ports, and signals that stop all."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import NoReturn

START_SECONDS = 120.0
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


def together(*acts: Callable[[], None]) -> None:
    """Do several things side by side, and wait for all. The first error is raised then."""
    with ThreadPoolExecutor(max(len(acts), 1)) as pool:
        done = [pool.submit(act) for act in acts]
    for each in done:
        each.result()


def interrupt_once() -> None:
    """Let the first SIGINT or SIGTERM raise KeyboardInterrupt; others do not disturb what it stops.

    Without this, a shell in the background would let SIGINT be ignored.
    """
    signals = signal.SIGINT, signal.SIGTERM

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in signals:
        signal.signal(each, interrupt)
