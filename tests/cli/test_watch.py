"""Following an execution."""

import json
import sys

from prefect_executions.client import Client
from processes import started
from rest import KEY
from running import Run, json_of


def test_watch_follows_until_the_end(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]
    json_of(run, "bulk", "delete", "--name", "nothing", "--yes")
    code, _, _ = run("pause", id_)
    assert code == 0
    env = {"PREFECT_EXECUTIONS_URL": url, "PREFECT_EXECUTIONS_API_KEY": KEY}
    command = [sys.executable, "-m", "prefect_executions.cli", "watch", id_, "--json"]
    with started(*command, env=env) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["status"] == "paused"
        json_of(run, "checkpoint", id_, "1", "--label", "one")
        assert json.loads(watching.stdout.readline())["label"] == "one"
        json_of(run, "bulk", "delete", "--all", "--yes")
        rest = [json.loads(line) for line in watching.stdout]
        code = watching.wait()

    assert code == 1
    assert rest[-1]["event"] in ("deleted", "status")


def test_the_exit_code_of_watch_is_0_after_completion(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]
    with Client(url, api_key=KEY) as client:
        client.complete(id_)

    code, out, err = run("watch", id_)

    assert (code, "completed" in out, err) == (0, True, "")
