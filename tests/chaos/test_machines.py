"""A machine breaks down, and another one that shares only the store with it goes on."""

import sys
from contextlib import ExitStack
from pathlib import Path
from secrets import randbelow

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from chaos.machines import Machine, obstacle
from chaos.servers import Balancer, missing, several
from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Process, Stack
from prefect_executions.log.entry import Kind
from prefect_executions.models import Execution
from prefect_executions.prefect.flow_runs import FlowRuns
from world import eventually

pytestmark = pytest.mark.long


ROOT = Path(__file__).parent.parent.parent
ENV = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_INTEGRATIONS_EXECUTIONS_HEARTBEAT_SECONDS": "1",
    "PREFECT_INTEGRATIONS_EXECUTIONS_SILENCE_SECONDS": "10",
}
POOL = "machines"
WORKER = ("-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL)
DEPLOY = f"""
from prefect.deployments.runner import EntrypointType
from prefect_executions.flows.survey import survey
module = EntrypointType.MODULE_PATH
survey.to_deployment("machines", entrypoint_type=module, work_pool_name="{POOL}").apply()
"""


@pytest.mark.e2e
@pytest.mark.scale
@pytest.mark.timeout(900)
def test_an_execution_goes_on_on_another_machine_from_the_store_alone(tmp_path: Path) -> None:
    if reason := missing() or obstacle():
        pytest.skip(reason)
    with ExitStack() as up:
        stack = Stack(tmp_path / "site", env=ENV)
        wire = randbelow(200)
        one, two = (
            up.enter_context(Machine(wire + n, hidden=[ROOT, stack.data])) for n in range(2)
        )
        one.install(ROOT)
        two.install_as(one)
        up.enter_context(stack)
        up.enter_context(stack.settings())
        up.enter_context(several(*_wired(stack, one.gateway, tmp_path)))
        stack.s3.endpoint = f"http://{one.gateway}:{stack.s3.port}"
        stack.save_store()
        prefect = up.enter_context(get_client(sync_client=True))
        executions = Executions(stack.s3.store().objects(), FlowRuns(prefect))
        supervise = "import prefect_executions.supervisor as s; s.supervise()"
        supervisor = Process(
            "the supervisor",
            [sys.executable, "-c", supervise],
            log=tmp_path / "supervisor.log",
            env=stack.env,
        )
        up.callback(supervisor.kill)
        supervisor.start()
        there = {**ENV, "PREFECT_API_URL": stack.api_url.replace("127.0.0.1", one.gateway)}
        stack.start_worker(POOL).kill()  # this creates the pool
        one.process("-c", DEPLOY, env=there).start()
        eventually(lambda: _is_deployed(prefect), "the flow is deployed")
        first = one.process(*WORKER, env=there)
        up.callback(first.kill)
        first.start()
        execution, _ = Creation(executions).create(
            name="moves",
            deployment="survey/machines",
            parameters={"per_second": 2, "only": ["prefect", "boto3", "pydantic", "httpx", "rich"]},
            config=ExecutionConfig(max_retries=2),
        )

        def now() -> Execution:
            return executions.get(execution.id, checkpoints=None, states=False)

        eventually(lambda: len(now().checkpoints) >= 3, "some is saved", patience=120)
        one.break_down()
        before = {checkpoint.id for checkpoint in now().checkpoints}
        second = two.process(*WORKER, env=there)
        up.callback(second.kill)
        second.start()

        eventually(lambda: now().status is Status.COMPLETED, "it completes", patience=180)
        ended = now()
        assert before <= {checkpoint.id for checkpoint in ended.checkpoints}
        labels = [checkpoint.label for checkpoint in ended.checkpoints]
        assert len(labels) == len(set(labels)), "nothing was done twice that was saved"
        entries = executions.log(execution.id).read(checkpoints=None).entries.values()
        assert len([entry for entry in entries if entry.kind is Kind.ATTEMPT]) == 2


def _is_deployed(prefect: SyncPrefectClient) -> bool:
    try:
        return prefect.read_deployment_by_name("survey/machines") is not None
    except ObjectNotFound:
        return False


def _wired(stack: Stack, address: str, data: Path) -> list[Balancer]:
    """Make Prefect and the store reachable at an address."""
    ports = {"prefect": int(stack.ui_url.rpartition(":")[2]), "store": stack.s3.port}
    return [
        Balancer(data, name, address=address, port=port, ports=[port])
        for name, port in ports.items()
    ]
