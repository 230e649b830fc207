"""Removing the old entries of a log that nobody needs any more."""

from collections.abc import Collection
from datetime import datetime

from prefect_executions.log.deltas import bases
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog

_AT_ONCE = 500  # headers that are read at once


def prune(
    log: ExecutionLog,
    *,
    newest: int,
    labelled: bool,
    also: Collection[int],
    before: datetime,
) -> int:
    """Remove old checkpoints of an execution, and other entries that are of no use any more.

    What stays, stays whole: with a checkpoint remain the entries that its texts are made from (see
    `chain`), which may be checkpoints themselves. With the head remain those that coming entries
    are made from; they are among the head's own. So the history goes on as if nothing had been
    removed, and every checkpoint that is listed can be gone back to.

    A LIST per 1,000 entries, a GET of each one's header, and deletions in batches; one LIST where
    there are no more entries than checkpoints are to stay.

    Args:
        log: Of the execution.
        newest: How many of the newest checkpoints stay.
        labelled: Whether those with a label stay, too.
        also: The numbers of others that stay.
        before: Only what was written before.

    Returns:
        How many entries were removed.

    Raises:
        ExecutionNotFound: there is no log, or it has been deleted.
        CorruptEntry: a header is damaged; nothing was removed.
    """
    head = log.living_head().entry
    there = [seq for seq in log.numbers() if seq <= head.seq]
    if len(there) <= newest:
        return 0
    needed = {*bases(head.seq), 0 if head.begun is None else head.begun}
    kept = 0
    for start in range(0, len(there), _AT_ONCE):  # newest first
        for entry in reversed(log.outlines_of(there[start : start + _AT_ONCE])):
            is_checkpoint = entry.kind is Kind.CHECKPOINT
            if (
                (is_checkpoint and (kept < newest or (labelled and entry.label is not None)))
                or entry.seq in also
                or entry.large_bytes  # which the journal may tell of
                or entry.at >= before
            ):
                needed.update(bases(entry.seq))
            kept += is_checkpoint
    doomed = [seq for seq in there if seq not in needed]
    log.remove(doomed)
    return len(doomed)
