"""Whatever dies, no checkpoint is lost and no history splits: a short schedule of chaos.

`make chaos SEED=1 ROUNDS=100` runs a longer one.
"""

from pathlib import Path

import pytest

from chaos.chaos import Chaos
from chaos.cluster import Cluster
from chaos.schedule import WEIGHTS, Action, actions, schedule

pytestmark = pytest.mark.long


SHORT = [
    Action.KILL_FLOW,
    Action.PAUSE_RESUME_FROZEN,
    Action.RESTART_S3,
    Action.TERM_WORKER,
    Action.KILL_SUPERVISOR,
    Action.RESTART_PREFECT,
    Action.PAUSE_RESUME,
    Action.KILL_FLOW,
]


@pytest.mark.e2e
@pytest.mark.timeout(1200)
def test_a_short_schedule_loses_and_splits_nothing(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        chaos = Chaos(cluster, seed=1, executions=3, steps=60, report=print)

        outcome = chaos.run(schedule(1, SHORT, longest=4))

    assert outcome.broken == {law: [] for law in outcome.broken}
    assert outcome.counts["kills"] >= 2
    assert outcome.counts["executions"] >= 3


def test_a_schedule_follows_from_its_seed() -> None:
    drawn = actions(7, 2000)

    assert drawn == actions(7, 2000) != actions(8, 2000)
    assert {*drawn} == {*WEIGHTS} == {*Action}
    assert [*schedule(7, drawn, longest=3)] == [*schedule(7, drawn, longest=3)]
