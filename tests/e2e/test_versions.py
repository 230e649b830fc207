"""A flow whose code changes while its executions live."""

from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import pytest

from prefect_executions.log.entry import Kind
from world import Answer, World, eventually

FIRST = """
    from prefect import flow
    from pydantic import BaseModel
    from prefect_executions import execution

    class Done(BaseModel):
        done: list[str] = []

    @flow(name="{name}", version="first")
    @execution(state=Done)
    def changing() -> None:
        run = execution.current(Done)
        run.state.done.append("one")
        run.checkpoint(label="one")
        run.pause("before the code changes")
"""
SECOND = """
    from prefect import flow
    from pydantic import BaseModel
    from prefect_executions import execution

    class Done(BaseModel):
        times: dict[str, int]

    @flow(name="{name}", version="second")
    @execution(state=Done, initial=lambda: Done(times={{}}))
    def changing() -> None:
        run = execution.current(Done)
        run.state.times["two"] = 1
        run.checkpoint(label="two")
"""
THIRD = SECOND.replace('"second"', '"third"').replace(
    "state=Done,", 'state=Done, migrate=lambda old: {{"times": dict.fromkeys(old["done"], 1)}},'
)


class Changing:
    """A deployment, and the file that its flow is in."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._file = directory / "changing.py"
        self._name = f"changing-{uuid4().hex[:8]}"
        (directory / "prefect.yaml").write_text(
            dedent(f"""
                name: changing
                pull:
                  - prefect.deployments.steps.set_working_directory:
                      directory: "{directory}"
                deployments:
                  - name: test
                    entrypoint: "changing.py:changing"
                    work_pool: {{name: executions}}
            """)
        )
        self.becomes(FIRST)

    def becomes(self, code: str) -> None:
        """Deploy new code."""
        self._file.write_text(dedent(code).format(name=self._name))
        self._world.stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=self._file.parent)

    def begin(self) -> Answer:
        execution = self._world.create(self._name)
        self._world.until(execution, "it has paused", lambda e: e["status"] == "paused")
        return execution


@pytest.fixture
def changing(world: World, tmp_path: Path) -> Changing:
    return Changing(world, tmp_path)


def test_other_code_continues_with_the_state_that_it_makes_of_the_old_one(
    world: World, changing: Changing
) -> None:
    execution = changing.begin()

    changing.becomes(SECOND)
    world.resume(execution)
    failed = world.until(execution, "it fails", lambda e: e["status"] == "failed")
    assert failed["state"] == {"done": ["one"]}
    told = failed["prefect"]["message"]
    assert "state.times: does not fit Done: Field required." in told
    assert "It was saved by version first of the flow." in told
    assert "@execution(migrate=" in told

    changing.becomes(THIRD)
    world.resume(execution)
    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    assert ended["state"] == {"times": {"one": 1, "two": 1}}
    begun = [entry for entry in world.log(execution) if entry.kind is Kind.ATTEMPT]
    assert [entry.version for entry in begun] == ["first", "second", "third"]
    line = "The flow is of version third; the attempt before was of version second"
    eventually(lambda: line in world.logged(execution), "the change of code is logged")


def test_other_code_starts_over_from_the_beginning_if_it_can(
    world: World, changing: Changing
) -> None:
    """When the old state does not fit the new code, an earlier one may."""
    execution = changing.begin()
    changing.becomes(SECOND.replace("times: dict[str, int]", "times: dict[str, int] = {{}}"))

    world.resume(execution, checkpoint_id="ckpt_000000")

    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")
    assert ended["state"] == {"times": {"two": 1}}
