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


def test_a_wrong_key_is_called_wrong_and_its_setting_is_named(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", "wrong")

    code, out, err = run("list")

    assert (code, out) == (4, "")
    assert err.startswith(f"{url} does not know the key in PREFECT_EXECUTIONS_API_KEY: it is wrong")
    assert "prefect-executions keys create" in err


def test_without_a_service_it_says_how_to_name_one_and_how_to_start_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_EXECUTIONS_URL", f"http://127.0.0.1:{free_ports(1)}")

    code, out, err = run("list")

    assert (code, out) == (5, "")
    assert "The URL is in PREFECT_EXECUTIONS_URL." in err
    assert err.splitlines()[-1] == (
        "Name the service by --url, PREFECT_EXECUTIONS_URL or a profile (--profile). "
        "`prefect-executions serve` starts one here."
    )


def loaded_by(*command: str) -> set[str]:
    """The modules that a command has loaded in a process of its own."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr))\n"
        "from prefect_executions.cli import main\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
    )
    said, _, modules = done.stderr.partition("loaded: ")
    assert said == ""
    return set(modules.split())


HEAVY = {"prefect", "boto3", "botocore", "fastapi"}


def test_a_command_of_the_client_loads_neither_prefect_nor_boto3(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]

    for command in (("list",), ("get", id_), ("pause", id_), ("checkpoints", id_)):
        loaded = loaded_by(*command)
        assert "prefect_executions.client" in loaded
        assert HEAVY.isdisjoint(loaded)


@pytest.mark.parametrize("command", [(), ("list",), ("store", "create"), ("keys", "create")])
def test_help_loads_no_http_client_either(command: tuple[str, ...]) -> None:
    assert {*HEAVY, "httpx", "prefect_executions.client"}.isdisjoint(loaded_by(*command, "--help"))


def test_its_help_names_all_commands(run: Run) -> None:
    code, out, _ = run("--help")

    assert code == 0
    for name in ("list", "get", "create", "checkpoint", "pause", "resume", "delete", "diff"):
        assert f" {name} " in out
    for name in ("watch", "keys", "serve", "deploy", "demo"):
        assert f" {name} " in out
