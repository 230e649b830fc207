"""Agents of Pydantic AI as executions: their calls are recorded, and people answer their questions.

It needs the extra: `pip install "prefect-executions[pydantic-ai]"`.
"""

from prefect_executions.extras import require_extra

require_extra("pydantic-ai")

from prefect_executions.pydantic_ai.durability import ExecutionsDurability  # noqa: E402
from prefect_executions.pydantic_ai.history import MessageHistory  # noqa: E402

__all__ = ["ExecutionsDurability", "MessageHistory"]
