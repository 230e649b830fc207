"""Which calls a task or a flow has made in an earlier try, when Prefect tries it again.

A plain task around steps, or a flow that is no execution, may have Prefect's `retries`. A further
try makes its calls once more: they are the calls of the try before, not others beside them.
"""

import threading
from collections.abc import Callable
from uuid import UUID

from prefect.context import FlowRunContext, TaskRunContext

from prefect_executions.prefect.subflows import outwards
from prefect_executions.steps.replay import Call

Tries = dict[UUID, int]  # the runs that code is in, and which try of each


class EarlierTries:
    """The calls made in tasks and flows that Prefect may try again.

    Args:
        choose: Returns which of several calls with one identity is the one made here, if any.
    """

    def __init__(self, choose: Callable[[list[Call]], Call | None]) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self._around = tries_here().keys()  # the execution's own run, and those around it
        self._made: dict[str, dict[int, tuple[Call, Tries]]] = {}  # by identity and number

    def find(self, key: str, begin: Callable[[], Call]) -> Call:
        """The call that an earlier try has made, or the one that `begin` makes."""
        now = {run: count for run, count in tries_here().items() if run not in self._around}
        if not now:
            return begin()
        with self._lock:
            made = self._made.setdefault(key, {})
            earlier = [call for call, tries in made.values() if _is_earlier(tries, now)]
            call = (earlier and self._choose(earlier)) or begin()
            made[call.order] = call, now
            return call


def _is_earlier(tries: Tries, now: Tries) -> bool:
    return any(now.get(run, count) > count for run, count in tries.items())


def tries_here() -> Tries:
    """The task and flow runs that this code is in, from the inside out."""
    tries: Tries = {}
    for task in outwards(TaskRunContext.get()):
        tries[task.task_run.id] = task.task_run.run_count
    for flow in outwards(FlowRunContext.get()):
        if flow.flow_run is not None:
            tries[flow.flow_run.id] = flow.flow_run.run_count
    return tries
