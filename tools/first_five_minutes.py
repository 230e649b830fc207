"""Walk through the first five minutes of a newcomer, and print how long each part takes.

`make first-five-minutes`, or with any Python 3.11: `python tools/first_five_minutes.py`. `make
release` walks the part of the script, in environments that it has made: `--environment`.

In an empty environment the built wheel is installed. README's first block runs; then its hour of
work is made a second, so that it can be killed: it is continued, killed again, and rolled back.
After that `prefect-executions dev` runs the flow on a worker, over REST it is paused and resumed,
and `prefect-executions doctor` has to be content. All of it is in a directory that is removed at
the end. Exits with 1 when a part fails.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from parts import Failed, carry_out, require

ROOT = Path(__file__).resolve().parent.parent
WORK = re.compile(r"^( +)(run\.state\.notes\[source\] = .*)$", re.MULTILINE)
WAY_BACK = re.compile(r"prefect-executions (run first\.py:research --resume (exec_[0-9a-f]{32}))")
PATIENCE = 300.0


class Walk:
    """The walk, in a directory.

    Args:
        place: The directory, which is empty.
        wheel: The wheel; by default it is built.
        environment: One with the package, in which only the script is walked; by default one is
            made, and all of it is.
    """

    def __init__(self, place: Path, wheel: Path | None, environment: Path | None) -> None:
        self._place = place
        self._wheel = wheel
        self._is_given = environment is not None
        self._bin = (environment or place / "venv") / ("Scripts" if os.name == "nt" else "bin")
        self._folder = place / "work"
        self._folder.mkdir()
        self._ports = {name: free_port() for name in ("prefect", "service")}
        self._api = f"http://127.0.0.1:{self._ports['prefect']}/api"
        self._service = f"http://127.0.0.1:{self._ports['service']}"
        home = {name: text for name, text in os.environ.items() if "PREFECT" not in name}
        home.pop("PYTHONPATH", None)
        self._installing = home
        self._env = {
            **home,
            "PATH": f"{self._bin}{os.pathsep}{home['PATH']}",
            "PREFECT_HOME": f"{place}/home",
            "XDG_CONFIG_HOME": f"{place}/config",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # Prefect gives its temporary server 20 s, which a busy machine may not have.
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "DO_NOT_TRACK": "1",
            "COLUMNS": "400",
        }

    def all(self) -> Generator[tuple[str, Callable[[], None]]]:
        """The parts, each with its name."""
        if not self._is_given:
            yield "an empty environment", self._make_environment
            yield "pip install", self._install
        yield "python first.py", self._run
        yield "killed after a page", self._kill
        yield "continued, and killed", self._continue
        yield "rolled back to a page", self._roll_back
        if self._is_given:
            return
        with self._dev() as wait_until_ready:
            yield "prefect-executions dev", wait_until_ready
            yield "deployed, and begun", self._begin
            yield "paused over REST", self._pause
            yield "resumed, to its end", self._resume
            yield "prefect-executions doctor", self._ask_doctor
            yield "Ctrl-C of dev", self._stop_dev

    # ------------------------------------------------------------------ the script

    def _make_environment(self) -> None:
        self._call(sys.executable, "-m", "venv", f"{self._place}/venv", env=self._installing)

    def _install(self) -> None:
        pip = [f"{self._bin}/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        wheel = self._wheel
        if wheel is None:
            built = self._place / "wheel"
            self._call(
                *pip, "wheel", "--no-deps", "-w", f"{built}", f"{ROOT}", env=self._installing
            )
            (wheel,) = built.glob("*.whl")
        self._call(*pip, "install", f"{wheel}", env=self._installing)

    def _run(self) -> None:
        block = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
        (self._folder / "first.py").write_text(block)
        said = self._call("python", "first.py")
        saved = re.findall(r'"(\w+)" saved', said)
        require(saved == ["one", "two", "three"], "first.py saves its three checkpoints", said)
        require("Completed" in said, "first.py completes", said)
        slow, changed = WORK.subn(r"\1__import__('time').sleep(1)\n\1\2", block)
        require(changed == 1, "README's first block has a line of work")
        (self._folder / "first.py").write_text(slow)

    def _kill(self) -> None:
        said = self._killed("python", "first.py", after='"one" saved')
        found = WAY_BACK.search(said)
        require(found is not None, "the log says how to go on", said)
        assert found is not None
        self._again, self._id = found[1].split(), found[2]

    def _continue(self) -> None:
        said = self._killed("prefect-executions", *self._again, after='"two" saved')
        require("attempt 2 continues from" in said, "it goes on from its checkpoint", said)
        require('"one" saved' not in said, "it does nothing again that was saved", said)
        alive = self._call("prefect-executions", *self._again, "--from", "ckpt_999999", code=3)
        require("ckpt_999999" in alive, "a checkpoint that is not there is named", alive)

    def _roll_back(self) -> None:
        back = [*self._again, "--from", "ckpt_000000"]
        said = self._call("prefect-executions", *back)
        saved = re.findall(r'"(\w+)" saved', said)
        require(saved == ["one", "two", "three"], "it begins anew from there", said)

    # ------------------------------------------------------------------ dev

    @contextmanager
    def _dev(self) -> Iterator[Callable[[], None]]:
        command = ["prefect-executions", "dev", "--data", f"{self._place}/dev"]
        command += ["--prefect-port", f"{self._ports['prefect']}"]
        command += ["--port", f"{self._ports['service']}"]
        with self._started(*command) as dev:
            self._running = dev
            yield lambda: require(
                "export PREFECT_API_URL=" in until(dev, "Ctrl-C stops all"), "dev starts"
            )

    def _begin(self) -> None:
        self._env["PREFECT_API_URL"] = self._api
        self._env["PREFECT_EXECUTIONS_URL"] = self._service
        (self._folder / "long.py").write_text(
            (self._folder / "first.py").read_text().replace("sleep(1)", "sleep(.2)")
        )
        deploy = ["deploy", "long.py:research", "--name", "mine", "--pool", "executions"]
        self._call("prefect", "--no-prompt", *deploy)
        sources = [f"page {number}" for number in range(20)]
        made = self._post(
            "", name="mine", deployment="research/mine", parameters={"sources": sources}
        )
        self._id = made["id"]
        self._until(
            lambda now: len((now["state"] or {}).get("done", [])) > 2, "it saves checkpoints"
        )

    def _pause(self) -> None:
        self._post(f"/{self._id}/pause", reason="to look at it")
        self._until(lambda now: now["status"] == "paused", "it pauses")

    def _resume(self) -> None:
        self._post(f"/{self._id}/resume")
        now = self._until(lambda now: now["status"] not in ("paused", "running"), "it ends")
        require(now["status"] == "completed", "it completes", json.dumps(now, indent=1))
        require(now["prefect"]["attempt"] == 2, "a second process has gone on with it", f"{now}")
        require(len(now["result"]["done"]) == 20, "it has done all", f"{now}")

    def _ask_doctor(self) -> None:
        self._call("prefect-executions", "doctor")

    def _stop_dev(self) -> None:
        dev = self._running
        os.killpg(dev.pid, signal.SIGINT)
        said = dev.communicate(timeout=PATIENCE)[0]
        require(dev.returncode == 0, f"dev exits with 0, not {dev.returncode}", said)
        require("Traceback" not in said, "dev ends without a traceback", said)
        for name, port in self._ports.items():
            require(is_free(port), f"the port of {name} is free again")

    # ------------------------------------------------------------------ how

    def _call(self, *command: str, code: int = 0, env: dict[str, str] | None = None) -> str:
        """Run a program to its end, and return what it says.

        Raises:
            Failed: It exits with another code.
        """
        with self._started(*command, env=env) as process:
            said = process.communicate(timeout=2 * PATIENCE)[0]
        ended = process.returncode
        require(ended == code, f"`{' '.join(command)}` exits with {code}, not {ended}", said)
        require("Traceback" not in said, f"`{' '.join(command)}` has no traceback", said)
        return said

    def _killed(self, *command: str, after: str) -> str:
        """Run a program until it says something, kill it with SIGKILL; returns what it said."""
        with self._started(*command) as process:
            return until(process, after)

    @contextmanager
    def _started(
        self, *command: str, env: dict[str, str] | None = None
    ) -> Iterator["subprocess.Popen[str]"]:
        """A program in a session of its own, all of which is killed at the end."""
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._env if env is None else env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _post(self, path: str, **body: Any) -> Any:
        return self._request(path, json.dumps(body).encode())

    def _request(self, path: str, body: bytes | None = None) -> Any:
        url, headers = f"{self._service}/v1/execution{path}", {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{url}: {error} {error.read().decode()}") from error

    def _until(self, holds: Callable[[Any], bool], what: str) -> Any:
        deadline = monotonic() + PATIENCE
        while not holds(now := self._request(f"/{self._id}?states=false")):
            require(monotonic() < deadline, what, json.dumps(now, indent=1))
            sleep(0.1)
        return now


def until(process: "subprocess.Popen[str]", text: str) -> str:
    """What a program says up to the line with a text.

    Raises:
        Failed: It ends before.
    """
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise Failed(f"it has ended without {text!r}:\n{said}")


def free_port() -> int:
    """A port of this machine that is free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def main() -> int:
    """Walk, print the time of each part, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="a built wheel; by default one is built")
    parser.add_argument("--environment", type=Path, help="one to walk the script in")
    given = parser.parse_args()
    wheel, environment = (path and path.resolve() for path in (given.wheel, given.environment))
    # What it has started is in sessions of its own, and would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with (
        tempfile.TemporaryDirectory(prefix="first-five-minutes-") as place,
        closing(Walk(Path(place), wheel, environment).all()) as parts,
    ):
        return carry_out(parts, width=26)


if __name__ == "__main__":
    sys.exit(main())
