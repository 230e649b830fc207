"""The extension `io.modelcontextprotocol/tasks`: an execution is a task, with the same id.

| execution | task |
|---|---|
| running | working |
| paused, and asks something | input_required |
| paused otherwise | working, with a `statusMessage` |
| completed, failed, terminated | completed, failed, cancelled |

A failed or terminated execution that somebody resumes is `working` again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    RequestParams,
    TextContent,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from prefect_executions.client import Conflict, Invalid, NotFound, ServiceError
from prefect_executions.client.watching import ENDED
from prefect_executions.config import Status
from prefect_executions.errors import StateError
from prefect_executions.mcp.access import Access
from prefect_executions.mcp.answers import ExecutionReport
from prefect_executions.mcp.reading import POINTS, question_of, reported
from prefect_executions.mcp.refusals import reason_of
from prefect_executions.models import Question
from prefect_executions.serialization import timestamp

IDENTIFIER = "io.modelcontextprotocol/tasks"
POLL_MILLISECONDS = 2_000
CREATING = {"create_execution", "fork_execution"}

_STATUSES = {
    Status.RUNNING: "working",
    Status.PAUSED: "working",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.TERMINATED: "cancelled",
}


class TaskParams(RequestParams):
    """What `tasks/get` and `tasks/cancel` take."""

    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    """What `tasks/update` takes."""

    input_responses: dict[str, dict[str, Any]] = Field(alias="inputResponses")


class Tasks(Extension):
    """Executions as tasks, for clients that declare the extension on their request.

    Args:
        access: The clients of the service.
    """

    identifier = IDENTIFIER

    def __init__(self, access: Access) -> None:
        self._access = access

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of the extension."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", TaskParams, self._get, versions),
            MethodBinding("tasks/update", UpdateParams, self._update, versions),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, versions),
        ]

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Answer a call that creates an execution with the task that it is."""
        result = await call_next(ctx)
        creates = params.name in CREATING and _is_declared(ctx)
        if not creates or not isinstance(result, CallToolResult) or result.is_error:
            return result
        report = ExecutionReport.model_validate(result.structured_content)
        return {"resultType": "task", **_task(report)}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, IDENTIFIER)
        with _refusals():
            async with self._access.plain_client(ctx) as client:
                found = await client.get(
                    params.task_id, checkpoints=POINTS, states=False, state=False
                )
                return _detailed(await reported(client, found))

    async def _update(
        self, ctx: ServerRequestContext[Any, Any], params: UpdateParams
    ) -> HandlerResult:
        """Answer the question; a response to another one, or that declines, changes nothing."""
        require_client_extension(ctx, IDENTIFIER)
        with _refusals():
            async with self._access.plain_client(ctx) as client:
                question = await question_of(client, params.task_id)
                given = params.input_responses.get(question.id) if question else None
                if given is not None and given.get("action") == "accept":
                    await client.resume(params.task_id, input=given.get("content") or {})
        return {}

    async def _cancel(
        self, ctx: ServerRequestContext[Any, Any], params: TaskParams
    ) -> HandlerResult:
        """Terminate the execution; one that has ended stays as it is."""
        require_client_extension(ctx, IDENTIFIER)
        with _refusals():
            async with self._access.plain_client(ctx) as client:
                try:
                    await client.cancel(params.task_id)
                except Conflict as error:
                    if error.execution_status not in ENDED:
                        raise
        return {}


def _is_declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = (capabilities and capabilities.extensions) or {}
    return IDENTIFIER in declared and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _task(report: ExecutionReport) -> dict[str, Any]:
    """The fields of every task."""
    asks = report.question is not None
    task = {
        "taskId": report.id,
        "status": "input_required" if asks else _STATUSES[report.status],
        "createdAt": timestamp(report.created_at),
        "lastUpdatedAt": timestamp(report.updated_at),
        "ttlMs": None,
        "pollIntervalMs": POLL_MILLISECONDS,
    }
    if message := _message(report):
        task["statusMessage"] = message
    return task


def _message(report: ExecutionReport) -> str | None:
    if report.status is Status.PAUSED and report.question is None:
        why = f": {report.prefect.message}" if report.prefect.message else ""
        return f"It is paused{why}. resume_execution continues it."
    return report.prefect.message or report.prefect.runs_on


def _detailed(report: ExecutionReport) -> dict[str, Any]:
    """A task, with what its status comes with."""
    task = _task(report)
    if report.question is not None:
        asked = _elicitation(report.question)
        task["inputRequests"] = {
            report.question.id: asked.model_dump(by_alias=True, mode="json", exclude_none=True)
        }
    elif report.status is Status.COMPLETED:
        result = CallToolResult(
            content=[TextContent(type="text", text=report.model_dump_json(indent=2))],
            structured_content=report.model_dump(mode="json", by_alias=True),
        )
        task["result"] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    elif report.status is Status.FAILED:
        message = report.prefect.message or "It has failed."
        task["error"] = {"code": INTERNAL_ERROR, "message": message}
    return task


def _elicitation(question: Question) -> ElicitRequest:
    """A question as the request of a form, whose fields stand for themselves."""
    schema = question.answer_schema
    definitions = schema.get("$defs", {})
    fields = {
        name: _plain(field, definitions) for name, field in schema.get("properties", {}).items()
    }
    form = {"type": "object", "properties": fields, "required": schema.get("required", [])}
    return ElicitRequest(
        params=ElicitRequestFormParams(message=question.prompt, requested_schema=form)
    )


def _plain(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field without references, and without null where that is an alternative."""
    choices = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
    found = choices[0] if len(choices) == 1 else field
    named = definitions.get(found.get("$ref", "").rpartition("/")[2], {})
    kept = {name: value for name, value in field.items() if name not in ("anyOf", "$ref")}
    rest = {name: value for name, value in found.items() if name not in ("$ref",)}
    return {**named, **rest, **kept}


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise what the service refuses as an error of the protocol."""
    try:
        yield
    except (NotFound, Invalid, Conflict) as error:
        raise MCPError(code=INVALID_PARAMS, message=reason_of(error)) from error
    except StateError as error:
        raise MCPError(code=INVALID_PARAMS, message=f"{error}") from error
    except ServiceError as error:
        raise MCPError(code=INTERNAL_ERROR, message=reason_of(error)) from error
