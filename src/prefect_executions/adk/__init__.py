"""Agents of Google ADK as executions: their calls are recorded, people confirm those of tools.

It needs the extra: `pip install "prefect-executions[adk]"`.
"""

from prefect_executions.extras import require_extra

require_extra("adk")

from prefect_executions.adk.plugin import ExecutionsPlugin  # noqa: E402
from prefect_executions.adk.sessions import StateSessions  # noqa: E402

__all__ = ["ExecutionsPlugin", "StateSessions"]
