"""The page of a flow run in the Prefect UI: its artifact, with real processes."""

import re

from world import World, eventually, kill


def test_a_page_is_kept_from_the_first_checkpoint_to_the_end(world: World) -> None:
    execution = world.create("gated", to=3)
    world.open_gates(execution, 1, 1)
    world.until_told(execution, "**running** · attempt 1", "n = 1")
    world.open_gates(execution, 1, 2, 3)
    world.until_ended(execution)

    page = world.until_told(execution, "**completed**")

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
    world.until_told(execution, "**paused**", "**Resume**", "n = 2")

    world.resume(execution)
    world.until_ended(execution)

    world.until_told(execution, "**completed** · attempt 2", "n = 1", "n = 2")


def test_the_page_of_a_killed_process_tells_that_it_has_failed_and_what_to_do(
    world: World,
) -> None:
    execution = world.gated(to=2)

    kill(world.pid(execution))

    world.until_told(execution, "**failed**", "**Retry**", "SIGKILL")


def test_the_page_of_an_agent_outside_prefect(world: World) -> None:
    execution = world.ok(world.rest.post("/v1/execution", json={"name": "outside"}), 201)
    state = {"progress": 0.5}
    body = {"state": state, "label": "half", "attempt": 1}
    world.ok(world.rest.put(world.path(execution, "/checkpoint"), json=body), 201)
    world.until_told(execution, "**running**", "half", "50%")

    world.ok(world.rest.post(world.path(execution, "/complete"), json={"attempt": 1}), 202)
    world.until_told(execution, "**completed**")

    assert world.rest.delete(world.path(execution)).status_code == 204
    eventually(lambda: not world.pages(execution), "its page is gone")
