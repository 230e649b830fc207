"""Routes that save, list, read and compare the checkpoints of an execution."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from prefect_executions.models import Checkpoint, CheckpointPage, Cost, Diff, Saved
from prefect_executions.service.dependencies import (
    PREFIX,
    ExecutionId,
    Readable,
    States,
    Writable,
    caller_of,
)
from prefect_executions.service.metrics import Metrics
from prefect_executions.service.requests import MAX_LIMIT, NewCheckpoint
from prefect_executions.service.responses import responses

_CheckpointId = Annotated[
    str, Path(description="The checkpoint: `ckpt_` and its number.", examples=["ckpt_000042"])
]

router = APIRouter(prefix=PREFIX, tags=["checkpoints"])


@router.put(
    "/{execution_id}/checkpoint",
    status_code=HTTPStatus.CREATED,
    responses=responses("status_conflict", "superseded", "state_invalid", body=True),
)
def save_checkpoint(
    id_: ExecutionId, new: NewCheckpoint, executions: Writable, request: Request
) -> Saved:
    """Save a checkpoint by hand, or as an agent outside Prefect, and learn whether to go on.

    To correct the state of an execution that a process runs in Prefect: pause it, save, resume it.
    The process keeps its own state, so that its next checkpoint would hide this one.
    """
    metrics: Metrics = request.app.state.metrics
    with metrics.checkpoint_seconds.time():
        saved = executions.checkpoint(id_, **dict(new), by=caller_of(request.scope).name)
    metrics.checkpoint_bytes.observe(saved.checkpoint.size)
    return saved


@router.get(
    "/{execution_id}/checkpoints", responses=responses("cursor_invalid", "checkpoint_not_found")
)
def list_checkpoints(
    id_: ExecutionId,
    executions: Readable,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=10_000, description="`next_cursor` of the page before.")
    ] = None,
    until: Annotated[
        str | None,
        Query(
            max_length=100,
            description="Begin at this checkpoint, or, where none has this id, at the newest "
            "before it; without `cursor`.",
        ),
    ] = None,
    states: States = False,
) -> CheckpointPage:
    """List the checkpoints of an execution, newest first."""
    return executions.checkpoints(id_, limit=limit, cursor=cursor, until=until, states=states)


@router.get(
    "/{execution_id}/checkpoints/{checkpoint_id}", responses=responses("checkpoint_not_found")
)
def get_checkpoint(
    id_: ExecutionId, checkpoint_id: _CheckpointId, executions: Readable
) -> Checkpoint:
    """Read one checkpoint, with its state."""
    return executions.read_checkpoint(id_, checkpoint_id)


@router.get(
    "/{execution_id}/checkpoints/{checkpoint_id}/diff/{other_id}",
    responses=responses("checkpoint_not_found", "diff_too_large"),
)
def diff_checkpoints(
    id_: ExecutionId, checkpoint_id: _CheckpointId, other_id: _CheckpointId, executions: Readable
) -> Diff:
    """What changes one checkpoint into another: the state, as JSON Patch, and recorded steps."""
    return executions.diff(id_, checkpoint_id, other_id)


@router.get("/{execution_id}/cost", responses=responses())
def get_cost(id_: ExecutionId, executions: Readable) -> Cost:
    """What an execution keeps in the store: entries, each of one PUT, and bytes."""
    return executions.cost(id_)
