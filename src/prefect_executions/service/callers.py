"""Who has sent a request, and what they may do."""

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import Scope

from prefect_executions.blocks.key import NOBODY, Caller, Permission
from prefect_executions.service.problems import PermissionMissing

# What the OpenAPI document says of the key; the check itself comes before the body is read.
SECURITY = [
    Depends(HTTPBearer(auto_error=False, description="A key of the service.")),
    Depends(APIKeyHeader(name="x-api-key", auto_error=False, description="The same key.")),
]


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
