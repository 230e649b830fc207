"""What happens to the executions and when, drawn from a seed before anything runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Action(StrEnum):
    """What one round does."""

    KILL_FLOW = "SIGKILL to a flow process"
    TERM_FLOW = "SIGTERM to a flow process"
    FREEZE_FLOW = "SIGSTOP to a flow process, until it has long been given up"
    TERM_WORKER = "SIGTERM to a worker"
    KILL_WORKER = "SIGKILL to a worker"
    KILL_WORKER_AND_FLOWS = "SIGKILL to a worker and its flow processes"
    PAUSE_RESUME = "pause, and resume at once"
    PAUSE_RESUME_FROZEN = "pause and resume, while the process is stopped"
    PAUSE_WAIT_RESUME = "pause, and resume later"
    ROLL_BACK = "pause, and roll back to an earlier checkpoint"
    FORK = "fork from any checkpoint"
    EDIT = "pause, correct the state, and resume"
    CANCEL = "cancel in the Prefect UI"
    DELETE = "delete"
    RENAME_DEPLOYMENT = "rename the deployment of a paused execution"
    REPLACE_DEPLOYMENT = "delete a deployment, and SIGKILL to a flow process of it"
    KILL_POOL = "SIGKILL to the workers of a pool and their flow processes"
    KILL_SUPERVISOR = "SIGKILL to a supervisor"
    RESTART_S3 = "SIGKILL to the S3 server, and start it"
    RESTART_PREFECT = "SIGKILL to Prefect's server, and start it"


WEIGHTS = {
    Action.KILL_FLOW: 55,
    Action.TERM_FLOW: 5,
    Action.FREEZE_FLOW: 5,
    Action.TERM_WORKER: 3,
    Action.KILL_WORKER: 2,
    Action.KILL_WORKER_AND_FLOWS: 2,
    Action.PAUSE_RESUME: 7,
    Action.PAUSE_RESUME_FROZEN: 6,
    Action.PAUSE_WAIT_RESUME: 4,
    Action.ROLL_BACK: 4,
    Action.FORK: 2,
    Action.EDIT: 3,
    Action.CANCEL: 2,
    Action.DELETE: 2,
    Action.RENAME_DEPLOYMENT: 1,
    Action.REPLACE_DEPLOYMENT: 1,
    Action.KILL_POOL: 1,
    Action.KILL_SUPERVISOR: 3,
    Action.RESTART_S3: 2,
    Action.RESTART_PREFECT: 2,
}


@dataclass(frozen=True)
class Turn:
    """One round of a schedule.

    Args:
        number: Its number, from 1.
        action: What it does.
        after: How long after the round before, in seconds.
        target: Which of the possible targets it is, as a place in their list from 0 to 1.
        draw: A number from 0 to 1, for its other choices.
    """

    number: int
    action: Action
    after: float
    target: float
    draw: float


def actions(seed: int, rounds: int) -> list[Action]:
    """One action for each round, each as often as its weight says."""
    return Random(f"{seed} actions").choices([*WEIGHTS], [*WEIGHTS.values()], k=rounds)


def schedule(seed: int, actions: Iterable[Action], *, longest: float) -> Iterator[Turn]:
    """The rounds of these actions, at most `longest` seconds apart."""
    random = Random(f"{seed} rounds")
    for number, action in enumerate(actions, 1):
        after = random.uniform(0, longest)
        yield Turn(number, action, after, random.random(), random.random())
