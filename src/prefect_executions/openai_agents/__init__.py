"""Agents of the OpenAI Agents SDK as executions: their calls are recorded, people approve of tools.

It needs the extra: `pip install "prefect-executions[openai-agents]"`.
"""

from prefect_executions.extras import require_extra

require_extra("openai-agents")

from prefect_executions.openai_agents.conversation import Conversation  # noqa: E402
from prefect_executions.openai_agents.runs import run, run_streamed  # noqa: E402

__all__ = ["Conversation", "run", "run_streamed"]
