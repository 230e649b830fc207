"""Routes that pause, cancel, resume and fork an execution."""

from functools import partial
from http import HTTPStatus

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from prefect_executions.executions.plans import Changes
from prefect_executions.models import Execution, Forked, Question, Resumed
from prefect_executions.service.dependencies import (
    PREFIX,
    Creating,
    ExecutionId,
    OwnKey,
    Readable,
    Wait,
    Writable,
    answer_created,
    caller_of,
)
from prefect_executions.service.requests import Fork, Pause, Resume
from prefect_executions.service.responses import CREATION, responses

router = APIRouter(prefix=PREFIX, tags=["control"])


@router.post(
    "/{execution_id}/pause",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(
        "status_conflict", body=True, ok="It was paused already, or its process has left."
    ),
)
async def pause_execution(
    id_: ExecutionId,
    executions: Writable,
    wait: Wait,
    response: Response,
    body: Pause | None = None,
) -> Execution:
    """Pause an execution: its process ends at its next checkpoint.

    202; 200 when it was paused already (that pause is left as it is), or when its process was
    seen to leave in the time that `Prefer: wait` says.
    """
    pause = partial(executions.pause, id_, **dict(body or Pause()))
    execution, is_new = await to_thread.run_sync(pause)
    if await wait.until(lambda: executions.has_left(id_)):
        is_new = False
        execution = await to_thread.run_sync(partial(executions.get, id_, states=False))
    if not is_new:
        response.status_code = HTTPStatus.OK
    return execution


@router.post(
    "/{execution_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(
        "status_conflict", ok="It was terminated already, or its process has ended."
    ),
)
async def cancel_execution(
    id_: ExecutionId, executions: Writable, wait: Wait, response: Response
) -> Execution:
    """Terminate an execution and keep it: its process is stopped, and it can be resumed.

    202; 200 when it was terminated already, or when its process was seen to end in the time that
    `Prefer: wait` says.
    """
    execution, is_new = await to_thread.run_sync(executions.cancel, id_)
    if await wait.until(lambda: executions.finish_cancelling(execution.prefect.flow_run_id)):
        is_new = False
        execution = await to_thread.run_sync(partial(executions.get, id_, states=False))
    if not is_new:
        response.status_code = HTTPStatus.OK
    return execution


@router.get("/{execution_id}/question", responses=responses("question_not_found"))
def get_question(id_: ExecutionId, executions: Readable) -> Question:
    """Read what an execution asks, by `run.ask`: it is paused until a resume has the answer."""
    return executions.question(id_)


@router.post(
    "/{execution_id}/resume",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(
        "checkpoint_not_found",
        "status_conflict",
        "input_invalid",
        body=True,
        ok="Its next attempt has begun.",
    ),
)
async def resume_execution(
    id_: ExecutionId,
    executions: Writable,
    wait: Wait,
    request: Request,
    response: Response,
    body: Resume | None = None,
) -> Resumed:
    """Resume an execution that is paused, failed or terminated, from any checkpoint.

    202; 200 when its next attempt has begun in the time that `Prefer: wait` says. Resuming one
    whose process has just crashed takes up to 10 s, until the crash has settled in Prefect.
    """
    body = body or Resume()
    resume = partial(
        executions.resume,
        id_,
        checkpoint_id=body.checkpoint_id,
        answer=body.input,
        force=body.force,
        by=caller_of(request.scope).name,
        reason=body.reason,
    )
    resumed = await to_thread.run_sync(resume)
    if await wait.until(lambda: executions.has_begun(id_, resumed.prefect.attempt + 1)):
        response.status_code = HTTPStatus.OK
        now = await to_thread.run_sync(partial(executions.get, id_, states=False))
        resumed = Resumed(**dict(now), steps_behind=resumed.steps_behind)
    return resumed


@router.post(
    "/{execution_id}/fork",
    status_code=HTTPStatus.CREATED,
    responses=responses(
        *CREATION,
        "checkpoint_not_found",
        "status_conflict",
        body=True,
        ok="It was created before.",
    ),
)
def fork_execution(
    id_: ExecutionId,
    creation: Creating,
    key: OwnKey,
    request: Request,
    response: Response,
    body: Fork | None = None,
) -> Forked:
    """Create an execution that continues from a checkpoint of this one, beside it.

    It has the checkpoint's state, and what steps had recorded by then is not run again. It may
    differ in its state, parameters, deployment and config. With `count` there are several, made all
    or none, and the answer is the first of them.
    """
    fields = dict(body or Fork())
    count = fields.pop("count")
    made = creation.forks(id_, Changes(**fields), count=count, key=key)
    for other in made[1:]:
        answer_created(other, request, response)
    first = answer_created(made[0], request, response)
    return Forked(**dict(first), forks=[each.id for each, _ in made])
