"""One version of the package goes on with what another has begun, in both directions.

The other version is the newest with a tag, built and installed; see `upgrading.released`. All that
runs of the first one is killed before the second one starts. `make release` runs these.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest

from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from upgrading import RETRY_SECONDS, Side, Version, place, released, tree
from world import eventually

pytestmark = [pytest.mark.upgrade, pytest.mark.timeout(900)]

APPLES_AND_PEARS = ["paid apples", "paid pears"]


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Version]:
    return {"released": released(tmp_path_factory.mktemp("released")), "tree": tree()}


@dataclass(frozen=True)
class Upgrade:
    """Executions that one version has left, and the version that goes on with them.

    Args:
        stack: The Prefect and the store.
        old: The version that has begun them, all of whose processes are dead.
        new: The one that runs now.
        left: The executions, by how they were left.
    """

    stack: Stack
    old: Side
    new: Side
    left: dict[str, str]

    def effects(self, id_: str) -> list[str]:
        """What an execution has done, without its attempts and its waiting."""
        notes = self.new.notes(id_)
        return [line for line in notes if not line.startswith(("attempt ", "waits"))]

    def attempts(self, id_: str) -> list[str]:
        """The folder of the package that each attempt has run."""
        notes = self.new.notes(id_)
        return [line.split()[3] for line in notes if line.startswith("attempt ")]

    @property
    def both(self) -> list[str]:
        """The folders of an attempt of the old version, and one of the new."""
        return [f"{side.version.code}" for side in (self.old, self.new)]

    def keys(self, id_: str) -> list[str]:
        """What the store has of an execution."""
        return list(self.stack.store.open().scan(f"{id_[-2:]}/{id_}/"))

    def has_flow_run(self, id_: str) -> bool:
        """Whether Prefect knows it."""
        run: UUID = flow_run_id(id_)
        return httpx.get(f"{self.stack.api_url}/flow_runs/{run}").is_success


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("released", "tree", True), id="upgraded, in a bucket"),
        pytest.param(("tree", "released", True), id="gone back, in a bucket"),
        pytest.param(("released", "tree", False), id="upgraded, in a directory"),
        pytest.param(("tree", "released", False), id="gone back, in a directory"),
    ],
)
def upgrade(
    request: pytest.FixtureRequest,
    versions: dict[str, Version],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Upgrade]:
    begun_by, continued_by, bucket = request.param
    with place(tmp_path_factory.mktemp("upgrade"), bucket=bucket) as stack:
        old = Side(versions[begun_by], stack, "old")
        new = Side(versions[continued_by], stack, "new")
        try:
            old.set_up(stack.store)
            old.start()
            left = leave(old)
            new.start()
            yield Upgrade(stack, old, new, left)
        finally:
            old.kill()
            new.kill()


def leave(side: Side) -> dict[str, str]:
    """Leave executions in the middle of what they do, and return their ids."""
    stops = {"killed": "be-killed", "asking": "ask", "undoing": "pause", "deleted": "be-killed"}
    left = {how: side.create(stop) for how, stop in stops.items()}
    for how in ("killed", "deleted"):
        side.until_noted(left[how], "waits")
    side.until(left["asking"], "paused")
    paused = side.until(left["undoing"], "paused")
    left["failed"] = side.create("fail", retry_delay_seconds=RETRY_SECONDS)
    side.until(left["failed"], "AwaitingRetry")

    side.worker.kill()  # from here on nobody carries out what is asked for
    (apples,) = (each for each in paused["checkpoints"] if each["label"] == "apples")
    side.resume(left["undoing"], checkpoint_id=apples["id"])
    half = side.rest.delete(f"/v1/execution/{left['deleted']}", headers={"Prefer": "wait=0"})
    assert half.status_code == 202, half.text
    side.service.kill()
    for how in ("killed", "deleted"):
        os.kill(pid(side, left[how]), signal.SIGKILL)
    return left


def pid(side: Side, id_: str) -> int:
    """The process of an execution's first attempt."""
    return int(side.notes(id_)[0].split()[2])


def require_done(upgrade: Upgrade, id_: str, effects: list[str]) -> None:
    """Check that an execution completes in its second attempt, with these effects in all."""
    ended = upgrade.new.until(id_, "completed")

    assert ended["result"] == "3.30"
    assert upgrade.effects(id_) == effects
    assert upgrade.attempts(id_) == upgrade.both


def test_what_ran_and_was_killed_goes_on(upgrade: Upgrade) -> None:
    require_done(upgrade, upgrade.left["killed"], [*APPLES_AND_PEARS, "paid plums"])


def test_a_question_is_answered(upgrade: Upgrade) -> None:
    id_ = upgrade.left["asking"]
    assert upgrade.new.get(id_)["status"] == "paused"

    upgrade.new.resume(id_, input={"approved": True})

    require_done(upgrade, id_, [*APPLES_AND_PEARS, "approved: True", "paid plums"])


def test_what_waits_for_a_retry_is_tried_again(upgrade: Upgrade) -> None:
    require_done(upgrade, upgrade.left["failed"], [*APPLES_AND_PEARS, "paid plums"])


def test_what_a_roll_back_has_left_is_undone(upgrade: Upgrade) -> None:
    effects = [*APPLES_AND_PEARS, "refunded pears", "paid pears", "paid plums"]

    require_done(upgrade, upgrade.left["undoing"], effects)


def test_a_deletion_is_finished(upgrade: Upgrade) -> None:
    id_ = upgrade.left["deleted"]

    eventually(lambda: not upgrade.has_flow_run(id_), "its flow run is removed")

    assert upgrade.keys(id_) == []
    assert upgrade.new.rest.get(f"/v1/execution/{id_}").status_code in (404, 410)
    assert upgrade.effects(id_) == APPLES_AND_PEARS
