"""Routes that create, list, read and delete executions, and that follow their events."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from prefect_executions.blocks.key import Permission
from prefect_executions.config import Status
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.comparing import MOST as MAX_COMPARED
from prefect_executions.executions.comparing import compare
from prefect_executions.executions.executions import DELETE_PATIENCE, Executions
from prefect_executions.ids import canonical, flow_run_id
from prefect_executions.models import (
    BulkResult,
    Comparison,
    Execution,
    ExecutionFilter,
    Order,
    Page,
)
from prefect_executions.service.bulk import to_each
from prefect_executions.service.dependencies import (
    PREFIX,
    Creating,
    Deletable,
    ExecutionId,
    OwnKey,
    Readable,
    States,
    Wait,
    answer_created,
    note_in_audit,
    permitted_executions,
)
from prefect_executions.service.problems import refusal_of
from prefect_executions.service.requests import MAX_LIMIT, Action, Bulk, NewExecution
from prefect_executions.service.responses import CREATION, responses
from prefect_executions.service.streams.stream import EventStream

DEFAULT_CHECKPOINTS = 100

_Checkpoints = Annotated[
    Annotated[int, Field(ge=0)] | Literal["all", "none"],
    Query(description="How many of the newest: a number, `all` or `none`."),
]

router = APIRouter(prefix=PREFIX, tags=["executions"])


class _Query(ExecutionFilter):
    """The filter of a list, and which part of it."""

    limit: int = Field(50, ge=1, le=MAX_LIMIT, description="How many at most.")
    cursor: str | None = Field(
        None, max_length=10_000, description="`next_cursor` of the page before."
    )
    order: Order = Field(Order.NEWEST_FIRST, description="Newest or oldest first.")


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses=responses(*CREATION, "checkpoint_not_found", body=True, ok="It was created before."),
)
def create_execution(
    new: NewExecution, creation: Creating, key: OwnKey, request: Request, response: Response
) -> Execution:
    """Create an execution.

    A worker starts the deployment's flow. Without a deployment the caller is the agent that
    runs it, as attempt 1, and `prefect.message` says what it does next. 200 when the same request
    was made before with this key.
    """
    fields = dict(new)
    if new.deployment is None and new.task_type is not None:
        fields["deployment"] = request.app.state.deployments.get(new.task_type)
    return answer_created(creation.create(**fields, key=key), request, response)


@router.get("", response_model=Page, responses=responses("cursor_invalid", one=False))
def list_executions(executions: Readable, filter_: Annotated[_Query, Query()]) -> Response:
    """List executions, by what Prefect knows of them: without states and checkpoints.

    No execution is listed twice, and none is left out that exists all the time. The last page is
    the one whose `next_cursor` is null: a page may be shorter than `limit`.
    """
    paging = {"limit", "cursor", "order"}
    wanted = ExecutionFilter(**filter_.model_dump(exclude=paging))
    return _ready(
        executions.search(wanted, limit=filter_.limit, cursor=filter_.cursor, order=filter_.order)
    )


@router.post("/bulk", responses=responses("cursor_invalid", one=False, body=True))
def act_on_executions(body: Bulk, request: Request) -> BulkResult:
    """Pause, resume or delete many executions, each for itself.

    What became of each stands in `items`; the answer is 200 also when some were refused.
    """
    deletes = body.action is Action.DELETE
    permission = Permission.DELETE if deletes else Permission.WRITE
    executions = permitted_executions(request, permission)
    ids, next_cursor = body.ids or [], None
    if body.filter is not None:
        page = executions.search(body.filter, limit=body.limit, cursor=body.cursor)
        ids, next_cursor = [item.id for item in page.items], page.next_cursor
    act = _acts(executions, body.reason)[body.action]
    note_in_audit(request, body.action, ids)
    items = to_each(ids, act, refusal_of)
    note_in_audit(request, "refused", [item.id for item in items if not item.ok])
    for item in items:
        if item.ok:
            request.app.state.changed(flow_run_id(item.id))
    return BulkResult(items=items, next_cursor=next_cursor)


@router.get("/compare", response_model=Comparison, responses=responses())
def compare_executions(
    ids: Annotated[
        list[Annotated[str, AfterValidator(canonical)]],
        Query(min_length=2, max_length=MAX_COMPARED, description="The executions."),
    ],
    executions: Readable,
) -> Response:
    """Compare executions with the first of them: results, steps, and states label by label.

    Steps are the same call by name and inputs, or by key; checkpoints belong together by label.
    """
    return _ready(compare(executions, ids))


@router.get(
    "/{execution_id}",
    response_model=Execution,
    responses=responses(not_modified="It is as it was."),
)
def get_execution(
    id_: ExecutionId,
    executions: Readable,
    checkpoints: _Checkpoints = DEFAULT_CHECKPOINTS,
    states: States = True,
    state: Annotated[bool, Query(description="Whether it comes with its newest state.")] = True,
    if_none_match: Annotated[
        str | None, Header(description="The `ETag` of an earlier answer.")
    ] = None,
) -> Response:
    """Read an execution, with its newest checkpoints.

    The `ETag` changes with status, state and checkpoints, and not with the time that passes: of
    a running execution `elapsed_seconds` grows under the same one. Nor does it change when
    retention removes old checkpoints.
    """
    wanted = sha256(f"{checkpoints}/{states}/{state}".encode()).hexdigest()[:8]
    if if_none_match is not None:
        tag = _etag(executions.version(id_), wanted)
        if tag in (known.strip() for known in if_none_match.split(",")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
    count = {"all": None, "none": 0}.get(f"{checkpoints}", checkpoints)
    execution, version = executions.get_with_version(
        id_, checkpoints=count if count is None else int(count), states=states, state=state
    )
    return _ready(execution, ETag=_etag(version, wanted))


@router.delete(
    "/{execution_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=responses(accepted="Its process needs longer to end."),
)
async def delete_execution(
    id_: ExecutionId, executions: Deletable, wait: Wait, response: Response
) -> None:
    """Delete an execution; one that runs is terminated first.

    From the first moment on it is 404, and its history can't be extended. 204 when all of it is
    gone; 202 when its process needs longer than 10 s, or than `Prefer: wait` says, to end: the
    supervisor finishes that, or a repeat of the call. A call for what has been deleted is 204, too.
    """
    delete = partial(executions.delete, id_, patience=0)
    try:
        if await to_thread.run_sync(delete):
            return
    except ExecutionNotFound:
        if await to_thread.run_sync(partial(executions.was_deleted, id_)):
            return
        raise
    ended = partial(executions.finish_cancelling, flow_run_id(id_))
    with suppress(ExecutionNotFound):  # a supervisor has finished it
        if not (
            await wait.until(ended, default=DELETE_PATIENCE) and await to_thread.run_sync(delete)
        ):
            response.status_code = HTTPStatus.ACCEPTED


@router.get(
    "/{execution_id}/events",
    response_class=Response,
    responses={
        **responses(),
        200: {
            "description": "Server-sent events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def stream_events(
    id_: ExecutionId,
    executions: Readable,
    request: Request,
    last_event_id: Annotated[
        str | None,
        Header(max_length=1000, description="The `id` of the last event that was seen."),
    ] = None,
) -> EventStream:
    """What happens to an execution, as server-sent events."""
    return EventStream(request.app.state.hub, executions, id_, last_event_id)


def _acts(
    executions: Executions, reason: str | None
) -> dict[Action, Callable[[str], Status | None]]:
    return {
        Action.PAUSE: lambda id_: executions.pause(id_, reason=reason)[0].status,
        Action.RESUME: lambda id_: executions.resume(id_).status,
        Action.DELETE: lambda id_: (
            None if executions.delete(id_, patience=0) else Status.TERMINATED
        ),
    }


def _ready(answer: BaseModel, **headers: str) -> Response:
    """Answer with a model that FastAPI need not validate again."""
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def _etag(version: str, wanted: str) -> str:
    return f'W/"{version}-{wanted}"'
