"""What all pages share: whose executions they show, and what a form has sent."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from prefect_executions.blocks.key import Permission
from prefect_executions.executions.executions import Executions
from prefect_executions.service.dependencies import caller_of
from prefect_executions.service.inspector.fields import Posted
from prefect_executions.service.inspector.rendering import PATH


class PageForbidden(Exception):
    """The key does not have the permission that a page requires."""


@dataclass(frozen=True)
class Pages:
    """Pages about executions.

    Args:
        executions: The executions that they show.
        changed: Called with each execution that a page has changed.
        allowed: The only deployments that may be started, as `flow/deployment`; None for all.
    """

    executions: Executions
    changed: Callable[[str], None]
    allowed: frozenset[str] | None = None

    def seen(self, request: Request, permission: Permission = Permission.READ) -> Executions:
        """The executions that the caller of a request may see.

        Raises:
            PageForbidden: The key of the caller does not have the permission.
        """
        caller = caller_of(request.scope)
        if permission not in caller.permissions:
            raise PageForbidden(permission)
        return self.executions.seen_by(caller.agents, caller.deployments)

    def done(self, execution_id: str) -> Response:
        """Lead to an execution that was changed."""
        self.changed(execution_id)
        return RedirectResponse(f"{PATH}/{execution_id}", HTTPStatus.SEE_OTHER)


def may(request: Request) -> dict[str, bool]:
    """What the caller of a request may do, by the names of permissions."""
    permissions = caller_of(request.scope).permissions
    return {permission.value: permission in permissions for permission in Permission}


async def posted(request: Request) -> Posted:
    """The controls of a form that was sent, by their names."""
    body = (await request.body()).decode("utf-8", "replace")
    return parse_qs(body, keep_blank_values=True)
