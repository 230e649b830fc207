"""The command line as a whole: its help, how its commands end, and what they load."""

import subprocess
import sys
from uuid import uuid4

import pytest

from prefect_executions.local import free_ports
from running import Run, json_of


def test_what_is_refused_has_a_code_of_its_own(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]

    def refused(*command: str) -> tuple[int, str]:
        code, out, err = run(*command)
        assert out == ""
        return code, err

    assert refused("resume", id_)[0] == 1
    assert "it is running" in refused("resume", id_)[1]
    assert refused("checkpoint", id_, "{")[0] == 2
    assert "STATE: " in refused("checkpoint", id_, "@nowhere")[1]
    assert refused("create", "a", "--deployment", "no/where")[0] == 2
    assert refused("get", f"exec_{uuid4().hex}")[0] == 3
    assert refused("get", id_, "--profile", "none")[0] == 2
    assert refused("list", "--url", f"http://127.0.0.1:{free_ports(1)}")[0] == 5


def test_a_wrong_key_has_its_code(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", "wrong")

    code, out, err = run("list")

    assert (code, out) == (4, "")
    assert "Send a key" in err


def test_the_client_commands_load_no_prefect() -> None:
    code = "import sys, prefect_executions.cli; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"prefect", "boto3", "fastapi"}.isdisjoint(done.stdout.split())


def test_its_help_names_all_commands(run: Run) -> None:
    code, out, _ = run("--help")

    assert code == 0
    for name in ("list", "get", "create", "checkpoint", "pause", "resume", "delete", "diff"):
        assert f" {name} " in out
    for name in ("watch", "keys", "serve", "deploy", "demo"):
        assert f" {name} " in out
