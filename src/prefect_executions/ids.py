"""The ids of executions and checkpoints, from and to the ids and numbers that they stand for."""

import re
from uuid import UUID

from prefect_executions.errors import CheckpointNotFound, ExecutionNotFound

_EXECUTION_ID = re.compile(r"exec_([0-9a-f]{32})")


_CHECKPOINT_ID = re.compile(r"ckpt_([0-9]{6}|[1-9][0-9]{6,8})")


def execution_id(flow_run_id: UUID) -> str:
    """The id of the execution that a flow run is."""
    return f"exec_{flow_run_id.hex}"


def flow_run_id(execution_id: str) -> UUID:
    """The id of the flow run that an execution is.

    Raises:
        ExecutionNotFound: this is no execution's id.
    """
    if not (match := _EXECUTION_ID.fullmatch(execution_id)):
        raise ExecutionNotFound(execution_id)
    return UUID(match[1])


def checkpoint_id(seq: int) -> str:
    """The id of the checkpoint in log entry `seq`."""
    return f"ckpt_{seq:06d}"


def checkpoint_seq(execution_id: str, checkpoint_id: str) -> int:
    """The number of the log entry that a checkpoint is.

    Raises:
        CheckpointNotFound: this is no checkpoint's id.
    """
    if not (match := _CHECKPOINT_ID.fullmatch(checkpoint_id)):
        raise CheckpointNotFound(execution_id, checkpoint_id)
    return int(match[1])
