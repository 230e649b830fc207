"""The Resume form of a paused execution: where to continue from."""

from collections.abc import Iterable
from typing import Any

from prefect_executions.errors import AnswerError
from prefect_executions.journal import Record, behind
from prefect_executions.log import History
from prefect_executions.models import checkpoint_id
from prefect_executions.pauses import Form

LATEST = "latest"
CHOICES = 25  # how many of the newest checkpoints it offers
_STEPS_NAMED = 10


def resume_form(history: History) -> Form:
    """The form, with the newest checkpoints to choose from, and what lies behind each.

    Args:
        history: With at least the newest `CHOICES` checkpoints.
    """
    choices = [LATEST]
    lines = ["Continue from the latest state, or roll back to an earlier checkpoint."]
    for entry in history.checkpoints()[:CHOICES]:
        name = checkpoint_id(entry.seq)
        label = f" · {entry.label}" if entry.label else ""
        choices.append(f"{name}{label} · {entry.at:%Y-%m-%d %H:%M:%S} UTC · {entry.size:,} B")
        if lost := behind(history.head.journal, history.journal(entry.seq)):
            lines.append(f"* Behind `{name}` lie {describe(lost)}")
    if len(lines) > 1:
        lines.insert(1, "Steps behind a checkpoint have had their effects and will run again.")
    schema = {
        "title": "Resume",
        "type": "object",
        "properties": {
            "checkpoint": {
                "title": "Continue from",
                "type": "string",
                "enum": choices,
                "default": LATEST,
            }
        },
    }
    return Form(schema, "\n\n".join(lines))


def chosen_checkpoint(answer: Any) -> str | None:
    """The id of the checkpoint that an answer names; None for the latest state.

    Raises:
        AnswerError: it is no answer to this form.
    """
    choice = answer.get("checkpoint", LATEST) if isinstance(answer, dict) else None
    if not isinstance(choice, str) or not choice:
        raise AnswerError("give {'checkpoint': 'latest'}, or the id of a checkpoint.")
    return None if choice == LATEST else choice.split()[0]


def describe(records: Iterable[Record]) -> str:
    """The names of recorded steps, in the order given, and which of them will be undone."""
    names = [f"{record.step}{' (will be undone)' if record.undo else ''}" for record in records]
    more = len(names) - _STEPS_NAMED
    return ", ".join(names[:_STEPS_NAMED]) + (f" and {more} more" if more > 0 else "")
