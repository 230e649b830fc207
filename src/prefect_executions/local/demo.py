"""The main job end to end, on this machine: `prefect-executions demo`, `--keep` to look around.

It starts Prefect's server, an S3 server, a worker and the REST service (as a Prefect deployment),
and then does what a user does, over REST alone: create an agent task, watch its checkpoints, pause
it, roll it back, lose its process to SIGKILL, after which the supervisor continues it. The result
has to equal that of the same task undisturbed.
"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
from prefect import Flow

from prefect_executions.client import Client
from prefect_executions.local.stack import Stack, free_ports
from prefect_executions.models import Execution
from prefect_executions.service.flows import deploy_service

_PACKAGED = Path(__file__).parents[1] / "flows"
FLOWS = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[3] / "flows"
DEPLOYED = ("survey", "research_agent", "fan_out")
PER_SECOND = 6.0  # distributions; slow enough to interfere
PATIENCE = 180.0


class Timeline:
    """Prints what happens, each line with the seconds since the start."""

    def __init__(self) -> None:
        self._start = monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{monotonic() - self._start:6.1f} s  {text}", flush=True)

    def check(self, holds: bool, text: str) -> None:
        """Print what was checked, and end the demo if it does not hold."""
        self.say(f"{'✓' if holds else '✗'} {text}")
        if not holds:
            raise SystemExit(f"The demo failed: not {text}")


@contextmanager
def service(stack: Stack, timeline: Timeline, port: int) -> Iterator[str]:
    """Deploy the flows, run the REST service, and cancel it at the end."""
    with stack.settings():
        deploy_service(pool=stack.pool, name="default", host="127.0.0.1", port=port)
        for name in DEPLOYED:
            flow: Any = Flow.from_source(source=str(FLOWS), entrypoint=f"{name}.py:{name}")
            flow.deploy("default", stack.pool, build=False, print_next_steps=False)
    timeline.say("deployed: executions-service/default, survey/default, …")
    prefect = httpx.Client(base_url=stack.api_url, timeout=60)
    deployment = prefect.get("/deployments/name/executions-service/default").json()["id"]
    run = prefect.post(
        f"/deployments/{deployment}/create_flow_run", json={"state": {"type": "SCHEDULED"}}
    ).json()["id"]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        state = {"type": "CANCELLING"}
        prefect.post(f"/flow_runs/{run}/set_state", json={"state": state, "force": True})
        wait_until(
            lambda: prefect.get(f"/flow_runs/{run}").json()["state"]["type"] != "CANCELLING",
            "the service ends",
        )


def wait_until(happens: Callable[[], Any], what: str) -> Any:
    """Wait for something to be true, and return it."""
    deadline = monotonic() + PATIENCE
    while not (result := happens()):
        if monotonic() > deadline:
            raise SystemExit(f"Waited {PATIENCE:.0f} s in vain until {what}.")
        sleep(0.2)
    return result


def pid_of(stack: Stack, execution: Execution) -> int:
    """The process that runs an execution, as Prefect's worker reports it."""
    run = httpx.get(f"{stack.api_url}/flow_runs/{execution.prefect.flow_run_id}").json()
    return int(run["infrastructure_pid"].rpartition(":")[2])


def has_saved(count: int, execution: Execution) -> bool:
    """Whether there are so many checkpoints."""
    return len(execution.checkpoints) >= count


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def play(stack: Stack, client: Client, timeline: Timeline) -> None:
    """Disturb an execution in every way, and compare its result with that of a quiet one."""
    say, check = timeline.say, timeline.check

    def wait_for(execution: Execution, what: str, holds: Callable[[Execution], bool]) -> Execution:
        def found() -> Execution | None:
            now = client.get(execution.id, checkpoints="all", states=False)
            return now if holds(now) else None

        result: Execution = wait_until(found, what)
        return result

    def progress(execution: Execution) -> str:
        done = len(execution.state.get("done", []))
        return (
            f"{done} of {done + len(execution.state.get('todo', []))} distributions, "
            f"{len(execution.checkpoints)} checkpoints, {execution.elapsed_seconds:.1f} s active"
        )

    survey = client.create(
        "survey, disturbed",
        description="What is installed here?",
        agent_id="demo",
        task_type="survey",
        deployment="survey/default",
        parameters={"per_second": PER_SECOND},
        config={"max_retries": 1},
    )
    quiet = client.create(
        "survey, undisturbed",
        agent_id="demo",
        task_type="survey",
        deployment="survey/default",
        parameters={"per_second": 0},
    )
    say(f"created {survey.id}")
    say(f"        {survey.prefect.url}")

    survey = wait_for(survey, "it runs", lambda e: len(e.checkpoints) >= 3)
    pid = pid_of(stack, survey)
    say(f"runs in process {pid}")
    for goal in (8, 16):
        survey = wait_for(survey, "it goes on", partial(has_saved, goal))
        say(f"  {progress(survey)}")

    client.pause(survey.id, reason="Let me look at that.")
    wait_until(lambda: not is_alive(pid), "its process ends")
    survey = client.get(survey.id, states=False)
    check(survey.status == "paused", f"paused, and its process {pid} is gone")
    say(f"  {progress(survey)}")

    earlier = survey.checkpoints[-6]
    survey = client.resume(survey.id, checkpoint_id=earlier.id)
    say(f"resumed from an earlier checkpoint: {earlier.id} {earlier.label!r}")
    survey = wait_for(survey, "it runs again", lambda e: e.prefect.attempt == 2)
    done = len(survey.state["done"])
    check(done < 16, f"rolled back: attempt 2 went on from {done} distributions")

    goal = len(survey.checkpoints) + 12
    survey = wait_for(survey, "it goes on", lambda e: len(e.checkpoints) >= goal)
    say(f"  {progress(survey)}")
    pid = pid_of(stack, survey)
    os.kill(pid, signal.SIGKILL)
    say(f"killed process {pid} with SIGKILL")
    survey = wait_for(survey, "it has failed", lambda e: e.status == "failed")
    check(survey.prefect.state_name == "Crashed", "failed: Prefect saw the crash")
    saved = survey.checkpoints[0]

    say("the supervisor continues it, once Prefect has reported the crash a second time (10 s) …")
    survey = wait_for(survey, "it runs again", lambda e: e.prefect.attempt == 3)
    say(f"attempt 3 goes on by itself from {saved.id} {saved.label!r}")
    survey = wait_for(survey, "it ends", lambda e: e.status not in ("running", "paused"))
    check(survey.status == "completed", f"completed: {progress(survey)}")

    quiet = wait_for(quiet, "it ends", lambda e: e.status != "running")
    check(quiet.status == "completed", f"the undisturbed one: {progress(quiet)}")
    check(survey.state == quiet.state, "both have the same result, to the last byte")
    say(f"report: {survey.prefect.url}?tab=Artifacts")


def run(data: Path, *, keep: bool = False) -> None:
    """Run the demo.

    Args:
        data: Where everything is kept; a later run goes on with it.
        keep: Leave everything up until Ctrl-C.

    Raises:
        SystemExit: something was not as it has to be.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    timeline = Timeline()
    api_key = secrets.token_urlsafe(24)
    timeline.say("starting Prefect's server, an S3 server and a worker …")
    port = free_ports(1)
    env = {
        "PREFECT_INTEGRATIONS_EXECUTIONS_API_KEY": api_key,
        "PREFECT_INTEGRATIONS_EXECUTIONS_SERVICE_URL": f"http://127.0.0.1:{port}",
    }
    with Stack(data, env=env) as stack:
        timeline.say(f"Prefect UI  {stack.ui_url} (PREFECT_API_URL={stack.api_url})")
        timeline.say(f"S3 server   {stack.s3.endpoint} (data in {data})")
        with (
            service(stack, timeline, port) as url,
            Client(url, api_key, patience=PATIENCE) as client,
        ):
            timeline.say(f"REST        {url}/v1/execution (it is a run of executions-service)")
            play(stack, client, timeline)
            if keep:
                keep_up(url, api_key, stack.api_url)
    timeline.say("stopped everything; run it again: it goes on with the same data")


def keep_up(url: str, api_key: str, api_url: str) -> None:
    """Wait for Ctrl-C."""
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
