"""What a request has changed is told to others."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

from fastapi import Request

from prefect_executions.ids import flow_run_id

_READS = ("GET", "HEAD")


class Changing:
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
