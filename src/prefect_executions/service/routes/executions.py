"""The REST routes, each a few lines over the executions."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import BaseModel, Field

from prefect_executions.blocks.key import Caller, Permission
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.agents import ExternalAgents
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import DELETE_PATIENCE, Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.models import (
    Begun,
    BulkResult,
    Checkpoint,
    CheckpointPage,
    Cost,
    Diff,
    Execution,
    ExecutionFilter,
    Order,
    Page,
    Resumed,
    Saved,
    Standing,
    Status,
)
from prefect_executions.service.bulk import to_each
from prefect_executions.service.dependencies import Require, Wait
from prefect_executions.service.metrics import Metrics
from prefect_executions.service.problems import told_of
from prefect_executions.service.requests import (
    MAX_LIMIT,
    Action,
    Bulk,
    Complete,
    Fail,
    Fork,
    Heartbeat,
    NewCheckpoint,
    NewExecution,
    Pause,
    Resume,
)
from prefect_executions.service.responses import answers
from prefect_executions.service.streams.hub import EventHub
from prefect_executions.service.streams.stream import EventStream

DEFAULT_CHECKPOINTS = 100
PREFIX = "/v1/execution"
_CREATES = (
    "state_invalid",
    "deployment_not_found",
    "parameters_invalid",
    "idempotency_conflict",
)

_Anybody = Annotated[Caller, Depends(Require())]  # who has a key at all
_Reader = Annotated[Caller, Depends(Require(Permission.READ))]
_Writer = Annotated[Caller, Depends(Require(Permission.WRITE))]
_Deleter = Annotated[Caller, Depends(Require(Permission.DELETE))]

_Id = Annotated[
    str,
    Path(
        alias="execution_id",
        description="The execution: `exec_` and 32 hex digits.",
        examples=["exec_0192f0c1a6b87c3d9e4f5a6b7c8d9e0f"],
    ),
]
_CheckpointId = Annotated[
    str, Path(description="The checkpoint: `ckpt_` and its number.", examples=["ckpt_000042"])
]
_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any string of yours. The same request with the same key creates nothing more, "
        "as long as the execution exists.",
    ),
]
_Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")]
_Cursor = Annotated[
    str | None, Query(max_length=10_000, description="`next_cursor` of the page before.")
]
_Checkpoints = Annotated[
    Annotated[int, Field(ge=0)] | Literal["all", "none"],
    Query(description="How many of the newest: a number, `all` or `none`."),
]
_States = Annotated[bool, Query(description="Whether checkpoints come with their states.")]


class _Query(ExecutionFilter):
    """The filter of a list, and which part of it."""

    limit: int = Field(50, ge=1, le=MAX_LIMIT, description="How many at most.")
    cursor: str | None = Field(
        None, max_length=10_000, description="`next_cursor` of the page before."
    )
    order: Order = Field(Order.NEWEST_FIRST, description="Newest or oldest first.")


def routes(
    everything: Executions,
    deployments: dict[str, str],
    hub: EventHub,
    metrics: Metrics,
    changed: Callable[[UUID], None],
) -> APIRouter:
    """The routes under `/v1/execution`.

    Args:
        everything: The executions.
        deployments: What runs a task type that is created without a deployment.
        hub: Hears of events in Prefect.
        metrics: Counts what is saved.
        changed: Told of the flow run of each execution that is created, or is one of many; those
            that a path names are told elsewhere.
    """
    router = APIRouter(prefix=PREFIX)

    def seen_by(caller: Caller) -> Executions:
        return everything.seen_by(caller.agents)

    def own(key: str | None, caller: Caller) -> str | None:
        """A key of a request, apart from those of other callers."""
        return None if key is None else f"{caller.name}\n{key}"

    def created(made: tuple[Execution, bool], response: Response) -> Execution:
        execution, is_new = made
        if execution.prefect.attempt:  # an agent's; of others the process writes the page
            changed(execution.prefect.flow_run_id)
        response.headers["Location"] = f"{PREFIX}/{execution.id}"
        if not is_new:
            response.status_code = HTTPStatus.OK
        return execution

    # ------------------------------------------------------------------ executions

    @router.post(
        "",
        status_code=HTTPStatus.CREATED,
        tags=["executions"],
        responses=answers(
            *_CREATES, "checkpoint_not_found", body=True, ok="It was created before."
        ),
    )
    def create_execution(
        new: NewExecution, caller: _Writer, response: Response, idempotency_key: _Key = None
    ) -> Execution:
        """Create an execution.

        A worker starts the deployment's flow. Without a deployment the caller is the agent that
        runs it, as attempt 1. 200 when the same request was made before with this key.
        """
        fields = dict(new)
        if new.deployment is None and new.task_type is not None:
            fields["deployment"] = deployments.get(new.task_type)
        creations = Creation(seen_by(caller))
        return created(creations.create(**fields, key=own(idempotency_key, caller)), response)

    @router.get(
        "",
        tags=["executions"],
        response_model=Page,
        responses=answers("cursor_invalid", one=False),
    )
    def list_executions(caller: _Reader, filter_: Annotated[_Query, Query()]) -> Response:
        """List executions, by what Prefect knows of them: without states and checkpoints.

        What one page has told no later page tells again, and nothing is left out that was there all
        the time. The end is where `next_cursor` is null: a page may be shorter than `limit`.
        """
        paging = {"limit", "cursor", "order"}
        wanted = ExecutionFilter(**filter_.model_dump(exclude=paging))
        return _ready(
            seen_by(caller).search(
                wanted, limit=filter_.limit, cursor=filter_.cursor, order=filter_.order
            )
        )

    @router.post(
        "/bulk", tags=["executions"], responses=answers("cursor_invalid", one=False, body=True)
    )
    def act_on_executions(body: Bulk, caller: _Anybody) -> BulkResult:
        """Pause, resume or delete many executions, each for itself.

        What became of each stands in `items`; the answer is 200 also when some were refused.
        """
        deletes = body.action is Action.DELETE
        Require(Permission.DELETE if deletes else Permission.WRITE).check(caller)
        executions = seen_by(caller)
        ids, next_cursor = body.ids or [], None
        if body.filter is not None:
            page = executions.search(body.filter, limit=body.limit, cursor=body.cursor)
            ids, next_cursor = [item.id for item in page.items], page.next_cursor
        act = _acts(executions, body.reason)[body.action]
        items = to_each(ids, act, told_of)
        for item in items:
            if item.ok:
                changed(flow_run_id(item.id))
        return BulkResult(items=items, next_cursor=next_cursor)

    @router.get(
        "/{execution_id}",
        tags=["executions"],
        response_model=Execution,
        responses=answers(not_modified="It is as it was."),
    )
    def get_execution(
        id_: _Id,
        caller: _Reader,
        checkpoints: _Checkpoints = DEFAULT_CHECKPOINTS,
        states: _States = True,
        if_none_match: Annotated[
            str | None, Header(description="The `ETag` of an earlier answer.")
        ] = None,
    ) -> Response:
        """Read an execution, with its newest checkpoints.

        The `ETag` changes with status, state and checkpoints, and not with the time that passes: of
        a running execution `elapsed_seconds` grows under the same one. Nor does it change when
        retention removes old checkpoints.
        """
        executions = seen_by(caller)
        wanted = sha256(f"{checkpoints}/{states}".encode()).hexdigest()[:8]
        if if_none_match is not None:
            tag = _etag(executions.version(id_), wanted)
            if tag in (known.strip() for known in if_none_match.split(",")):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        count = {"all": None, "none": 0}.get(f"{checkpoints}", checkpoints)
        execution, version = executions.get_with_version(
            id_, checkpoints=count if count is None else int(count), states=states
        )
        return _ready(execution, ETag=_etag(version, wanted))

    @router.delete(
        "/{execution_id}",
        status_code=HTTPStatus.NO_CONTENT,
        tags=["executions"],
        responses=answers(accepted="Its process needs longer to end."),
    )
    async def delete_execution(
        id_: _Id, caller: _Deleter, patience: Wait, response: Response
    ) -> None:
        """Delete an execution; one that runs is terminated first.

        From the first moment on it is 404, and its history can't be extended. 204 when all of it is
        gone; 202 when its process needs longer than 10 s, or than `Prefer: wait` says, to end: the
        supervisor finishes that, or a repeat of the call.
        """
        executions = seen_by(caller)
        delete = partial(executions.delete, id_, patience=0)
        if await to_thread.run_sync(delete):
            return
        ended = partial(executions.finish_cancelling, flow_run_id(id_))
        with suppress(ExecutionNotFound):  # a supervisor has finished it
            if not (
                await patience.until(ended, default=DELETE_PATIENCE)
                and await to_thread.run_sync(delete)
            ):
                response.status_code = HTTPStatus.ACCEPTED

    @router.get(
        "/{execution_id}/events",
        tags=["executions"],
        response_class=Response,
        responses={
            **answers(),
            200: {
                "description": "Server-sent events.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
        },
    )
    async def stream_events(
        id_: _Id,
        caller: _Reader,
        last_event_id: Annotated[
            str | None,
            Header(max_length=1000, description="The `id` of the last event that was seen."),
        ] = None,
    ) -> EventStream:
        """What happens to an execution, as server-sent events."""
        return EventStream(hub, seen_by(caller), id_, last_event_id)

    # ------------------------------------------------------------------ control

    @router.post(
        "/{execution_id}/pause",
        status_code=HTTPStatus.ACCEPTED,
        tags=["control"],
        responses=answers(
            "status_conflict", body=True, ok="It was paused already, or its process has left."
        ),
    )
    async def pause_execution(
        id_: _Id, caller: _Writer, patience: Wait, response: Response, body: Pause | None = None
    ) -> Execution:
        """Pause an execution: its process ends at its next checkpoint.

        202; 200 when it was paused already (that pause is left as it is), or when its process was
        seen to leave in the time that `Prefer: wait` says.
        """
        executions = seen_by(caller)
        pause = partial(executions.pause, id_, **dict(body or Pause()))
        execution, is_new = await to_thread.run_sync(pause)
        if await patience.until(lambda: executions.has_left(id_)):
            is_new = False
            execution = await to_thread.run_sync(partial(executions.get, id_, states=False))
        if not is_new:
            response.status_code = HTTPStatus.OK
        return execution

    @router.post(
        "/{execution_id}/resume",
        status_code=HTTPStatus.ACCEPTED,
        tags=["control"],
        responses=answers(
            "checkpoint_not_found",
            "status_conflict",
            "input_invalid",
            body=True,
            ok="Its next attempt has begun.",
        ),
    )
    async def resume_execution(
        id_: _Id, caller: _Writer, patience: Wait, response: Response, body: Resume | None = None
    ) -> Resumed:
        """Resume an execution that is paused, failed or terminated, from any checkpoint.

        202; 200 when its next attempt has begun in the time that `Prefer: wait` says. Resuming one
        whose process has just crashed takes up to 10 s, until the crash has settled in Prefect.
        """
        body = body or Resume()
        executions = seen_by(caller)
        resume = partial(
            executions.resume, id_, checkpoint_id=body.checkpoint_id, answer=body.input
        )
        resumed = await to_thread.run_sync(resume)
        if await patience.until(lambda: executions.has_begun(id_, resumed.prefect.attempt + 1)):
            response.status_code = HTTPStatus.OK
            now = await to_thread.run_sync(partial(executions.get, id_, states=False))
            resumed = Resumed(**dict(now), steps_behind=resumed.steps_behind)
        return resumed

    @router.post(
        "/{execution_id}/fork",
        status_code=HTTPStatus.CREATED,
        tags=["control"],
        responses=answers(
            *_CREATES,
            "checkpoint_not_found",
            "status_conflict",
            body=True,
            ok="It was created before.",
        ),
    )
    def fork_execution(
        id_: _Id,
        caller: _Writer,
        response: Response,
        body: Fork | None = None,
        idempotency_key: _Key = None,
    ) -> Execution:
        """Create an execution that continues from a checkpoint of this one, beside it.

        It has the checkpoint's state, and what steps had recorded by then is not run again.
        """
        body = body or Fork()
        creations = Creation(seen_by(caller))
        return created(
            creations.fork(id_, **dict(body), key=own(idempotency_key, caller)), response
        )

    # ------------------------------------------------------------------ checkpoints

    @router.put(
        "/{execution_id}/checkpoint",
        status_code=HTTPStatus.CREATED,
        tags=["checkpoints"],
        responses=answers("status_conflict", "superseded", "state_invalid", body=True),
    )
    def save_checkpoint(id_: _Id, new: NewCheckpoint, caller: _Writer) -> Saved:
        """Save a checkpoint by hand, and learn whether to go on.

        For a running or paused execution. A process that runs in Prefect keeps its own state, and
        its next checkpoint comes after this one.
        """
        with metrics.checkpoint_seconds.time():
            saved = seen_by(caller).checkpoint(id_, **dict(new))
        metrics.checkpoint_bytes.observe(saved.checkpoint.size)
        return saved

    @router.get(
        "/{execution_id}/checkpoints", tags=["checkpoints"], responses=answers("cursor_invalid")
    )
    def list_checkpoints(
        id_: _Id,
        caller: _Reader,
        limit: _Limit = 50,
        cursor: _Cursor = None,
        states: _States = False,
    ) -> CheckpointPage:
        """List the checkpoints of an execution, newest first."""
        return seen_by(caller).checkpoints(id_, limit=limit, cursor=cursor, states=states)

    @router.get(
        "/{execution_id}/checkpoints/{checkpoint_id}",
        tags=["checkpoints"],
        responses=answers("checkpoint_not_found"),
    )
    def get_checkpoint(id_: _Id, checkpoint_id: _CheckpointId, caller: _Reader) -> Checkpoint:
        """Read one checkpoint, with its state."""
        return seen_by(caller).read_checkpoint(id_, checkpoint_id)

    @router.get(
        "/{execution_id}/checkpoints/{checkpoint_id}/diff/{other_id}",
        tags=["checkpoints"],
        responses=answers("checkpoint_not_found"),
    )
    def diff_checkpoints(
        id_: _Id, checkpoint_id: _CheckpointId, other_id: _CheckpointId, caller: _Reader
    ) -> Diff:
        """What changes the state of one checkpoint into that of another, as JSON Patch."""
        return seen_by(caller).diff(id_, checkpoint_id, other_id)

    @router.get("/{execution_id}/cost", tags=["checkpoints"], responses=answers())
    def get_cost(id_: _Id, caller: _Reader) -> Cost:
        """What an execution keeps in the store: entries, each of one PUT, and bytes."""
        return seen_by(caller).cost(id_)

    # ------------------------------------------------------------------ agents outside Prefect

    @router.post(
        "/{execution_id}/attempt",
        status_code=HTTPStatus.CREATED,
        tags=["agents outside Prefect"],
        responses=answers("status_conflict"),
    )
    def begin_attempt(id_: _Id, caller: _Writer) -> Begun:
        """Begin an attempt: from now on the caller runs the execution, and nobody else.

        It continues from `state`, and reports as attempt `prefect.attempt`. For an execution that
        was resumed, is to be tried again, or whose agent was restarted.
        """
        return ExternalAgents(seen_by(caller)).begin(id_)

    @router.post(
        "/{execution_id}/heartbeat",
        tags=["agents outside Prefect"],
        responses=answers("status_conflict", "superseded", body=True),
    )
    def send_heartbeat(id_: _Id, body: Heartbeat, caller: _Writer) -> Standing:
        """Say that an attempt is alive, and learn whether to go on.

        Silence for longer than three `checkpoint_interval_seconds` counts as a crash; a checkpoint
        is a sign of life, too.
        """
        return ExternalAgents(seen_by(caller)).heartbeat(id_, body.attempt)

    @router.post(
        "/{execution_id}/complete",
        status_code=HTTPStatus.ACCEPTED,
        tags=["agents outside Prefect"],
        responses=answers("status_conflict", "superseded", "state_invalid", body=True),
    )
    def complete_execution(id_: _Id, caller: _Writer, body: Complete | None = None) -> Execution:
        """Say that an execution is done, with its last state and a result."""
        return ExternalAgents(seen_by(caller)).complete(id_, **dict(body or Complete()))

    @router.post(
        "/{execution_id}/fail",
        status_code=HTTPStatus.ACCEPTED,
        tags=["agents outside Prefect"],
        responses=answers("status_conflict", "superseded", "state_invalid", body=True),
    )
    def fail_execution(id_: _Id, body: Fail, caller: _Writer) -> Execution:
        """Say that an attempt has failed: it is to be tried again while retries are left."""
        return ExternalAgents(seen_by(caller)).fail(id_, **dict(body))

    return router


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
    """An answer that FastAPI does not check against its model once more: it is one."""
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def _etag(version: str, wanted: str) -> str:
    return f'W/"{version}-{wanted}"'
