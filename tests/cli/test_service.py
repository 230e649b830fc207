"""Commands that need Prefect where they run."""

from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_executions.local import Stack, free_ports
from running import Run


def test_the_service_is_deployed_to_a_pool(run: Run, stack: Stack, prefect: Any) -> None:
    code, out, _ = run("deploy", "--pool", stack.pool, "--name", "by-cli", "--port", "4311")

    assert code == 0
    assert "prefect deployment run executions-service/by-cli" in out
    deployment = prefect.read_deployment_by_name("executions-service/by-cli")
    assert deployment.work_pool_name == stack.pool
    assert deployment.parameters == {"host": "127.0.0.1", "port": 4311}
    assert deployment.entrypoint == "prefect_executions.service.flows.executions_service"


@pytest.mark.parametrize("command", [("deploy", "--pool", "any"), ("serve",)])
def test_without_prefect_a_command_says_so(run: Run, command: tuple[str, ...]) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_ports(1)}/api"}):
        code, out, err = run(*command)

    assert (code, out) == (5, "")
    assert "Traceback" not in err


def test_what_a_pool_lacks_for_the_service_is_said(run: Run, stack: Stack, prefect: Any) -> None:
    code, out, err = run("deploy", "--pool", stack.pool, "--image", "flows:1")
    assert (code, out) == (2, "")
    assert err.startswith("image: the base job template of the work pool")

    variables = ["--job-variable", "env.A=[1]", "--job-variable=env.B=2", "--name", "with-env"]
    assert run("deploy", "--pool", stack.pool, *variables)[0] == 0
    deployment = prefect.read_deployment_by_name("executions-service/with-env")
    assert deployment.job_variables == {"env": {"A": "[1]", "B": "2"}}
