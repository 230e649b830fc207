"""The Resume form of a paused execution: where to continue from."""

from collections.abc import Callable
from typing import Any

from rich.filesize import decimal

from prefect_executions.errors import AnswerError
from prefect_executions.forgotten import counted, warning
from prefect_executions.ids import checkpoint_id, checkpoint_seq
from prefect_executions.log.journal import Record, forgotten
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import History
from prefect_executions.prefect.pauses import Form

LATEST = "latest"
CHOICES = 25  # how many of the newest checkpoints the form offers
REASON_LENGTH = 500
GOES_ON = Form({"type": "object", "properties": {}}, "Its process waits, and continues from here.")


def resume_form(history: History) -> Form:
    """The form, with the newest checkpoints to choose from, and the steps after each.

    Args:
        history: A history with at least the newest `CHOICES` checkpoints, and their journals.
    """
    choices = [LATEST]
    lines = ["Continue from the latest state, or roll back to an earlier checkpoint."]
    now = history.records(history.head.entry.seq)
    for entry in history.checkpoints()[:CHOICES]:
        name = checkpoint_id(entry.seq)
        label = f" · {entry.label}" if entry.label else ""
        choices.append(f"{name}{label} · {entry.at:%Y-%m-%d %H:%M:%S} UTC · {decimal(entry.size)}")
        if lost := forgotten(now, history.records(entry.seq)):
            lines.append(f"* `{name}`: {counted(lost)}")
    if len(lines) > 1:
        lines[0] += " These steps have happened after each:"
    schema = {
        "title": "Resume",
        "type": "object",
        "properties": {
            "checkpoint": {
                "title": "Continue from",
                "type": "string",
                "enum": choices,
                "default": LATEST,
            },
            "reason": {
                "title": "Reason",
                "description": "It is kept with a roll-back, and stands in the log of the run.",
                "type": "string",
                "maxLength": REASON_LENGTH,
            },
        },
    }
    return Form(schema, "\n\n".join(lines))


def chosen_checkpoint(answer: Any) -> str | None:
    """The id of the checkpoint that an answer names, or None for the latest state.

    Raises:
        AnswerError: The answer does not fit this form.
    """
    choice = answer.get("checkpoint", LATEST) if isinstance(answer, dict) else None
    if not isinstance(choice, str) or not choice:
        raise AnswerError("give {'checkpoint': 'latest'}, or the id of a checkpoint.")
    return None if choice == LATEST else choice.split()[0]


def go_back(log: ExecutionLog, answer: Any, tell: Callable[[str], object]) -> None:
    """Roll back to the checkpoint that was chosen in the form.

    Args:
        log: The log of the execution.
        answer: The answer to the form.
        tell: Called with each line for the run's log: the reason, the checkpoint, and the steps
            after it.

    Raises:
        AnswerError: The answer does not fit this form.
        CheckpointNotFound: There is no such checkpoint.
    """
    chosen = chosen_checkpoint(answer)
    given = answer.get("reason")
    reason = given if isinstance(given, str) else ""
    reason = reason.encode("utf-8", "replace").decode().strip()
    if reason:
        tell(f"Resumed, with the reason: {reason}")
    if chosen is None:
        return
    lost: list[Record] = []
    seq = checkpoint_seq(log.execution_id, chosen)
    log.rollback(seq, tell=lost.extend, reason=reason or None)
    tell(f"Going back to {chosen}.")
    if lost:
        tell(warning(chosen, lost))
