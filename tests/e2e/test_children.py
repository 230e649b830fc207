"""Executions in executions, when their process dies."""

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

from prefect_executions.ids import execution_id
from prefect_executions.prefect.tags import child_tag
from world import Answer, World, kill

DONE = {
    "parent": ["before", "after CHILD 1, CHILD 2, CHILD 3"],
    "child": ["child 1", "child 2", "child 3"],
}


def children(world: World, execution: Answer) -> list[Answer]:
    """The executions that were called in one."""
    tags = FlowRunFilterTags(all_=[child_tag(execution["id"])])
    runs = world.prefect.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tags))
    return [{"id": execution_id(run.id)} for run in runs]


def effects(world: World, execution: Answer) -> list[str]:
    return (world.data / f"{execution['id']}.effects").read_text().splitlines()


def all_effects(world: World, execution: Answer) -> dict[str, list[str]]:
    [child] = children(world, execution)
    return {"parent": effects(world, execution), "child": effects(world, child)}


def amid_its_steps(world: World, **config: int) -> tuple[Answer, Answer]:
    """An execution, and its child: of three steps it has recorded one."""
    execution = world.create("calling-child", config=config)
    world.open_gates(execution, 1, 1)
    world.until_published(execution)
    [child] = children(world, execution)
    return execution, child


def until_completed(world: World, execution: Answer) -> Answer:
    return world.until(execution, "it completes", lambda e: e["status"] == "completed")


def test_a_child_that_dies_amid_its_steps_goes_on_when_its_parent_is_tried_again(
    world: World,
) -> None:
    execution, child = amid_its_steps(world, max_retries=1)

    kill(world.pid(execution))
    world.open_gates(execution, 1, 2, 3)
    until_completed(world, execution)

    assert all_effects(world, execution) == DONE
    assert until_completed(world, child)["prefect"]["attempt"] == 2


def test_a_parent_that_is_paused_as_it_dies_stays_so_and_goes_on_with_its_child(
    world: World,
) -> None:
    execution, child = amid_its_steps(world, max_retries=1)
    world.pause(execution)

    kill(world.pid(execution))
    world.until_crashed(execution)
    world.until(execution, "it is paused", lambda e: e["status"] == "paused")
    world.open_gates(execution, 1, 2, 3)
    world.resume(execution)
    until_completed(world, execution)

    assert all_effects(world, execution) == DONE
    assert until_completed(world, child)["id"] == child["id"]
