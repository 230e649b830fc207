"""An agent outside Prefect, in plain Python: it takes stock of a directory, file by file.

    export PREFECT_EXECUTIONS_URL=http://127.0.0.1:4300 PREFECT_EXECUTIONS_API_KEY=pxk_…
    python examples/agent.py DIRECTORY

Nothing of Prefect or of prefect-executions is needed where it runs, but httpx. Kill it whenever
you like, and start it again with `--execution exec_…`, on another machine if you like: it goes on
after the last file that it has saved. Pause, roll back and cancel it in the Prefect UI, or over
REST.
"""

import argparse
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

SAVE_EVERY = 5.0  # seconds
LOOK_EVERY = 2.0  # seconds, while it is paused

Json = dict[str, Any]


class Stopped(Exception):
    """Somebody has paused, ended or restarted the execution: this process is to stop working."""


class Service:
    """The REST service, as far as an agent needs it."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60
        )

    def create(self, name: str, key: str) -> Json:
        """Create the execution, once for each key: it is attempt 1 of it that runs here."""
        config = {"checkpoint_interval_seconds": 4 * SAVE_EVERY, "max_retries": 3}
        body = {"name": name, "task_type": "stock-taking", "config": config}
        return self._send("POST", "/v1/execution", json=body, headers={"Idempotency-Key": key})

    def begin(self, id_: str) -> Json:
        """Begin the next attempt: from now on this process runs the execution."""
        return self._send("POST", f"/v1/execution/{id_}/attempt")

    def get(self, id_: str) -> Json:
        """Read the execution."""
        return self._send("GET", f"/v1/execution/{id_}", params={"checkpoints": "none"})

    def checkpoint(self, id_: str, attempt: int, state: Json, label: str) -> None:
        """Save a checkpoint; it is durable when this returns."""
        body = {"state": state, "label": label[:200], "attempt": attempt}
        saved = self._send("PUT", f"/v1/execution/{id_}/checkpoint", json=body)
        if saved["status"] != "running":
            raise Stopped(saved["status"])

    def complete(self, id_: str, attempt: int, state: Json, result: Any) -> None:
        """Say that it is done."""
        body = {"state": state, "result": result, "attempt": attempt}
        self._send("POST", f"/v1/execution/{id_}/complete", json=body)

    def fail(self, id_: str, attempt: int, error: str) -> None:
        """Say that it went wrong."""
        body = {"error": error[:10_000], "attempt": attempt}
        with suppress(Stopped):  # of a repetition: it was said, and the answer lost
            self._send("POST", f"/v1/execution/{id_}/fail", json=body)

    def _send(self, method: str, path: str, **request: Any) -> Any:
        """Send a request, again while the service can't be reached."""
        while True:
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as away:
                print(f"The service is away: {away!r}", flush=True)
                time.sleep(LOOK_EVERY)
                continue
            if answer.status_code in (429, 503):
                time.sleep(float(answer.headers.get("Retry-After", LOOK_EVERY)))
                continue
            if answer.status_code == 409:
                raise Stopped(answer.json()["detail"])
            answer.raise_for_status()
            return answer.json()


def take_stock(service: Service, execution: Json, directory: Path) -> None:
    """Work on from where the execution stands."""
    id_, attempt = execution["id"], execution["prefect"]["attempt"]
    state = {"digests": {}, **execution["state"]}
    saved_at = time.monotonic()
    for path in sorted(path for path in directory.rglob("*") if not path.is_dir()):
        name = str(path.relative_to(directory))
        if name in state["digests"]:  # by an earlier attempt
            continue
        state["digests"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if time.monotonic() - saved_at > SAVE_EVERY or os.environ.get("SAVE_ALL"):
            service.checkpoint(id_, attempt, state, label=name)
            saved_at = time.monotonic()
    total = hashlib.sha256("".join(state["digests"].values()).encode()).hexdigest()
    service.complete(id_, attempt, state, {"files": len(state["digests"]), "sha256": total})


def wait_until_it_goes_on(service: Service, id_: str) -> bool:
    """Wait while the execution is paused; whether it is to go on."""
    while (status := service.get(id_)["status"]) == "paused":
        time.sleep(LOOK_EVERY)
    return bool(status == "running")


def main() -> None:
    """Create an execution, or go on with one, until it has ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--execution", help="go on with this one")
    options = parser.parse_args()
    service = Service(
        os.environ["PREFECT_EXECUTIONS_URL"], os.environ.get("PREFECT_EXECUTIONS_API_KEY", "")
    )
    if options.execution is None:
        key = f"stock of {options.directory.resolve()} at {time.time_ns()}"
        execution = service.create(f"Stock of {options.directory.name}", key)
    else:
        execution = service.begin(options.execution)
    id_ = execution["id"]
    while True:
        print(f"{id_}: attempt {execution['prefect']['attempt']}", flush=True)
        try:
            take_stock(service, execution, options.directory)
            break
        except Stopped as stopped:
            print(f"{id_}: {stopped}", flush=True)
        except OSError as error:
            service.fail(id_, execution["prefect"]["attempt"], f"{error}")
            raise
        if not wait_until_it_goes_on(service, id_):
            return
        execution = service.begin(id_)
    print(f"{id_}: completed", flush=True)


if __name__ == "__main__":
    main()
