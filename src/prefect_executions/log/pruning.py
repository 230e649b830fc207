"""Removing old checkpoints from a log, and other entries that are not needed any more."""

from collections.abc import Collection
from datetime import datetime

from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.recorded import makers

_AT_ONCE = 500  # headers that are read in one round


def prune(
    log: ExecutionLog,
    *,
    newest: int,
    labelled: bool,
    also: Collection[int],
    before: datetime,
) -> int:
    """Remove old checkpoints of an execution, and other entries that are not needed any more.

    A checkpoint that stays can still be read and rolled back to, since the entries stay that its
    state and journal are made of (see `makers`), even if these are old checkpoints themselves. So
    do the head, what it is made of and the entry in which its attempt began: the log goes on as
    before.

    A LIST per 1,000 entries, a GET of each one's header, and deletions in batches; only the LIST
    when there are no more entries than checkpoints to keep.

    Args:
        log: The log of the execution.
        newest: How many of the newest checkpoints stay.
        labelled: Whether checkpoints with a label stay, too.
        also: The numbers of other entries that stay.
        before: Only entries that were written before this time are removed.

    Returns:
        How many entries were removed.

    Raises:
        ExecutionNotFound: there is no log, or it has been deleted.
        CorruptEntry: a header is damaged; nothing was removed.
    """
    head = log.living_head(journal=False).entry
    there = [seq for seq in log.numbers() if seq <= head.seq]
    if len(there) <= newest:
        return 0
    needed = {*makers(head.seq), 0 if head.begun is None else head.begun}
    kept = 0
    for start in range(0, len(there), _AT_ONCE):  # newest first
        for entry in reversed(log.outlines_of(there[start : start + _AT_ONCE])):
            is_checkpoint = entry.kind is Kind.CHECKPOINT
            if (
                (is_checkpoint and (kept < newest or (labelled and entry.label is not None)))
                or entry.seq in also
                or entry.large_bytes  # a later journal may refer to them
                or entry.at >= before
            ):
                needed.update(makers(entry.seq))
            kept += is_checkpoint
    doomed = [seq for seq in there if seq not in needed]
    if doomed:
        log.mark_pruned()
        log.remove(doomed)
    return len(doomed)
