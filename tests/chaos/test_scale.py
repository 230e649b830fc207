"""Many executions on many servers, some of which die.

`make scale SEED=1 EXECUTIONS=200` runs more of them.
"""

import os
from pathlib import Path

import pytest

from chaos.chaos import Chaos
from chaos.grid import Grid
from chaos.schedule import Action, actions, schedule
from chaos.servers import missing

SEED = int(os.environ.get("SEED", "1"))
EXECUTIONS = int(os.environ.get("EXECUTIONS", "40"))
AT_ONCE = 3 * (os.cpu_count() or 1)
LIMIT = max(2, AT_ONCE // 3)  # of each of two deployments

# Each at least once; the rest is random.
SURELY = [
    Action.REPLACE_DEPLOYMENT,  # of what it leaves, Prefect refuses each change for five minutes
    Action.KILL_POOL,
    Action.RESTART_PREFECT,
    Action.KILL_SUPERVISOR,
    Action.CANCEL,
    Action.DELETE,
    Action.RENAME_DEPLOYMENT,
    Action.DELETE,
    Action.PAUSE_WAIT_RESUME,
    Action.ROLL_BACK,
]


@pytest.mark.e2e
@pytest.mark.scale
@pytest.mark.timeout(3000)
@pytest.mark.skipif(missing() is not None, reason=f"{missing()}")
def test_of_many_executions_none_is_lost_doubled_or_misled(tmp_path: Path) -> None:
    drawn = SURELY + actions(SEED, EXECUTIONS // 5)
    with Grid(tmp_path, seed=SEED, limit=LIMIT) as grid:
        chaos = Chaos(
            grid,
            seed=SEED,
            executions=AT_ONCE,
            steps=10,
            total=EXECUTIONS,
            report=lambda s: print(s, flush=True),
        )

        outcome = chaos.run(schedule(SEED, drawn, longest=2))

    print(outcome)
    assert outcome.broken == {law: [] for law in outcome.broken}
    done = ("executions", "pools", "cancelled", "deleted", "rollbacks", "renamed", "replaced")
    done += ("refused", "forks", "full")  # what was done since deployments were gone or limited
    assert all(outcome.counts[name] for name in done), outcome
