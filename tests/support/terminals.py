"""Commands at a terminal: what a person sees of them, and answers."""

import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress
from typing import Self

# What moves the cursor or sets a colour.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command of ours with a terminal for its input, output and errors; a context manager.

    Args:
        command: The command, without the name of the program.
        columns: How wide the terminal is.
    """

    def __init__(self, *command: str, columns: int = 80) -> None:
        self._reads, inside = pty.openpty()
        termios.tcsetwinsize(inside, (24, columns))
        env = {**os.environ, "TERM": "xterm"}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            env.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prefect_executions.cli", *command],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=env,
            start_new_session=True,
        )
        os.close(inside)
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._reads)

    @property
    def said(self) -> str:
        """All that it has said so far, without colours."""
        return _CONTROL.sub("", self._said.decode()).replace("\r\n", "\n")

    def until(self, text: str) -> None:
        """Read until it has said this."""
        while text not in self.said:
            assert self._read(), f"it has ended, and said only: {self.said}"

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._reads, text.encode())

    def end(self) -> int:
        """Read all that it says, and return its exit code."""
        while self._read():
            pass
        return self._process.wait()

    def _read(self) -> bool:
        """Read what comes next; return whether something has come."""
        more = b""
        with suppress(OSError):  # Linux: nobody holds the other end any more
            more = os.read(self._reads, 65536)
        self._said += more
        return bool(more)


def seen(*command: str, columns: int = 80) -> str:
    """What a command that succeeds prints at a terminal."""
    with Terminal(*command, columns=columns) as terminal:
        assert terminal.end() == 0, terminal.said
        return terminal.said
