"""Keys that are narrowed to agents and deployments: what they see, and what they may start."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.flow_engine import run_flow
from prefect.states import Pending, Suspended

import prefect_executions
from families import child, clear, ids, parent
from prefect_executions.errors import (
    AgentForbidden,
    DeploymentForbidden,
    DeploymentNotFound,
    ExecutionNotFound,
)
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.local import Stack
from prefect_executions.models import ExecutionFilter
from prefect_executions.prefect.deployments import OUTSIDE_DEPLOYMENT
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import EXECUTION
from prefect_executions.storage.objects import MemoryObjects


class Here:
    """Executions of two deployments, of an agent outside Prefect, and of two agents each."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.executions = Executions(
            MemoryObjects(), FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        )
        self.one, self.other = self.deployment(), self.deployment()
        self.made = {
            (deployment, agent_id): self.create(deployment, agent_id)
            for deployment in (self.one, self.other, None)
            for agent_id in ("a", "b")
        }

    def deployment(self) -> str:
        flow = f"flow-{uuid4().hex}"
        flow_id = self.prefect.create_flow_from_name(flow)
        self.prefect.create_deployment(flow_id, "idle", tags=[EXECUTION])
        return f"{flow}/idle"

    def id_of(self, deployment: str) -> str:
        return str(self.prefect.read_deployment_by_name(deployment).id)

    def create(self, deployment: str | None, agent_id: str | None = None, **by: Any) -> str:
        """Create an execution, by a key that is narrowed as `by` says."""
        creation = self.creation(**by)
        return creation.create(name="n", deployment=deployment, agent_id=agent_id)[0].id

    def creation(
        self,
        agents: list[str] | None = None,
        deployments: list[str] | None = None,
        allowed: list[str] | None = None,
    ) -> Creation:
        return Creation(
            self.seen(agents, deployments), None if allowed is None else frozenset(allowed)
        )

    def seen(self, agents: list[str] | None, deployments: list[str] | None) -> Executions:
        return self.executions.seen_by(
            None if agents is None else frozenset(agents),
            None if deployments is None else frozenset(deployments),
        )

    def listed(self, *narrowed: list[str] | None) -> set[tuple[str | None, str]]:
        """Who is found page by page, and read one by one."""
        seen, cursor = self.seen(*narrowed), None
        found: list[str] = []
        while True:
            page = seen.search(ExecutionFilter(), limit=1, cursor=cursor)
            found += [item.id for item in page.items]
            if (cursor := page.next_cursor) is None:
                break
        for id_ in self.made.values():
            if id_ in found:
                assert seen.get(id_).id == id_
            else:
                with pytest.raises(ExecutionNotFound):
                    seen.get(id_)
                with pytest.raises(ExecutionNotFound):
                    seen.delete(id_, patience=0)
        return {key for key, id_ in self.made.items() if id_ in found}


@pytest.fixture
def here(prefect: SyncPrefectClient) -> Here:
    return Here(prefect)


def test_who_sees_some_agents_and_deployments_sees_what_is_of_both(here: Here) -> None:
    one, other, outside = here.one, here.other, OUTSIDE_DEPLOYMENT

    assert here.listed(None, None) == set(here.made)
    assert here.listed(None, [one]) == {(one, "a"), (one, "b")}
    assert here.listed(None, [one, outside]) == {(one, "a"), (one, "b"), (None, "a"), (None, "b")}
    assert here.listed(["a"], [one, other]) == {(one, "a"), (other, "a")}
    assert here.listed(["a", "b"], [other]) == {(other, "a"), (other, "b")}
    assert here.listed(["a"], ["not/there"]) == set()
    assert here.listed(None, []) == set()


def test_who_is_narrowed_to_deployments_starts_those_only(here: Here) -> None:
    narrowed = {"deployments": [here.one]}
    mine = [here.create(given, **narrowed) for given in (here.one, here.id_of(here.one))]
    seen = here.seen(None, [here.one])
    assert [seen.get(id_).id for id_ in mine] == mine

    for given in (here.other, here.id_of(here.other)):
        with pytest.raises(DeploymentForbidden, match=f"{here.other!r} may not.* {here.one!r}"):
            here.create(given, **narrowed)
        with pytest.raises(DeploymentForbidden):
            here.creation(**narrowed).fork(mine[0], deployment=given)
    with pytest.raises(DeploymentForbidden, match=OUTSIDE_DEPLOYMENT):
        here.create(None, **narrowed)

    assert {item.id for item in here.executions.search(ExecutionFilter()).items} == {
        *here.made.values(),
        *mine,
    }


def test_a_fork_of_what_is_seen_may_be_made(here: Here) -> None:
    creation = here.creation(deployments=[here.one])

    fork, _ = creation.fork(here.made[here.one, "a"])

    assert here.seen(None, [here.one]).get(fork.id).forked_from is not None
    with pytest.raises(ExecutionNotFound):
        creation.fork(here.made[here.other, "a"], deployment=here.one)


def test_who_may_act_for_agents_outside_prefect_creates_for_them(here: Here) -> None:
    narrowed = {"agents": ["a"], "deployments": [OUTSIDE_DEPLOYMENT]}
    made = here.create(None, "a", **narrowed)

    assert here.seen(["a"], [OUTSIDE_DEPLOYMENT]).get(made).prefect.attempt == 1
    with pytest.raises(AgentForbidden):
        here.create(None, "b", **narrowed)


def test_a_refusal_does_not_say_whether_there_is_such_a_deployment(here: Here) -> None:
    narrowed = {"deployments": [here.one, "not/there"]}

    with pytest.raises(DeploymentForbidden, match="'neither/there' may not be started here"):
        here.create("neither/there", **narrowed)
    with pytest.raises(DeploymentNotFound):
        here.create("not/there", **narrowed)


def test_what_nobody_may_start_nobody_starts(here: Here) -> None:
    """Whatever the key: also what the key may start, and what was started before."""
    allowed = {"allowed": [here.one]}
    before = here.made[here.other, "a"]

    made = here.create(here.id_of(here.one), **allowed)
    forks = [
        here.creation(**allowed).fork(id_, deployment=here.one)[0].id for id_ in (made, before)
    ]
    with pytest.raises(DeploymentForbidden, match=r"EXECUTIONS_ALLOWED_DEPLOYMENTS changed\.$"):
        here.create(here.other, deployments=[here.other], **allowed)
    with pytest.raises(DeploymentForbidden, match=f"The service may start {here.one!r}"):
        here.creation(**allowed).fork(before)
    with pytest.raises(DeploymentForbidden, match=OUTSIDE_DEPLOYMENT):
        here.create(None, **allowed)
    with pytest.raises(DeploymentForbidden, match="The service may start none"):
        here.create(here.one, allowed=[])

    assert len(set(forks)) == 2
    assert here.executions.get(before).status == "running"


def test_a_repeated_request_of_a_key_that_was_narrowed_since_is_refused(here: Here) -> None:
    request = {"name": "n", "deployment": here.one, "key": "k"}
    here.creation().create(**request)

    with pytest.raises(DeploymentForbidden, match=f"{here.one!r} may not"):
        here.creation(deployments=[here.other]).create(**request)
    assert here.creation(deployments=[here.one]).create(**request)[1] is False


def test_what_has_lost_its_deployment_is_still_seen(here: Here) -> None:
    """So that whoever may see it can fork it."""
    left = here.made[here.one, "a"]
    here.prefect.set_flow_run_state(flow_run_id(left), Suspended(), force=True)
    here.prefect.delete_deployment(UUID(here.id_of(here.one)))

    creation = here.creation(deployments=[here.one, here.other])
    fork, _ = creation.fork(left, deployment=here.other)

    assert here.seen(None, [here.other]).get(fork.id).state == {}


def test_what_was_called_in_an_execution_is_seen_by_whoever_sees_that(stack: Stack) -> None:
    clear()
    with prefect_executions.testing() as kit:
        trial = kit.start(parent)
        seen = kit.executions.seen_by(None, frozenset({f"{parent.name}/testing"}))
        others = kit.executions.seen_by(None, frozenset({f"{child.name}/testing"}))

        for id_ in (trial.id, *ids):
            assert seen.get(id_).status == "completed"
            with pytest.raises(ExecutionNotFound):
                others.get(id_)
        assert len(ids) == 2


def test_what_prefect_itself_has_started_is_of_its_deployment(prefect: SyncPrefectClient) -> None:
    clear()
    with prefect_executions.testing() as kit:
        name = f"started-{uuid4().hex}"
        deployment = prefect.create_deployment(prefect.create_flow(child), name, tags=[EXECUTION])
        run = prefect.create_flow_run_from_deployment(
            deployment, parameters={"name": "x"}, state=Pending()
        )
        seen = kit.executions.seen_by(None, frozenset({f"{child.name}/{name}"}))
        with pytest.raises(ExecutionNotFound):  # before it has begun it is no execution yet
            seen.get(execution_id(run.id))

        run_flow(child, flow_run=run)

        assert seen.get(execution_id(run.id)).status == "completed"
        assert flow_run_id(ids[0]) == run.id
