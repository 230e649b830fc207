"""What routes depend on: the caller, the executions that it may see, `Prefer: wait`, and more.

They read from `app.state` what `create_app` has put there.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import AfterValidator
from starlette.types import Scope

from prefect_executions.blocks.key import NOBODY, Caller, Permission
from prefect_executions.errors import PrefectUnavailable, StoreUnavailable
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import canonical, flow_run_id, is_execution_id
from prefect_executions.models import Execution
from prefect_executions.service.problems import KeyForbidden

PREFIX = "/v1/execution"
LONGEST = 60.0  # seconds that `Prefer: wait` may ask for

# The key in the OpenAPI document; `Authentication` checks it before the body is read.
SECURITY = [
    Depends(HTTPBearer(auto_error=False, description="A key of the service.")),
    Depends(APIKeyHeader(name="x-api-key", auto_error=False, description="The same key.")),
]

_READS = ("GET", "HEAD")
_PAUSE = 0.25  # seconds between two checks
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?=$|[,;])', re.IGNORECASE)

ExecutionId = Annotated[
    str,
    AfterValidator(canonical),
    Path(
        alias="execution_id",
        description="The execution: `exec_` and 32 hex digits.",
        examples=["exec_0192f0c1a6b87c3d9e4f5a6b7c8d9e0f"],
    ),
]
States = Annotated[bool, Query(description="Whether checkpoints come with their states.")]


def caller_of(scope: Scope) -> Caller:
    """The caller of a request; `NOBODY` when the request has not passed `Authentication`."""
    found: Caller = scope.get("state", {}).get("caller", NOBODY)
    return found


def note_in_audit(request: Request, done: str, ids: Iterable[str]) -> None:
    """Name the executions that a request concerns, beside the one in its path, in the audit log.

    Args:
        request: The request.
        done: What is done to them.
        ids: The executions; what is no id concerns none, and is left out.
    """
    if known := [id_ for id_ in dict.fromkeys(ids) if is_execution_id(id_)]:
        notes_of(request.scope).append(" ".join([done, *known]))


def notes_of(scope: Scope) -> list[str]:
    """What a request has noted for the audit log."""
    notes: list[str] = scope.setdefault("state", {}).setdefault("notes", [])
    return notes


def audit_inside(scope: Scope) -> None:
    """Leave a request out of the audit log: what it changes is done by others, which are in it."""
    scope.setdefault("state", {})["audited_inside"] = True


def is_audited_inside(scope: Scope) -> bool:
    """Whether a request is left out of the audit log; see `audit_inside`."""
    return bool(scope.get("state", {}).get("audited_inside", False))


def permitted_caller(request: Request, permission: Permission) -> Caller:
    """The caller of a request, if its key has a permission.

    Raises:
        KeyForbidden: The key does not have it.
    """
    caller = caller_of(request.scope)
    if permission not in caller.permissions:
        raise KeyForbidden(f"This key has not the permission {permission.value!r}.")
    return caller


def permitted_executions(request: Request, permission: Permission) -> Executions:
    """The executions that the caller of a request may see, if its key has a permission.

    Raises:
        KeyForbidden: The key does not have it.
    """
    caller = permitted_caller(request, permission)
    executions: Executions = request.app.state.executions
    return executions.seen_by(caller.agents, caller.deployments)


class Require:
    """A dependency of routes: `permitted_caller`."""

    def __init__(self, permission: Permission) -> None:
        self._permission = permission

    async def __call__(self, request: Request) -> Caller:
        """The caller of a request."""
        return permitted_caller(request, self._permission)


class RequireAll(Require):
    """A dependency of routes: `permitted_caller`, who may see all executions."""

    async def __call__(self, request: Request) -> Caller:
        """The caller of a request."""
        caller = await super().__call__(request)
        if caller.is_narrowed:
            raise KeyForbidden(
                "This key is narrowed to some agents or deployments, and here the work of all is "
                "counted. Take a key that is not narrowed."
            )
        return caller


class Permitted:
    """A dependency of routes: `permitted_executions`."""

    def __init__(self, permission: Permission) -> None:
        self._permission = permission

    async def __call__(self, request: Request) -> Executions:
        """The executions that the caller of a request may see."""
        return permitted_executions(request, self._permission)


async def _creation(request: Request) -> Creation:
    """Creates executions for the caller of a request."""
    executions = permitted_executions(request, Permission.WRITE)
    return Creation(executions, request.app.state.allowed_deployments)


Creating = Annotated[Creation, Depends(_creation)]
Readable = Annotated[Executions, Depends(Permitted(Permission.READ))]
Writable = Annotated[Executions, Depends(Permitted(Permission.WRITE))]
Deletable = Annotated[Executions, Depends(Permitted(Permission.DELETE))]


async def _own_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Any string of yours. The same request with the same key creates nothing "
            "more, as long as the execution exists.",
        ),
    ] = None,
) -> str | None:
    """The idempotency key of a request, kept apart from those of other callers."""
    if idempotency_key is None:
        return None
    return f"{caller_of(request.scope).name}\n{idempotency_key}"


OwnKey = Annotated[str | None, Depends(_own_key)]


def answer_created(
    created: tuple[Execution, bool], request: Request, response: Response
) -> Execution:
    """Answer with an execution that was created; notify of the change, and note it.

    Args:
        created: The execution, and whether it is new.
        request: The request.
        response: Gets the `Location`, and status 200 when the execution is not new.
    """
    execution, is_new = created
    note_in_audit(request, "created" if is_new else "created before", [execution.id])
    if execution.prefect.attempt:  # an agent runs it; otherwise its process writes its page
        request.app.state.changed(execution.prefect.flow_run_id)
    response.headers["Location"] = f"{PREFIX}/{execution.id}"
    if not is_new:
        response.status_code = HTTPStatus.OK
    return execution


async def notify_change(request: Request) -> AsyncIterator[None]:
    """Notify of the change to the execution in the path, after its route has run."""
    yield
    id_ = request.path_params.get("execution_id")
    if request.method not in _READS and id_ is not None:
        request.app.state.changed(flow_run_id(canonical(id_)))


async def require_known_query(request: Request) -> None:
    """Check the names of the query parameters of a request against the OpenAPI document.

    Raises:
        RequestValidationError: The route does not have one of them.
    """
    if not request.query_params:
        return
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    known = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        what = f"is not known here; there are: {', '.join(sorted(known)) or 'none'}"
        raise RequestValidationError(
            [{"loc": ("query", name), "msg": what, "type": "extra_forbidden"} for name in unknown]
        )


class PreferWait:
    """How long the caller of a request is willing to wait, from its header `Prefer: wait`.

    Args:
        seconds: How long; None when the header is absent.
        response: Gets the header `Preference-Applied`.
    """

    def __init__(self, seconds: float | None, response: Response) -> None:
        self.seconds = seconds
        if seconds is not None:
            response.headers["Preference-Applied"] = f"wait={seconds:g}"

    async def until(self, holds: Callable[[], bool], *, default: float | None = None) -> bool:
        """Wait until a condition holds; whether it does.

        While the store or Prefect is not available, the wait goes on: the request itself is done.

        Args:
            holds: Checks the condition; it may block.
            default: How long to wait without the header, in seconds; None for not at all.
        """
        seconds = default if self.seconds is None else self.seconds
        if seconds is None:
            return False
        deadline = monotonic() + seconds
        while True:
            with suppress(PrefectUnavailable, StoreUnavailable):
                if await to_thread.run_sync(holds):
                    return True
            if monotonic() >= deadline:
                return False
            await asyncio.sleep(_PAUSE)


async def _preferred(
    response: Response,
    prefer: Annotated[
        str | None,
        Header(
            description=f"`wait=N`: answer when it has happened, after N seconds ({LONGEST:g} at "
            "most) in any case.",
            examples=["wait=10"],
        ),
    ] = None,
) -> PreferWait:
    match = _WAIT.search(prefer or "")
    return PreferWait(min(float(match[1]), LONGEST) if match else None, response)


Wait = Annotated[PreferWait, Depends(_preferred)]
