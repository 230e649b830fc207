"""The main job end to end, on this machine: `prefect-executions demo`, `--keep` to look around.

It starts Prefect's server, an S3 server, a worker and the REST service, and deploys an agent task.
Then it creates an execution of it over REST, watches its checkpoints, pauses it, rolls it back, and
kills its process, after which the supervisor continues it. The result has to equal that of the same
task when it is not disturbed.
"""

import json
import os
import secrets
import signal
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from packaging.utils import canonicalize_name
from prefect import Flow
from prefect.client.orchestration import get_client

from prefect_executions.client import Client
from prefect_executions.local.display import Display
from prefect_executions.local.process import free_ports, interrupt_once
from prefect_executions.local.stack import Stack
from prefect_executions.models import Execution

_PACKAGED = Path(__file__).parents[1] / "flows"
FLOWS = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[3] / "flows"
TO_TRY = ("research_agent", "fan_out")  # deployed for those who stay to look around
MOST = 40  # distributions to survey
PER_SECOND = 8.0  # slow enough to disturb it
PAUSED_AT = 16  # distributions that are read before it is paused, and
KILLED_AFTER = 10  # after it was rolled back, before it is killed
PATIENCE = 180.0
_HEARTBEAT_SECONDS = "4"  # so that the supervisor looks every two seconds
_READ_SECONDS = 0.4  # between two looks at its progress, each of which keeps the servers busy
DISTURBED, UNDISTURBED = "disturbed", "undisturbed"


class Demo:
    """Two executions of one task: one is disturbed in every way, and has to end like the other.

    Args:
        stack: The servers.
        client: The client of the REST service.
        display: Where it is shown.
    """

    def __init__(self, stack: Stack, client: Client, display: Display) -> None:
        self._stack = stack
        self._client = client
        self._display = display
        self._only = _distributions()
        self._ids: dict[str, str] = {}

    def play(self) -> dict[str, str]:
        """Run it; returns what happened and what was proved.

        Raises:
            SystemExit: A check failed.
        """
        run = self._create(DISTURBED, per_second=PER_SECOND, config={"max_retries": 1})
        self._display.say("watch it    in the Prefect UI, too:")
        self._display.link(f"{run.prefect.url}")
        pid = self._pause(run)
        earlier = self._roll_back(pid)
        self._crash()
        return self._compare(earlier)

    def _create(self, run: str, *, per_second: float, **options: Any) -> Execution:
        made = self._client.create(
            f"survey, {run}",
            agent_id="demo",
            task_type="survey",
            deployment="survey/default",
            parameters={"per_second": per_second, "only": self._only},
            description="What is installed here?",
            **options,
        )
        self._ids[run] = made.id
        self._display.add(run, len(self._only))
        self._display.say(f"created     {made.id}, {run}")
        return made

    def _pause(self, run: Execution) -> int:
        self._wait_for("a process begins", lambda e: _done(e) > 0)
        pid = self._pid()
        self._display.mark(DISTURBED, "▶", f"attempt 1 runs in process {pid}")
        self._wait_for("it saves checkpoints", lambda e: _done(e) >= PAUSED_AT)
        self._client.pause(run.id, reason="Let me look at that.")
        _wait_until(lambda: not _is_alive(pid), "its process ends")
        run = self._read()
        self._check(run.status == "paused", "it is paused")
        self._display.mark(
            DISTURBED, "‖", f"paused after {_done(run)} distributions; process {pid} is gone"
        )
        return pid

    def _roll_back(self, pid: int) -> str:
        run = self._client.get(self._ids[DISTURBED], checkpoints="all", states=False)
        paused_at, earlier = _done(run), run.checkpoints[-6]
        self._client.resume(run.id, checkpoint_id=earlier.id)
        self._display.mark(DISTURBED, "↶", f"rolled back to {earlier.id}, {earlier.label!r}")
        run = self._wait_for("another process begins", lambda e: e.prefect.attempt == 2)
        begun_at = _done(run)
        self._check(begun_at < paused_at and self._pid() != pid, "it goes on from there")
        self._display.mark(DISTURBED, "▶", f"attempt 2 goes on from {begun_at} distributions")
        self._wait_for("it saves checkpoints", lambda e: _done(e) >= begun_at + KILLED_AFTER)
        return earlier.id

    def _crash(self) -> None:
        pid = self._pid()
        os.kill(pid, signal.SIGKILL)
        self._display.mark(DISTURBED, "✗", f"killed process {pid} with SIGKILL")
        run = self._wait_for("Prefect sees it", lambda e: e.prefect.state_name == "Crashed")
        self._check(run.status == "running", "a crash is no end")
        self._display.say("crashed in Prefect; the supervisor lets ten seconds pass, as worker")
        self._display.say("and server may report it twice. Meanwhile, the same undisturbed:")
        self._create(UNDISTURBED, per_second=0)
        self._wait_for("the supervisor continues it", lambda e: e.prefect.attempt == 3)
        self._display.mark(DISTURBED, "▶", "attempt 3 goes on by itself, from the last checkpoint")

    def _compare(self, earlier: str) -> dict[str, str]:
        run = self._wait_for("it ends", lambda e: e.status not in ("running", "paused"))
        self._check(run.status == "completed", "it completes")
        self._display.mark(
            DISTURBED, "✓", f"completed after {run.elapsed_seconds} s of work; see its artifacts"
        )
        quiet = self._wait_for("it ends", lambda e: e.status != "running", run=UNDISTURBED)
        self._check(quiet.status == "completed", "the undisturbed one completes")
        self._display.mark(UNDISTURBED, "✓", "the undisturbed one has completed, too")
        both = [_digest(each) for each in (run, quiet)]
        self._check(both[0] == both[1], "both have the same result")
        return {
            "Happened": f"paused, rolled back to {earlier}, killed with SIGKILL, and continued.",
            "Proved": f"{run.prefect.attempt} attempts made what one undisturbed made, to the last "
            f"byte: {both[0][:12]}.",
        }

    def _pid(self) -> int:
        """The id of the process that runs it, as Prefect's worker reports it."""
        with self._stack.settings(), get_client(sync_client=True) as prefect:
            run = prefect.read_flow_run(self._read().prefect.flow_run_id)
        return int(f"{run.infrastructure_pid}".rpartition(":")[2])

    def _read(self, run: str = DISTURBED) -> Execution:
        return self._client.get(self._ids[run], checkpoints="none")

    def _wait_for(
        self, what: str, holds: Callable[[Execution], bool], *, run: str = DISTURBED
    ) -> Execution:
        """Wait until something holds for a run, while the progress of all is shown."""

        def read() -> Execution | None:
            found = {each: self._read(each) for each in self._ids}
            for each, execution in found.items():
                self._display.update(each, _done(execution))
            return found[run] if holds(found[run]) else None

        self._display.wait(what)
        result: Execution = _wait_until(read, what, pause=_READ_SECONDS)
        return result

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            self._display.say(what, sign="✗")
            raise SystemExit(f"The demo failed: not true that {what}.")


def _distributions() -> list[str]:
    """The first distributions that are installed here, which is where the worker runs, too."""
    return sorted({f"{canonicalize_name(each.name)}" for each in distributions()})[:MOST]


def _done(execution: Execution) -> int:
    return len(execution.state.get("done", []))


def _digest(execution: Execution) -> str:
    state = json.dumps(execution.state, sort_keys=True, separators=(",", ":"))
    return f"sha256 {sha256(state.encode()).hexdigest()}"


def _wait_until(read: Callable[[], Any], what: str, *, pause: float = 0.1) -> Any:
    """Wait until a function returns something true, and return that."""
    deadline = monotonic() + PATIENCE
    while not (result := read()):
        if monotonic() > deadline:
            raise SystemExit(f"Waited {PATIENCE:.0f} s in vain until {what}.")
        sleep(pause)
    return result


def _is_alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _deploy(stack: Stack, *names: str) -> None:
    with stack.settings():
        for name in names:
            flow: Any = Flow.from_source(source=str(FLOWS), entrypoint=f"{name}.py:{name}")
            flow.to_deployment("default", work_pool_name=stack.pool).apply()


def run(data: Path, *, keep: bool = False) -> None:
    """Run the demo.

    Args:
        data: The directory for all data; a later run continues with it.
        keep: Leave everything up until Ctrl-C.

    Raises:
        SystemExit: A check failed.
        RuntimeError: A server does not start; the message has its last lines.
    """
    interrupt_once()
    api_key, port = secrets.token_urlsafe(24), free_ports(1)
    env = {
        "PREFECT_INTEGRATIONS_EXECUTIONS_API_KEY": api_key,
        "PREFECT_INTEGRATIONS_EXECUTIONS_SERVICE_URL": f"http://127.0.0.1:{port}",
        "PREFECT_INTEGRATIONS_EXECUTIONS_HEARTBEAT_SECONDS": _HEARTBEAT_SECONDS,
    }
    stack = Stack(data, env=env, service_port=port)
    display = Display()
    try:
        with display:
            _start(stack, display, keep=keep)
            with Client(stack.service_url, api_key, patience=PATIENCE) as client:
                told = Demo(stack, client, display).play()
        if keep:
            _keep_up(stack, api_key)
    finally:
        print("Stopping …", flush=True)
        stack.stop()
    more = "the same with --keep, to press Pause and Resume in the Prefect UI yourself."
    display.close(**told, Next=more, Took=f"{display.seconds:.0f} s; the data stay in {data}.")


def _start(stack: Stack, display: Display, *, keep: bool) -> None:
    display.say("starting    Prefect's server and an S3 server, both real")
    display.wait("They start")
    stack.start()
    display.say(f"Prefect UI  {stack.ui_url}")
    display.say(f"S3 server   {stack.s3.endpoint}")
    display.wait("A worker and the REST service start")
    _deploy(stack, "survey", *(TO_TRY if keep else ()))
    display.say("deployed    survey/default, the agent task")
    stack.wait()
    display.say(f"REST        {stack.service_url}/v1/execution, with a supervisor")


def _keep_up(stack: Stack, api_key: str) -> None:
    """Print what there is to try, and wait for Ctrl-C."""
    url = stack.service_url
    print(f"\nEverything stays up. Try:\n  curl -H 'Authorization: Bearer {api_key}' \\")
    print(f"    {url}/v1/execution/…")
    print(f"  {url}/ui  (the inspector; its key is {api_key})")
    print(f"  export PREFECT_API_URL={stack.api_url}")
    print("  (then run, serve or deploy a flow of your own, as in docs/first-steps.md)")
    print("Ctrl-C stops it.", flush=True)
    try:
        while True:
            sleep(1)
    except KeyboardInterrupt:
        return
