"""`make chaos SEED=1 ROUNDS=100`: a schedule of any length, and one line that sums it up."""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from chaos.chaos import Chaos
from chaos.cluster import AGENT, DEPLOYMENTS, Cluster
from chaos.schedule import actions, schedule


def main() -> int:
    """Run a schedule; its files are kept only if a law was broken."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    data = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {arguments.seed}, {arguments.rounds} rounds; data in {data}", flush=True)
    with Cluster(data, deployments=(*DEPLOYMENTS, AGENT)) as cluster:
        chaos = Chaos(
            cluster,
            seed=arguments.seed,
            executions=arguments.executions,
            steps=arguments.steps,
            report=lambda line: print(line, flush=True),
        )
        drawn = actions(arguments.seed, arguments.rounds)
        outcome = chaos.run(schedule(arguments.seed, drawn, longest=arguments.longest))
    for law, breaches in outcome.broken.items():
        for breach in breaches:
            print(f"{law}: {breach}")
    print(outcome, flush=True)
    if outcome.is_good:
        shutil.rmtree(data)
    return 0 if outcome.is_good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides the schedule")
    parser.add_argument("--rounds", type=int, default=100, help="how many things are done")
    parser.add_argument("--executions", type=int, default=8, help="how many there are at once")
    parser.add_argument("--steps", type=int, default=100, help="how many steps each takes")
    parser.add_argument("--longest", type=float, default=3, help="seconds between two rounds")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
