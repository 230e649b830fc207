"""Steps in Prefect's transactions: what Prefect rolls back is undone in the log.

A transaction is rolled back when an exception leaves it, also that of a pause. It calls hooks of
its own, and then those of the tasks called in it, the newest first. A task is a transaction, too,
inside the one that it is called in: when it raises, the tasks that it has called are rolled back.
"""

from collections.abc import Iterator
from typing import Any

from prefect.exceptions import Pause
from prefect.transactions import BaseTransaction, CommitMode, get_transaction

from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.replay import Call


class RollbackHook:
    """The first hook that Prefect calls when it rolls back a call of a step.

    If the hooks of the step are to undo the call, the log says so before they do: the next attempt
    makes the call again, whenever this process dies. Otherwise they are not called:

    * Nothing would be undone: neither the step has such hooks, nor a transaction around it.
    * The flow pauses. The call stays done, and comes back when the flow goes on. But if a
      transaction around it has hooks of its own, it is undone: these have been called already.
    * The log can't say so, because another process has taken it over, or has undone the call.

    Args:
        recorder: Where the call is recorded.
        call: The call.
    """

    log_on_run = False  # Prefect does not log that it runs such hooks; its own are such, too

    def __init__(self, recorder: Recorder, call: Call) -> None:
        self._recorder = recorder
        self._call = call
        self._around = list(_active())

    def __call__(self, txn: BaseTransaction) -> None:
        """Record that the call is undone, or keep it.

        Raises:
            ExecutionError: It can't be recorded. Prefect logs that; no other hook is called.
        """
        if not self._is_undone(txn):
            txn.on_rollback_hooks.clear()  # also Prefect's, which shows the task run as rolled back

    def _is_undone(self, txn: BaseTransaction) -> bool:
        around = any(_has_hooks(each) for each in self._around if not each.is_committed())
        if not around and (self._recorder.is_pausing() or not _has_hooks(txn)):
            return False
        try:
            return self._recorder.record_rolled_back(self._call)
        except Pause:  # the flow leaves already, by what has left the transaction
            return False


def commits_itself() -> bool:
    """Whether a task that is called here is committed as soon as it has returned."""
    around = get_transaction()
    return around is None or around.commit_mode is CommitMode.EAGER


def _active() -> Iterator[BaseTransaction]:
    """The transactions that this code runs in, from the innermost."""
    txn: Any = get_transaction()
    while txn is not None:
        yield txn
        txn = txn.get_parent()


def _has_hooks(txn: BaseTransaction) -> bool:
    return any(getattr(hook, "log_on_run", True) for hook in txn.on_rollback_hooks)
