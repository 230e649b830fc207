"""The main job end to end, on this machine: `make demo`, or `make demo KEEP=1` to look around.

It starts Prefect's server, an S3 server, a worker and the REST service (as a Prefect deployment),
and then does what a user does, over REST alone: create an agent task, watch its checkpoints, pause
it, roll it back, lose its process to SIGKILL, after which the supervisor continues it. The result
has to equal that of the same task undisturbed.
"""

import argparse
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

import httpx

from prefect_executions.local import Stack, free_ports

ROOT = Path(__file__).resolve().parent.parent
PER_SECOND = 6.0  # distributions; slow enough to interfere
PATIENCE = 180.0

Execution = dict[str, Any]


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


class Client:
    """The REST calls that the demo makes."""

    def __init__(self, url: str, api_key: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60)

    def create(self, **body: Any) -> Execution:
        """Create an execution."""
        return self._answer(self._http.post("/v1/execution", json=body))

    def get(self, execution_id: str) -> Execution:
        """Read an execution; the states of its checkpoints stay where they are."""
        path = f"/v1/execution/{execution_id}"
        return self._answer(self._http.get(path, params={"states": False, "checkpoints": "all"}))

    def pause(self, execution_id: str, **body: Any) -> Execution:
        """Pause an execution."""
        return self._answer(self._http.post(f"/v1/execution/{execution_id}/pause", json=body))

    def resume(self, execution_id: str, **body: Any) -> Execution:
        """Resume an execution."""
        return self._answer(self._http.post(f"/v1/execution/{execution_id}/resume", json=body))

    def is_up(self) -> bool:
        """Whether the service answers."""
        try:
            return self._http.get("/health").is_success
        except httpx.TransportError:
            return False

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.is_error:
            raise SystemExit(f"{response.request.method} {response.url}: {response.text}")
        return response.json()


@contextmanager
def service(stack: Stack, timeline: Timeline) -> Iterator[str]:
    """Deploy what `prefect.yaml` says, run the REST service, and cancel it at the end."""
    stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=ROOT)
    timeline.say("deployed: executions-service/default, survey/default, … (prefect.yaml)")
    port = free_ports(1)
    prefect = httpx.Client(base_url=stack.api_url, timeout=60)
    deployment = prefect.get("/deployments/name/executions-service/default").json()["id"]
    run = prefect.post(
        f"/deployments/{deployment}/create_flow_run",
        json={"parameters": {"port": port}, "state": {"type": "SCHEDULED"}},
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
    run_id = execution["prefect"]["flow_run_id"]
    run = httpx.get(f"{stack.api_url}/flow_runs/{run_id}").json()
    return int(run["infrastructure_pid"].rpartition(":")[2])


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
            now = client.get(execution["id"])
            return now if holds(now) else None

        result: Execution = wait_until(found, what)
        return result

    def progress(execution: Execution) -> str:
        done = len(execution["state"].get("done", []))
        return (
            f"{done} of {done + len(execution['state'].get('todo', []))} distributions, "
            f"{len(execution['checkpoints'])} checkpoints, "
            f"{execution['elapsed_seconds']:.1f} s active"
        )

    survey = client.create(
        name="survey, disturbed",
        description="What is installed here?",
        agent_id="demo",
        task_type="survey",
        deployment="survey/default",
        parameters={"per_second": PER_SECOND},
        config={"max_retries": 1},
    )
    quiet = client.create(
        name="survey, undisturbed",
        agent_id="demo",
        task_type="survey",
        deployment="survey/default",
        parameters={"per_second": 0},
    )
    say(f"created {survey['id']}")
    say(f"        {survey['prefect']['url']}")

    survey = wait_for(survey, "it runs", lambda e: len(e["checkpoints"]) >= 3)
    pid = pid_of(stack, survey)
    say(f"runs in process {pid}")
    for goal in (8, 16):
        survey = wait_for(survey, "it goes on", lambda e, n=goal: len(e["checkpoints"]) >= n)
        say(f"  {progress(survey)}")

    client.pause(survey["id"], reason="Let me look at that.")
    wait_until(lambda: not is_alive(pid), "its process ends")
    survey = client.get(survey["id"])
    check(survey["status"] == "paused", f"paused, and its process {pid} is gone")
    say(f"  {progress(survey)}")

    earlier = survey["checkpoints"][-6]
    survey = client.resume(survey["id"], checkpoint_id=earlier["id"])
    say(f"resumed from an earlier checkpoint: {earlier['id']} {earlier['label']!r}")
    survey = wait_for(survey, "it runs again", lambda e: e["prefect"]["attempt"] == 2)
    done = len(survey["state"]["done"])
    check(done < 16, f"rolled back: attempt 2 went on from {done} distributions")

    goal = len(survey["checkpoints"]) + 12
    survey = wait_for(survey, "it goes on", lambda e: len(e["checkpoints"]) >= goal)
    say(f"  {progress(survey)}")
    pid = pid_of(stack, survey)
    os.kill(pid, signal.SIGKILL)
    say(f"killed process {pid} with SIGKILL")
    survey = wait_for(survey, "it has failed", lambda e: e["status"] == "failed")
    check(survey["prefect"]["state_name"] == "Crashed", "failed: Prefect saw the crash")
    saved = survey["checkpoints"][0]

    say("the supervisor continues it, once Prefect has reported the crash a second time (10 s) …")
    survey = wait_for(survey, "it runs again", lambda e: e["prefect"]["attempt"] == 3)
    say(f"attempt 3 goes on by itself from {saved['id']} {saved['label']!r}")
    survey = wait_for(survey, "it ends", lambda e: e["status"] not in ("running", "paused"))
    check(survey["status"] == "completed", f"completed: {progress(survey)}")

    quiet = wait_for(quiet, "it ends", lambda e: e["status"] != "running")
    check(quiet["status"] == "completed", f"the undisturbed one: {progress(quiet)}")
    check(survey["state"] == quiet["state"], "both have the same result, to the last byte")
    say(f"report: {survey['prefect']['url']}?tab=Artifacts")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--data", type=Path, default=ROOT / ".data" / "demo")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    timeline = Timeline()
    api_key = secrets.token_urlsafe(24)
    timeline.say("starting Prefect's server, an S3 server and a worker …")
    env = {"PREFECT_INTEGRATIONS_EXECUTIONS_API_KEY": api_key}
    with Stack(options.data, env=env) as stack:
        timeline.say(f"Prefect UI  {stack.ui_url} (PREFECT_API_URL={stack.api_url})")
        timeline.say(f"S3 server   {stack.s3.endpoint} (data in {options.data})")
        with service(stack, timeline) as url:
            client = Client(url, api_key)
            wait_until(client.is_up, "the service answers")
            timeline.say(f"REST        {url}/v1/execution (it is a run of executions-service)")
            play(stack, client, timeline)
            if options.keep:
                keep_up(url, api_key)
    timeline.say("stopped everything; run it again: it goes on with the same data")


def keep_up(url: str, api_key: str) -> None:
    """Wait for Ctrl-C."""
    print(f"\nEverything stays up. Try:\n  curl -H 'Authorization: Bearer {api_key}' \\")
    print(f"    {url}/v1/execution/…\nCtrl-C stops it.", flush=True)
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    while not stop.wait(1):
        pass


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the paragraphs of the description, and shows the defaults."""


if __name__ == "__main__":
    sys.exit(main())
