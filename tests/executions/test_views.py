"""What is said of an execution: who runs it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Completed, Crashed, Pending, Running, State, Suspended

from prefect_executions.executions.agents import ExternalAgents
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.views import AGENT, NOBODY, PROCESS
from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import EXECUTION
from prefect_executions.storage.objects import MemoryObjects
from world import eventually


class Here:
    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(MemoryObjects(), flow_runs)
        self.agents = ExternalAgents(self.executions)

    def create(self, deployment: str | None = None) -> str:
        made, _ = Creation(self.executions).create(name="a", deployment=deployment)
        assert made.prefect.runs_on == NOBODY
        assert (made.prefect.message is None) is (deployment is not None)
        return made.id

    def deployed(self) -> str:
        flow_id = self.prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        return self.create(str(self.prefect.create_deployment(flow_id, "idle", tags=[EXECUTION])))

    def set(self, id_: str, state: State) -> None:
        self.prefect.set_flow_run_state(flow_run_id(id_), state, force=True)

    def runs_on(self, id_: str) -> str | None:
        return self.executions.get(id_).prefect.runs_on


@pytest.fixture
def here(stack: Stack) -> Iterator[Here]:
    with get_client(sync_client=True) as client:
        yield Here(client)


def test_what_no_agent_has_reported_on_is_run_by_nobody_yet(here: Here) -> None:
    saves, begins, waits = (here.create() for _ in range(3))

    here.executions.checkpoint(saves, state=1, attempt=1)
    here.agents.begin(begins)

    assert [here.runs_on(id_) for id_ in (saves, begins, waits)] == [AGENT, AGENT, NOBODY]
    told = [here.executions.get(id_).prefect.message for id_ in (saves, begins, waits)]
    assert told[:2] == [None, None]
    assert told[2] is not None


def test_a_heartbeat_is_a_report(here: Here) -> None:
    id_, silent = here.create(), here.create()

    here.agents.heartbeat(id_, 1)

    eventually(lambda: here.runs_on(id_) == AGENT, "Prefect has the heartbeat")
    assert here.executions.get(id_).prefect.message is None
    assert here.runs_on(silent) == NOBODY  # what the creation itself has sent is no report


def test_what_is_paused_or_has_ended_is_run_by_nothing(here: Here) -> None:
    id_ = here.create()
    here.executions.checkpoint(id_, state=1, attempt=1)

    paused, _ = here.executions.pause(id_)
    resumed = here.executions.resume(id_)
    begun = here.agents.begin(id_)
    ended = here.agents.complete(id_)

    told = [each.prefect.runs_on for each in (paused, resumed, begun, ended)]
    assert told == [None, NOBODY, AGENT, None]


def test_a_worker_is_named_with_what_it_has_started(here: Here) -> None:
    id_ = here.deployed()
    run_id = flow_run_id(id_)

    here.set(id_, Pending())
    assert here.runs_on(id_) == NOBODY
    here.set(id_, Running())
    assert here.runs_on(id_) == PROCESS
    labels = {"prefect.worker.name": "one", "prefect.worker.type": "kubernetes"}
    here.prefect.update_flow_run_labels(run_id, labels)
    assert here.runs_on(id_) == "one"
    here.prefect.update_flow_run(run_id, infrastructure_pid="job-1")
    assert here.runs_on(id_) == "one (kubernetes job-1)"


@pytest.mark.parametrize(
    ("state", "expected"),
    [(Crashed(), NOBODY), (Suspended(), None), (Completed(), None)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_worker_that_has_left_it_is_not_named(
    here: Here, state: State, expected: str | None
) -> None:
    id_ = here.deployed()
    here.set(id_, Running())
    here.prefect.update_flow_run_labels(flow_run_id(id_), {"prefect.worker.name": "one"})

    here.set(id_, state)

    assert here.runs_on(id_) == expected
