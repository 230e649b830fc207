"""Creating executions: once for each key, from checkpoints of others, for some agents only."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from prefect.states import Crashed, Suspended

import prefect_executions
from prefect_executions import Execution, ExecutionNotFound, Status, execution, step
from prefect_executions.errors import (
    AgentForbidden,
    CheckpointNotFound,
    DeploymentNotFound,
    ExecutionConflict,
    IdempotencyConflict,
    StateError,
    StoreUnavailable,
)
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from prefect_executions.log.journal import LARGE
from prefect_executions.models import ExecutionFilter
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import DELETING, agent_tag
from prefect_executions.storage.objects import MemoryObjects
from stores import Fault, Faulty


class Here:
    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.store = Faulty(MemoryObjects())
        self.flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(self.store, self.flow_runs)
        self.creation = Creation(self.executions)
        self.deployments = [self.deployment() for _ in range(2)]

    def deployment(self) -> str:
        flow_id = self.prefect.create_flow_from_name(f"flow-{uuid4().hex}")
        return str(self.prefect.create_deployment(flow_id, "idle", tags=["execution"]))

    def create(self, **fields: Any) -> tuple[Execution, bool]:
        return self.creation.create(**{"name": "a", "deployment": self.deployments[0], **fields})

    def all(self) -> list[str]:
        return [item.id for item in self.executions.search(ExecutionFilter()).items]


@pytest.fixture
def here(stack: Stack) -> Iterator[Here]:
    with get_client(sync_client=True) as client:
        yield Here(client)


# ---------------------------------------------------------------------- keys of requests


@pytest.mark.parametrize("is_external", [False, True])
def test_the_same_request_with_the_same_key_creates_one(here: Here, is_external: bool) -> None:
    fields = {"state": {"b": 1, "a": 2}, "deployment": None if is_external else here.deployments[0]}
    first, is_new = here.create(**fields, key="k")
    again, is_new_again = here.create(**fields | {"state": {"a": 2, "b": 1}}, key="k")

    assert (is_new, is_new_again) == (True, False)
    assert again.id == first.id
    assert again.prefect.attempt == first.prefect.attempt
    assert here.all() == [first.id]


def test_another_request_with_the_same_key_is_refused(here: Here) -> None:
    first, _ = here.create(key="k")

    for other in (
        {"name": "b"},
        {"state": {"n": 1}},
        {"parameters": {"n": 1}},
        {"deployment": here.deployments[1]},
        {"deployment": None},
    ):
        with pytest.raises(IdempotencyConflict) as refusal:
            here.create(**other, key="k")
        assert refusal.value.execution_id == first.id
    assert here.all() == [first.id]


def test_other_keys_and_none_create_others(here: Here) -> None:
    made = [here.create(key=key)[0].id for key in ("k", "l", None, None)]

    assert len(set(made)) == 4


def test_of_requests_at_once_one_creates(here: Here) -> None:
    start = Barrier(6)

    def create(n: int) -> str:
        start.wait()
        return here.create(key="k")[0].id

    with ThreadPoolExecutor(6) as pool:
        told = set(pool.map(create, range(6)))

    assert len(told) == 1
    assert set(here.all()) == told


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("agents", [None, frozenset({"me"})], ids=["all", "narrowed"])
def test_one_that_was_taken_for_left_leaves_nothing(
    here: Here, key: str | None, agents: frozenset[str] | None
) -> None:
    """A supervisor removed the run while its creator waited for the store."""

    def remove() -> None:
        [run] = here.flow_runs.being_created()
        here.creation.finish(run)

    here.store.meanwhile = [remove]

    creation = Creation(here.executions.seen_by(agents))
    with pytest.raises(ExecutionNotFound):
        creation.create(name="a", deployment=here.deployments[0], agent_id="me", key=key)

    assert here.all() == []
    assert list(here.store.scan("")) == []


def test_a_request_that_failed_in_the_middle_is_finished_by_its_repeat(here: Here) -> None:
    here.store.faults = [Fault.LOST]
    with pytest.raises(StoreUnavailable):
        here.create(key="k")

    execution, _ = here.create(key="k")

    assert here.all() == [execution.id]
    assert here.executions.get(execution.id).prefect.state_name == "Scheduled"


def test_without_a_key_what_failed_in_the_middle_is_removed(here: Here) -> None:
    here.store.faults = [Fault.LOST]
    with pytest.raises(StoreUnavailable):
        here.create(deployment=None)

    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=here.flow_runs.tags))
    assert here.prefect.read_flow_runs(flow_run_filter=tagged) == []


def test_a_deleted_execution_gives_its_key_back(here: Here) -> None:
    first, _ = here.create(key="k")
    here.executions.delete(first.id, patience=0)

    second, is_new = here.create(name="other", key="k")

    assert is_new
    assert second.id != first.id


def test_a_key_of_one_that_is_being_deleted_is_refused(here: Here) -> None:
    first, _ = here.create(key="k")
    here.flow_runs.mark_deleting(here.executions.run(first.id))

    with pytest.raises(IdempotencyConflict):
        here.create(key="k")

    run = here.prefect.read_flow_run(UUID(first.id[5:]))
    assert DELETING in run.tags


# ---------------------------------------------------------------------- from checkpoints


def test_an_execution_starts_from_a_checkpoint_of_another(here: Here) -> None:
    source, _ = here.create()
    saved = here.executions.checkpoint(source.id, state={"n": 1}).checkpoint
    here.executions.checkpoint(source.id, state={"n": 2})

    made, _ = here.create(deployment=here.deployments[1], from_checkpoint=f"{source.id}/{saved.id}")

    got = here.executions.get(made.id)
    assert got.state == {"n": 1}
    assert got.forked_from is not None
    assert (got.forked_from.execution_id, got.forked_from.checkpoint_id) == (source.id, saved.id)


def test_a_checkpoint_to_start_from_has_to_be_there(here: Here) -> None:
    source, _ = here.create()

    with pytest.raises(CheckpointNotFound):
        here.create(from_checkpoint=f"{source.id}/ckpt_000007")
    with pytest.raises(CheckpointNotFound):
        here.create(from_checkpoint=source.id)
    with pytest.raises(ExecutionNotFound):
        here.create(from_checkpoint=f"exec_{uuid4().hex}/ckpt_000000")
    with pytest.raises(StateError, match="leave out one"):
        here.create(from_checkpoint=f"{source.id}/ckpt_000000", state={})
    assert here.all() == [source.id]


def test_a_fork_is_run_as_the_other_one_is(here: Here) -> None:
    source, _ = here.create(
        name="task", agent_id="agent 7", task_type="research", parameters={"n": 1}, description="d"
    )
    here.executions.checkpoint(source.id, state={"n": 1})

    fork, is_new = here.creation.fork(source.id)

    assert is_new
    assert fork.id != source.id
    got = here.executions.get(fork.id)
    assert got.name == "task (fork)"
    assert (got.description, got.agent_id, got.task_type) == ("d", "agent 7", "research")
    assert (got.state, got.config) == ({"n": 1}, source.config)
    assert got.prefect.deployment == source.prefect.deployment
    assert here.executions.run(fork.id).parameters == {"n": 1}
    assert agent_tag("agent 7") in here.executions.run(fork.id).tags
    assert here.executions.get(source.id).state == {"n": 1}


def test_a_fork_can_be_run_by_another_deployment(here: Here) -> None:
    source, _ = here.create(state={"n": 1})

    fork, _ = here.creation.fork(source.id, deployment=here.deployments[1])

    assert str(fork.prefect.deployment) == here.deployments[1]
    assert fork.state == {"n": 1}


def test_an_agent_s_execution_has_no_fork_in_a_deployment(here: Here) -> None:
    source, _ = here.create(deployment=None)

    with pytest.raises(ExecutionConflict, match="leave out `deployment`"):
        here.creation.fork(source.id, deployment=here.deployments[0])


@pytest.mark.parametrize("state", [Suspended(), Crashed()], ids=lambda state: state.name)
def test_what_has_lost_its_deployment_goes_on_as_a_fork(here: Here, state: State[Any]) -> None:
    """Prefect's worker would cancel it when it is resumed."""
    source, _ = here.create(deployment=here.deployment(), state={"n": 1})
    run_id = flow_run_id(source.id)
    here.prefect.set_flow_run_state(run_id, state, force=True)
    assert source.prefect.deployment is not None
    here.prefect.delete_deployment(source.prefect.deployment)

    with pytest.raises(ExecutionConflict, match="/fork with"):
        here.executions.resume(source.id)
    with pytest.raises(ExecutionConflict, match="/fork with"):
        here.executions.resume(source.id, checkpoint_id="ckpt_000000")
    with pytest.raises(DeploymentNotFound):
        here.creation.fork(source.id)
    fork, _ = here.creation.fork(source.id, deployment=here.deployments[0])

    assert here.executions.get(source.id).prefect.state_name == state.name
    assert fork.state == {"n": 1}


def test_a_fork_of_an_agent_s_execution_is_an_agent_s(here: Here) -> None:
    source, _ = here.create(deployment=None, state={"n": 1})

    fork, _ = here.creation.fork(source.id, name="b")

    assert (fork.name, fork.prefect.attempt, fork.status) == ("b", 1, Status.RUNNING)


def test_a_run_without_a_deployment_can_t_be_forked(stack: Stack) -> None:
    @flow
    @execution
    def called() -> str:
        return execution.current().id

    with prefect_executions.testing() as kit:
        id_ = called()

        with pytest.raises(ExecutionConflict, match="no deployment"):
            Creation(kit.executions).fork(id_)


def test_a_fork_is_made_once_for_each_key_whatever_is_saved_meanwhile(here: Here) -> None:
    source, _ = here.create()
    first, _ = here.creation.fork(source.id, key="k")
    here.executions.checkpoint(source.id, state={"n": 1})

    again, is_new = here.creation.fork(source.id, key="k")

    assert (again.id, is_new) == (first.id, False)
    with pytest.raises(IdempotencyConflict):
        here.creation.fork(source.id, name="another", key="k")


def test_a_name_that_is_long_already_stays_within_its_limit(here: Here) -> None:
    source, _ = here.create(name="n" * 200)

    assert len(here.creation.fork(source.id)[0].name) == 200


def test_a_fork_has_what_steps_had_recorded_by_its_checkpoint(stack: Stack) -> None:
    done = []

    @step
    def work(n: int) -> str:
        done.append(n)
        return "x" * (LARGE + 1) if n == 0 else f"{n}"

    @flow
    @execution
    def working() -> int:
        run = execution.current()
        total = 0
        for n in range(3):
            total += len(work(n))
            run.state["n"] = n
            run.checkpoint(label=f"{n}")
        return total

    with prefect_executions.testing() as kit:
        trial = kit.start(working)
        source = kit.executions.get(trial.id)
        middle = next(point for point in source.checkpoints if point.label == "1")
        fork = trial.fork(checkpoint_id=middle.id)
        kit.executions.delete(trial.id)  # what the fork has is its own
        again = fork.fork()

        assert fork.result == again.result == trial.result == LARGE + 3
        assert done == [0, 1, 2, 2]


# ---------------------------------------------------------------------- agents


def test_who_acts_for_some_agents_creates_for_them_only(here: Here) -> None:
    scoped = Creation(here.executions.seen_by(frozenset({"a"})))
    mine, _ = scoped.create(name="n", agent_id="a", deployment=here.deployments[0])

    for agent_id in ("b", None):
        with pytest.raises(AgentForbidden):
            scoped.create(name="n", agent_id=agent_id, deployment=here.deployments[0])
    assert here.all() == [mine.id]


def test_what_is_not_seen_is_not_there(here: Here) -> None:
    execution, _ = here.create(agent_id="b")
    scoped = here.executions.seen_by(frozenset({"a"}))

    for act in (
        lambda: scoped.get(execution.id),
        lambda: scoped.version(execution.id),
        lambda: scoped.checkpoint(execution.id, state={}),
        lambda: scoped.checkpoints(execution.id),
        lambda: scoped.read_checkpoint(execution.id, "ckpt_000000"),
        lambda: scoped.diff(execution.id, "ckpt_000000", "ckpt_000000"),
        lambda: scoped.cost(execution.id),
        lambda: scoped.pause(execution.id),
        lambda: scoped.resume(execution.id),
        lambda: scoped.delete(execution.id),
        lambda: Creation(scoped).fork(execution.id),
        lambda: Creation(scoped).create(
            name="n", agent_id="a", from_checkpoint=f"{execution.id}/ckpt_000000"
        ),
    ):
        with pytest.raises(ExecutionNotFound):
            act()
    assert here.all() == [execution.id]
