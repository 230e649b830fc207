"""What routes depend on: the caller and its permission, `Prefer: wait`, a known query."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import Scope

from prefect_executions.blocks.key import NOBODY, Caller, Permission
from prefect_executions.errors import PrefectUnavailable, StoreUnavailable
from prefect_executions.ids import flow_run_id
from prefect_executions.service.problems import PermissionMissing

# What the OpenAPI document says of the key; the check itself comes before the body is read.
SECURITY = [
    Depends(HTTPBearer(auto_error=False, description="A key of the service.")),
    Depends(APIKeyHeader(name="x-api-key", auto_error=False, description="The same key.")),
]

_READS = ("GET", "HEAD")

LONGEST = 60.0  # seconds that `Prefer: wait` may ask for
_PAUSE = 0.25  # seconds between two looks
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?=$|[,;])', re.IGNORECASE)


def caller_of(scope: Scope) -> Caller:
    """Who sent a request; nobody, who may do nothing, where no key guard has let it pass."""
    found: Caller = scope.get("state", {}).get("caller", NOBODY)
    return found


class Require:
    """A dependency of routes: the caller, if its key has a permission.

    Args:
        permission: The permission; None: the route looks itself.
    """

    def __init__(self, permission: Permission | None = None) -> None:
        self._permission = permission

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            PermissionMissing: its key has not this permission.
        """
        caller = caller_of(request.scope)
        self.check(caller)
        return caller

    def check(self, caller: Caller) -> None:
        """Check a caller's permission.

        Raises:
            PermissionMissing: its key has not this permission.
        """
        if self._permission is not None and self._permission not in caller.permissions:
            raise PermissionMissing(self._permission)


class NotifyChange:
    """A dependency of routes: tells of the execution that a request has changed.

    Args:
        tell: Called with its flow run; must not block.
    """

    def __init__(self, tell: Callable[[UUID], None]) -> None:
        self._tell = tell

    async def __call__(self, request: Request) -> AsyncIterator[None]:
        """Tell, once the route has done its work."""
        yield
        id_ = request.path_params.get("execution_id")
        if request.method not in _READS and id_ is not None:
            self._tell(flow_run_id(id_))


async def require_known_query(request: Request) -> None:
    """Check the names of the query parameters of a request against the OpenAPI document.

    Raises:
        RequestValidationError: there is one that its route does not have.
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
    """How long a caller would wait for what it asks for.

    Args:
        seconds: So long; None: the caller did not say.
        response: Tells the caller that it was heard.
    """

    def __init__(self, seconds: float | None, response: Response) -> None:
        self.seconds = seconds
        if seconds is not None:
            response.headers["Preference-Applied"] = f"wait={seconds:g}"

    async def until(self, holds: Callable[[], bool], *, default: float | None = None) -> bool:
        """Wait for something that blocks when it is asked; whether it has come to hold.

        A store or a Prefect that is away meanwhile does not make undone what was asked for.

        Args:
            holds: Whether it does.
            default: How long to wait where the caller did not say, in seconds; None: not at all.
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
