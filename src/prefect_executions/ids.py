"""Ids of executions and checkpoints, made from flow run ids and numbers of log entries and back."""

import re
from uuid import UUID

from prefect_executions.errors import CheckpointNotFound, ExecutionNotFound

EXECUTION_ID = re.compile(r"exec_([0-9a-f]{32})")
_CHECKPOINT_ID = re.compile(r"ckpt_([0-9]{6}|[1-9][0-9]{6,8})")


def execution_id(flow_run_id: UUID) -> str:
    """The id of the execution of a flow run."""
    return f"exec_{flow_run_id.hex}"


def flow_run_id(execution_id: str) -> UUID:
    """The id of an execution's flow run.

    Raises:
        ExecutionNotFound: this is not the id of an execution.
    """
    if not (match := EXECUTION_ID.fullmatch(execution_id)):
        raise ExecutionNotFound(execution_id)
    return UUID(match[1])


def is_execution_id(text: str) -> bool:
    """Whether a text is the id of an execution, as it is written here; there may be none."""
    return EXECUTION_ID.fullmatch(text) is not None


def canonical(execution_id: str) -> str:
    """An id as it is written here, from one with capitals or the dashes of a UUID."""
    plain = execution_id.lower().replace("-", "")
    return plain if is_execution_id(plain) else execution_id


def checkpoint_id(seq: int) -> str:
    """The id of the checkpoint in log entry `seq`."""
    return f"ckpt_{seq:06d}"


def checkpoint_seq(execution_id: str, checkpoint_id: str) -> int:
    """The number of a checkpoint's log entry.

    Raises:
        CheckpointNotFound: this is not the id of a checkpoint.
    """
    if not (match := _CHECKPOINT_ID.fullmatch(checkpoint_id)):
        raise CheckpointNotFound(execution_id, checkpoint_id)
    return int(match[1])
