"""`timeout_seconds` of the flow: Prefect ends the function then, which fails the attempt."""

import asyncio
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.context import FlowRunContext

from prefect_executions.prefect.retries import grant_retry


class FlowTimeout:
    """The time that Prefect gives one call of a flow's function.

    Prefect begins it anew only where its own engine calls the function, so that is who tries a flow
    again that has such a limit and no deployment.

    Args:
        context: The flow run.

    Attributes:
        seconds: How long it is. None without a limit.
    """

    def __init__(self, context: FlowRunContext) -> None:
        self.seconds = context.flow.timeout_seconds if context.flow is not None else None
        self._context = context
        self._began: datetime = context.start_time

    def error_of(self, failure: BaseException) -> BaseException:
        """What a function was ended by: Prefect cancels one whose time is over."""
        if self.seconds is None or not isinstance(failure, asyncio.CancelledError):
            return failure
        if datetime.now(UTC) < self._began + timedelta(seconds=self.seconds):
            return failure  # it was cancelled otherwise
        # Takes 12 ms, and Prefect has loaded it when a flow runs.
        from prefect.flow_engine import FlowRunTimeoutError  # noqa: PLC0415

        error = FlowRunTimeoutError(f"the flow took more than timeout_seconds = {self.seconds:g}")
        error.__cause__ = failure
        return error

    def let_prefect_retry(self, client: SyncPrefectClient, delay: timedelta) -> None:
        """Let Prefect's engine call the flow once more in this process, when the attempt fails."""
        assert self._context.flow_run is not None
        grant_retry(client, self._context.flow_run.id, delay)
