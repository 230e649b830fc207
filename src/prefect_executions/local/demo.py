"""The main job end to end, on this machine: `prefect-executions demo`, `--keep` to look around.

It starts Prefect's server, an S3 server, a worker and the REST service (as a Prefect deployment).
Then it creates an agent task over REST, watches its checkpoints, pauses it, rolls it back, and
kills its process, after which the supervisor continues it. The result has to equal that of the same
task when it is not disturbed.
"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelling

from prefect_executions.client import Client
from prefect_executions.local.stack import Stack, free_ports
from prefect_executions.models import Execution
from prefect_executions.prefect.states import state_of
from prefect_executions.service.deployment import deploy_service

_PACKAGED = Path(__file__).parents[1] / "flows"
FLOWS = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[3] / "flows"
DEPLOYED = ("survey", "research_agent", "fan_out")
PER_SECOND = 6.0  # distributions; slow enough to disturb it
PATIENCE = 180.0


class Narration:
    """Prints the steps of the demo, each with the seconds since the start."""

    def __init__(self) -> None:
        self._start = monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{monotonic() - self._start:6.1f} s  {text}", flush=True)

    def check(self, holds: bool, text: str) -> None:
        """Print what was checked, and end the demo when it is not true."""
        self.say(f"{'✓' if holds else '✗'} {text}")
        if not holds:
            raise SystemExit(f"The demo failed: not {text}")


@contextmanager
def service(stack: Stack, progress: Narration, port: int) -> Iterator[str]:
    """Deploy the flows and run the REST service, which is cancelled at the end."""
    with stack.settings():
        deploy_service(pool=stack.pool, name="default", host="127.0.0.1", port=port)
        for name in DEPLOYED:
            flow: Any = Flow.from_source(source=str(FLOWS), entrypoint=f"{name}.py:{name}")
            flow.deploy("default", stack.pool, build=False, print_next_steps=False)
    progress.say("deployed: executions-service/default, survey/default, …")
    with _prefect(stack) as prefect:
        deployment = prefect.read_deployment_by_name("executions-service/default")
        run = prefect.create_flow_run_from_deployment(deployment.id, idempotency_key=uuid4().hex)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            prefect.set_flow_run_state(run.id, Cancelling(), force=True)
            wait_until(
                lambda: not state_of(prefect.read_flow_run(run.id)).is_cancelling(),
                "the service ends",
            )


def wait_until(read: Callable[[], Any], what: str) -> Any:
    """Wait until a function returns something true, and return that."""
    deadline = monotonic() + PATIENCE
    while not (result := read()):
        if monotonic() > deadline:
            raise SystemExit(f"Waited {PATIENCE:.0f} s in vain until {what}.")
        sleep(0.2)
    return result


def pid_of(stack: Stack, execution: Execution) -> int:
    """The id of the process that runs an execution, as Prefect's worker reports it."""
    with _prefect(stack) as prefect:
        run = prefect.read_flow_run(execution.prefect.flow_run_id)
    return int(f"{run.infrastructure_pid}".rpartition(":")[2])


def _prefect(stack: Stack) -> SyncPrefectClient:
    """Prefect's client, which tries again where the server's database is busy."""
    with stack.settings():
        return get_client(sync_client=True)


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Demo:
    """Two executions of one task: one is disturbed in every way, and has to end like the other.

    Args:
        stack: The servers.
        client: The client of the REST service.
        progress: Where the steps are printed.
    """

    def __init__(self, stack: Stack, client: Client, progress: Narration) -> None:
        self._stack = stack
        self._client = client
        self._say = progress.say
        self._check = progress.check

    def play(self) -> None:
        """Run it.

        Raises:
            SystemExit: a check failed.
        """
        survey = self._create(
            "survey, disturbed",
            per_second=PER_SECOND,
            description="What is installed here?",
            config={"max_retries": 1},
        )
        quiet = self._create("survey, undisturbed", per_second=0)
        self._say(f"created {survey.id}")
        self._say(f"        {survey.prefect.url}")
        survey = self._pause(survey)
        survey = self._roll_back(survey)
        survey = self._crash(survey)
        self._compare(survey, quiet)

    def _create(self, name: str, *, per_second: float, **options: Any) -> Execution:
        return self._client.create(
            name,
            agent_id="demo",
            task_type="survey",
            deployment="survey/default",
            parameters={"per_second": per_second},
            **options,
        )

    def _pause(self, survey: Execution) -> Execution:
        survey = self._wait_for(survey, "it runs", lambda e: len(e.checkpoints) >= 3)
        pid = pid_of(self._stack, survey)
        self._say(f"runs in process {pid}")
        for goal in (8, 16):
            survey = self._wait_for_checkpoints(survey, goal)
        self._client.pause(survey.id, reason="Let me look at that.")
        wait_until(lambda: not is_alive(pid), "its process ends")
        survey = self._client.get(survey.id, states=False)
        self._check(survey.status == "paused", f"paused, and its process {pid} is gone")
        self._say(f"  {_summary(survey)}")
        return survey

    def _roll_back(self, survey: Execution) -> Execution:
        earlier = survey.checkpoints[-6]
        survey = self._client.resume(survey.id, checkpoint_id=earlier.id)
        self._say(f"resumed from an earlier checkpoint: {earlier.id} {earlier.label!r}")
        survey = self._wait_for(survey, "it runs again", lambda e: e.prefect.attempt == 2)
        done = len(survey.state["done"])
        self._check(done < 16, f"rolled back: attempt 2 went on from {done} distributions")
        return self._wait_for_checkpoints(survey, len(survey.checkpoints) + 12)

    def _crash(self, survey: Execution) -> Execution:
        pid = pid_of(self._stack, survey)
        os.kill(pid, signal.SIGKILL)
        self._say(f"killed process {pid} with SIGKILL")
        survey = self._wait_for(
            survey, "Prefect sees the crash", lambda e: e.prefect.state_name == "Crashed"
        )
        self._check(survey.status == "running", "crashed: Prefect saw it, and that is no end")
        saved = survey.checkpoints[0]
        self._say(
            "the supervisor continues it, "
            "once Prefect has reported the crash a second time (10 s) …"
        )
        survey = self._wait_for(survey, "it runs again", lambda e: e.prefect.attempt == 3)
        self._say(f"attempt 3 goes on by itself from {saved.id} {saved.label!r}")
        return survey

    def _compare(self, survey: Execution, quiet: Execution) -> None:
        survey = self._wait_for(survey, "it ends", lambda e: e.status not in ("running", "paused"))
        self._check(survey.status == "completed", f"completed: {_summary(survey)}")
        quiet = self._wait_for(quiet, "it ends", lambda e: e.status != "running")
        self._check(quiet.status == "completed", f"the undisturbed one: {_summary(quiet)}")
        self._check(survey.state == quiet.state, "both have the same result, to the last byte")
        self._say(f"report: {survey.prefect.url}?tab=Artifacts")

    def _wait_for_checkpoints(self, execution: Execution, count: int) -> Execution:
        execution = self._wait_for(execution, "it goes on", lambda e: len(e.checkpoints) >= count)
        self._say(f"  {_summary(execution)}")
        return execution

    def _wait_for(
        self, execution: Execution, what: str, holds: Callable[[Execution], bool]
    ) -> Execution:
        def read() -> Execution | None:
            now = self._client.get(execution.id, checkpoints="all", states=False)
            return now if holds(now) else None

        result: Execution = wait_until(read, what)
        return result


def _summary(execution: Execution) -> str:
    done = len(execution.state.get("done", []))
    return (
        f"{done} of {done + len(execution.state.get('todo', []))} distributions, "
        f"{len(execution.checkpoints)} checkpoints, {execution.elapsed_seconds} s active"
    )


def run(data: Path, *, keep: bool = False) -> None:
    """Run the demo.

    Args:
        data: The directory for all data; a later run continues with it.
        keep: Leave everything up until Ctrl-C.

    Raises:
        SystemExit: a check failed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    progress = Narration()
    api_key = secrets.token_urlsafe(24)
    progress.say("starting Prefect's server, an S3 server and a worker …")
    port = free_ports(1)
    env = {
        "PREFECT_INTEGRATIONS_EXECUTIONS_API_KEY": api_key,
        "PREFECT_INTEGRATIONS_EXECUTIONS_SERVICE_URL": f"http://127.0.0.1:{port}",
    }
    with Stack(data, env=env) as stack:
        progress.say(f"Prefect UI  {stack.ui_url} (PREFECT_API_URL={stack.api_url})")
        progress.say(f"S3 server   {stack.s3.endpoint} (data in {data})")
        with (
            service(stack, progress, port) as url,
            Client(url, api_key, patience=PATIENCE) as client,
        ):
            progress.say(f"REST        {url}/v1/execution (it is a run of executions-service)")
            Demo(stack, client, progress).play()
            if keep:
                keep_up(url, api_key, stack.api_url)
    progress.say("stopped everything; run it again: it goes on with the same data")


def keep_up(url: str, api_key: str, api_url: str) -> None:
    """Print what there is to try, and wait for Ctrl-C."""
    print(f"\nEverything stays up. Try:\n  curl -H 'Authorization: Bearer {api_key}' \\")
    print(f"    {url}/v1/execution/…")
    print(f"  {url}/ui  (the inspector; its key is {api_key})")
    print(f"  PREFECT_API_URL={api_url} .venv/bin/python research.py")
    print("  (a flow of your own, as in docs/first-steps.md)")
    print("Ctrl-C stops it.", flush=True)
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    while not stop.wait(1):
        pass
