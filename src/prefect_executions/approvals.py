"""The question whether an agent may call a tool, which a person answers."""

import json
from typing import Any

from pydantic import BaseModel, Field


class ToolApproval(BaseModel):
    """Whether a tool may be called."""

    approved: bool = Field(description="Whether the tool is called.")
    message: str = Field("", description="What the model is told where it is not.")


def prompt_about(question: str, *shown: Any) -> str:
    """The prompt of a question about a call.

    Args:
        question: What is asked, as Markdown.
        shown: What the call is given, as JSON; what is empty is left out.
    """
    parts = [question]
    for each in filter(None, shown):
        text = json.dumps(each, indent=2, ensure_ascii=False, default=str)
        fence = "```"
        while fence in text:
            fence += "`"
        parts.append(f"{fence}json\n{text}\n{fence}")
    return "\n\n".join(parts)


# The answer to it is a `ToolApproval`.
MAY_CALL = "May **{agent}** call `{tool}`?"
