"""The REST service by the command line, in a process of its own."""

import signal
import sys

import httpx
import pytest
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_executions.local import Process, free_ports
from rest import KEY
from world import World


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_run_of_a_service_that_is_stopped_completes(world: World, by: signal.Signals) -> None:
    execution = world.gated(to=2)
    port = free_ports(1)
    log = world.data / f"service-{by.name}.log"
    command = [sys.executable, "-m", "prefect_executions.cli", "serve", f"--port={port}"]
    process = Process("the service", command, log=log, env=world.stack.env)
    process.start()
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}
    )

    def is_up() -> bool:
        try:
            return client.get("/health").is_success
        except httpx.TransportError:
            return False

    with client:
        process.wait_until(is_up)
        with client.stream("GET", world.path(execution, "/events")) as stream:
            next(stream.iter_bytes())
            process.stop(by=by)

    world.delete(execution)
    runs = world.prefect.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["executions-service"])),
        sort=FlowRunSort.START_TIME_DESC,
    )
    [own] = [run for run in runs if run.parameters.get("port") == port]
    assert isinstance(own, FlowRun)
    assert own.state is not None
    assert own.state.is_completed(), log.read_text()
    assert "Traceback" not in log.read_text()
