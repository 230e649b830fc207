"""Routes by which agents outside Prefect run an execution."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends

from prefect_executions.executions.agents import ExternalAgents
from prefect_executions.models import Begun, Execution, Standing
from prefect_executions.service.dependencies import PREFIX, ExecutionId, Writable
from prefect_executions.service.requests import Complete, Fail, Heartbeat
from prefect_executions.service.responses import responses

router = APIRouter(prefix=PREFIX, tags=["agents outside Prefect"])


async def _agents(executions: Writable) -> ExternalAgents:
    return ExternalAgents(executions)


_Agents = Annotated[ExternalAgents, Depends(_agents)]


@router.post(
    "/{execution_id}/attempt",
    status_code=HTTPStatus.CREATED,
    responses=responses("status_conflict"),
)
def begin_attempt(id_: ExecutionId, agents: _Agents) -> Begun:
    """Begin an attempt: from now on the caller runs the execution, and nobody else.

    It continues from `state`, and reports as attempt `prefect.attempt`. For an execution that
    was resumed, is to be tried again, or whose agent was restarted.
    """
    return agents.begin(id_)


@router.post(
    "/{execution_id}/heartbeat", responses=responses("status_conflict", "superseded", body=True)
)
def send_heartbeat(id_: ExecutionId, body: Heartbeat, agents: _Agents) -> Standing:
    """Say that an attempt is alive, and learn whether to go on.

    Silence for longer than three `checkpoint_interval_seconds` counts as a crash; a checkpoint
    is a sign of life, too.
    """
    return agents.heartbeat(id_, body.attempt)


@router.post(
    "/{execution_id}/complete",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses("status_conflict", "superseded", "state_invalid", body=True),
)
def complete_execution(
    id_: ExecutionId, agents: _Agents, body: Complete | None = None
) -> Execution:
    """Say that an execution is done, with its last state and a result."""
    return agents.complete(id_, **dict(body or Complete()))


@router.post(
    "/{execution_id}/fail",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses("status_conflict", "superseded", "state_invalid", body=True),
)
def fail_execution(id_: ExecutionId, body: Fail, agents: _Agents) -> Execution:
    """Say that an attempt has failed: it is to be tried again while retries are left."""
    return agents.fail(id_, **dict(body))
