"""The page of a flow run in the Prefect UI: its artifact, with real processes."""

import re
from uuid import UUID

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from world import Answer, World, eventually, kill


def pages(world: World, execution: Answer) -> list[str]:
    run_id = UUID(execution["prefect"]["flow_run_id"])
    filter_ = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    return [f"{page.data}" for page in world.prefect.read_artifacts(artifact_filter=filter_)]


def until_told(world: World, execution: Answer, *words: str) -> str:
    """The one page of a run, once it tells something."""

    def look() -> str | None:
        (page,) = pages(world, execution) or [""]
        return page if all(word in page for word in words) else None

    found: str = eventually(look, f"the page tells {words}")
    return found


def test_a_page_is_kept_from_the_first_checkpoint_to_the_end(world: World) -> None:
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1)
    until_told(world, execution, "**running** · attempt 1", "n = 1")
    world.open_gates(execution, 1, 2, 3)
    world.until_ended(execution)

    page = until_told(world, execution, "**completed**")

    assert [f"n = {n} " in page for n in (1, 2, 3, 4)] == [True, True, True, False]


def test_each_checkpoint_is_a_line_in_the_log_of_its_run(world: World) -> None:
    execution = world.gated(to=2)
    line = r'Checkpoint ckpt_000002 "n = 1" saved: \d+ bytes in \d+ ms \(state 22 bytes\)'

    eventually(
        lambda: any(re.fullmatch(line, told) for told in world.logged(execution)),
        "the checkpoint is logged",
    )

    world.rest.delete(world.path(execution))


def test_a_page_tells_of_a_pause_and_of_the_attempt_after_it(world: World) -> None:
    execution = world.gated(to=2)
    world.pause_and_leave(execution, 2)
    until_told(world, execution, "**paused**", "**Resume**", "n = 2")

    world.resume(execution)
    world.until_ended(execution)

    until_told(world, execution, "**completed** · attempt 2", "n = 1", "n = 2")


def test_the_page_of_a_killed_process_tells_that_it_has_failed_and_what_to_do(
    world: World,
) -> None:
    execution = world.gated(to=2)

    kill(world.pid(execution))

    until_told(world, execution, "**failed**", "**Retry**", "SIGKILL")


def test_the_page_of_an_agent_outside_prefect(world: World) -> None:
    execution = world.ok(world.rest.post("/v1/execution", json={"name": "outside"}), 201)
    state = {"progress": 0.5}
    body = {"state": state, "label": "half", "attempt": 1}
    world.ok(world.rest.put(world.path(execution, "/checkpoint"), json=body), 201)
    until_told(world, execution, "**running**", "half", "50%")

    world.ok(world.rest.post(world.path(execution, "/complete"), json={"attempt": 1}), 202)
    until_told(world, execution, "**completed**")

    assert world.rest.delete(world.path(execution)).status_code == 204
    eventually(lambda: not pages(world, execution), "its page is gone")
